"""Folding a projection together with those that it reads: each event into all of them before the next one.

1. Each event is folded into the projections that are read, in the order of `reads`, then into the one that reads them.
2. A method asks for a row with `read`, and gets it as the events up to the one at hand have left it.
3. A row that is not loaded yet is noted as missing, and is None for this time: the runner loads all that is
   missing and folds again. The methods are pure, so that only the fold that misses nothing counts.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from twofold.errors import InvalidProjectionError
from twofold.messages.event import RecordedEvent
from twofold.projections.folding import Folded, Folding
from twofold.projections.keys.keyed_event import FailedEvent, KeyedEvent
from twofold.projections.keys.lookups import keyed_or_lookups
from twofold.projections.projection import KeyValues, Projection
from twofold.projections.rows.owned_rows import plain

Moment = Sequence[Sequence[KeyedEvent]]
"""What one event is to each of the projections: the rows that it is about, none if the projection does not take it."""


def joined(projection: Projection[Any]) -> list[Projection[Any]]:
    """Return the projections that are folded together, in the order in which they take an event."""
    parts = [*(each() for each in projection.reads), projection]
    for part in parts:
        part._of_tenants = projection._of_tenants
    return parts


def moment(parts: Sequence[Projection[Any]], recorded: RecordedEvent[Any]) -> Moment:
    """Return what an event is to each of the projections.

    Raises:
        Exception: whatever `key` of one raises.
    """
    cls = type(recorded.event)
    return [keyed_or_lookups(part, [recorded]) if cls in part.folds_by_event() else () for part in parts]


class JointFold:
    """A fold of events over the rows of several projections, of which the last reads the rows of the others.

    Args:
        parts: the projections, as `joined` returns them.
        rows: for each the rows as they are before the events, by key; None for one that is known not to be there.
        moments: the events, in order.
        is_complete: whether rows that are not among these are not there.
    """

    def __init__(
        self,
        parts: Sequence[Projection[Any]],
        rows: Sequence[Mapping[KeyValues, Any]],
        moments: Sequence[Moment],
        *,
        is_complete: bool = False,
    ) -> None:
        reader = copy.copy(parts[-1])
        reader._reads_row = self._read
        self._parts = [*parts[:-1], reader]
        self._rows = rows
        self._moments = moments
        self._is_complete = is_complete
        self._folds = [Folding(part, known) for part, known in zip(self._parts, rows, strict=True)]
        self._events: list[list[KeyedEvent]] = [[] for _ in parts]
        self._taken = [0] * len(parts)
        self._owner: tuple[str, ...] = ()
        self.missing: list[set[KeyValues]] = [set() for _ in parts]
        """For each projection the keys of the rows that were asked for, and of which it is not known what they are."""

    @property
    def folded(self) -> Sequence[Folded]:
        """What came of the events so far, for each projection."""
        return [fold.folded for fold in self._folds]

    @property
    def failures(self) -> Sequence[FailedEvent]:
        """The events that failed, in order; what waits behind them is not among them."""
        failed = [each for folded in self.folded for each in folded.failures if each.error is not None]
        return sorted(failed, key=lambda each: each.position)

    def take(self, count: int) -> None:
        """Fold the next event, which is that behind the first `count`, into all projections."""
        for place, events in enumerate(self._moments[count]):
            if events:
                recorded = events[0].recorded
                self._owner = (str(recorded.tenant),) if self._parts[place]._of_tenants else ()
                self._events[place] += events
                self._taken[place] = self._folds[place].take(self._events[place], self._taken[place])

    def _read(self, of: type[Projection[Any]], key: KeyValues) -> Any:
        """Return a row for the method that is folding an event."""
        *others, reading = self._parts
        place = next((place for place, part in enumerate(others) if type(part) is of), None)
        if place is None:
            raise InvalidProjectionError(f"{reading.name} does not read {of.__name__}; write reads = ({of.__name__},)")
        rows = others[place].row_type()
        key = (*self._owner, *rows.restored(rows.key, rows.dump_key(key)))
        changed, known = self._folds[place].folded.rows, self._rows[place]
        if key not in changed and key not in known and not self._is_complete:
            self.missing[place].add(key)
        row = plain(changed[key] if key in changed else known.get(key))
        return copy.deepcopy(row) if rows.copies else row


def fold_jointly(projection: Projection[Any], events: Sequence[RecordedEvent[Any]]) -> Folded:
    """Return the rows that events make of none, folded in memory, and the events that failed.

    Raises:
        Exception: whatever `key` of a projection raises.
    """
    parts = joined(projection)
    taken = [each for each in events if type(each.event) in projection.handles()]
    fold = JointFold(parts, [{} for _ in parts], [moment(parts, each) for each in taken], is_complete=True)
    for count in range(len(taken)):
        fold.take(count)
    return Folded(fold.folded[-1].rows, fold.failures)
