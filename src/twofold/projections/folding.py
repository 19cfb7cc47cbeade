"""Folding: what a batch of events makes of the rows that it touches."""

from __future__ import annotations

import asyncio
import copy
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from twofold.errors import InvalidProjectionError
from twofold.options import FoldOptions
from twofold.projections.keys.keyed_event import FailedEvent, KeyedEvent, LookupEvent, is_divided
from twofold.projections.keys.lookups import FittingRows
from twofold.projections.projection import Fold, KeyValues, Projection, nothing_returned
from twofold.projections.rows.owned_rows import OwnedFolds, plain
from twofold.tasks import PROCESS_EXITS


class Folded(NamedTuple):
    """What a batch of events makes of the rows that it touches."""

    rows: dict[KeyValues, Any]
    """The changed rows by key; None for one that is to be deleted."""
    failures: Sequence[FailedEvent] = ()


class Folding:
    """A fold of events over rows that can be interrupted after each event.

    Args:
        projection: whose methods fold.
        rows: the rows as they are before the events, by key; of rows that a `LookupEvent` may be about, all.
        is_due: whether a row with a key, as JSON, still lacks what a `LookupEvent` at a position does to it.
    """

    def __init__(
        self,
        projection: Projection[Any],
        rows: Mapping[KeyValues, Any],
        is_due: Callable[[str, int], bool] = lambda *_: True,
    ) -> None:
        self._projection = projection
        self._rows = rows
        self._is_due = is_due
        self._changed: dict[KeyValues, Any] = {}
        self._failures: list[FailedEvent] = []
        self._failed: set[KeyValues] = set()
        self._before_parts: tuple[int, dict[KeyValues, Any]] = (0, {})
        """A position whose event has become several, and the rows as they were before the first of these."""
        self._fitting: FittingRows | None = None
        self._indexed = 0
        """How many events have been folded by the time the index was made."""
        self._found: list[KeyedEvent] = []
        """The next event, if it is a `LookupEvent`, once for each of its rows."""
        self._taken = 0
        """How many of these are folded."""

    @property
    def folded(self) -> Folded:
        """What came of the events so far."""
        return Folded(self._changed, self._failures)

    def may_end(self, events: Sequence[KeyedEvent], count: int) -> bool:
        """Return whether the first events are folded whole, for all of their rows."""
        return count > 0 and not self._found and not is_divided(events, count)

    def take(self, events: Sequence[KeyedEvent], first: int = 0, seconds: float = math.inf) -> int:
        """Fold events in order, and return how many of them are folded by now.

        One that fails takes no effect, nor do the later ones of its row; nor do the earlier parts, for its row, of a
        stored event that upcasters have made several of.

        Args:
            events: all of them; each call takes some.
            first: how many of them were folded by earlier calls.
            seconds: begin with no further event after this time.
        """
        end = time.perf_counter() + seconds
        count = self._take(events, first, end)
        while count < len(events) and isinstance(lookup := events[count], LookupEvent):
            if not self._found:
                self._found = self._find(lookup, events[self._indexed : count])
                self._indexed, self._taken = count + 1, 0
            self._taken = self._take(self._found, self._taken, end)
            if self._taken < len(self._found):
                break
            self._index(self._found)
            self._found, count = [], count + 1
            if time.perf_counter() > end:
                break
            count = self._take(events, count, end)
        return count

    def _take(self, events: Sequence[KeyedEvent], first: int, end: float) -> int:
        """Fold events up to a `LookupEvent`, or until the time is over; return how many of all are folded."""
        rows, changed, failed, projection = self._rows, self._changed, self._failed, self._projection
        key_of, folds, clock, row = projection.key_of, _folds(projection), time.perf_counter, None
        for count, each in enumerate(events[first:] if first else events, first + 1):
            key, recorded = each.key, each.recorded
            if not key:
                return count - 1
            if failed and key in failed:
                self._failures.append(FailedEvent(each))
                continue
            try:
                row = changed[key] if key in changed else rows.get(key)
                if recorded.part:
                    self._note_before(key, row, recorded.position)
                row = folds[type(recorded.event)](projection, row, recorded)
                if row is not None and key_of(row) != key:
                    raise _other_key(projection, key, key_of(row))
                if row is None and projection.keeps_row(type(recorded.event)):
                    raise nothing_returned(projection, type(recorded.event))
                changed[key] = row
            except PROCESS_EXITS:
                raise
            except BaseException as error:  # the user's code; it is reported, retried, and never skipped
                if recorded.part:
                    self._undo_parts(key, recorded.position)
                self._failures.append(FailedEvent(each, _no_row(projection, each, row) or error))
                failed.add(key)
            if clock() > end:
                return count
        return len(events)

    def _note_before(self, key: KeyValues, row: Any, position: int) -> None:
        """Keep a row as it was before the first part of a stored event that changes it."""
        if self._before_parts[0] != position:
            self._before_parts = position, {}
        self._before_parts[1].setdefault(key, row)

    def _undo_parts(self, key: KeyValues, position: int) -> None:
        """Put a row back: its parts are parked together, and take effect together when they are retried."""
        at, before = self._before_parts
        if at == position and key in self._changed and key in before:
            self._changed[key] = before[key]

    def _find(self, event: LookupEvent, earlier: Sequence[KeyedEvent]) -> list[KeyedEvent]:
        """Return an event once for each row that it is about, and for those whose earlier events failed."""
        if self._fitting is None:
            self._fitting = FittingRows(self._projection)
            self._fitting.add(self._rows)
        self._index(earlier)
        keys = dict.fromkeys([*self._fitting.keys(event), *self._failed])
        found = [KeyedEvent(event.recorded, key) for key in keys]
        return [
            each for each in found if event.takes(text := each.text) and self._is_due(text, event.recorded.position)
        ]

    def _index(self, events: Iterable[KeyedEvent]) -> None:
        """Find rows as events have left them from now on."""
        assert self._fitting is not None  # noqa: S101
        self._fitting.add({each.key: self._changed[each.key] for each in events if each.key in self._changed})


def fold(projection: Projection[Any], rows: Mapping[KeyValues, Any], events: Sequence[KeyedEvent]) -> Folded:
    """Fold events over rows at once; see `Folding.take`."""
    folding = Folding(projection, rows)
    folding.take(events)
    return folding.folded


async def fold_in_slices(
    projection: Projection[Any],
    rows: Mapping[KeyValues, Any],
    events: Sequence[KeyedEvent],
    *,
    seconds: float = math.inf,
    moving: Callable[[], object] = lambda: None,
    options: FoldOptions = FoldOptions(),  # noqa: B008 - it is immutable
) -> tuple[Folded, int]:
    """Fold events over rows, and let other tasks run now and then.

    Args:
        projection: whose methods fold.
        rows: the rows as they are before the events, by key.
        events: in order.
        seconds: stop after this time.
        moving: called between two slices.
        options: how long a slice is.

    Returns:
        What came of the events that were folded, and how many those are.
    """
    folding, began = Folding(projection, rows), time.perf_counter()
    count = folding.take(events, 0, options.slice)
    while count < len(events) and (time.perf_counter() - began < seconds or not folding.may_end(events, count)):
        moving()
        await asyncio.sleep(options.pause)
        count = folding.take(events, count, options.slice)
    return folding.folded, count


def _no_row(projection: Projection[Any], event: KeyedEvent, returned: Any) -> InvalidProjectionError | None:
    """Return what is raised about a method that returned something else than a row; None if it did not."""
    row, cls = plain(returned), projection.row_type().cls
    if row is None or isinstance(row, (cls, tuple)):  # a group is a tuple of rows
        return None
    name = type(event.recorded.event).__name__
    return InvalidProjectionError(
        f"{projection.name}: the method for {name} returned an instance of {type(row).__name__}; let it return the "
        f"row, a {cls.__name__}"
    )


def _other_key(projection: Projection[Any], key: KeyValues, returned: KeyValues) -> InvalidProjectionError:
    return InvalidProjectionError(
        f"{projection.name}: the event is about the row {key!r}, its method returned the row {returned!r}; a row keeps "
        f"its key, and `key(event)` says which one it is"
    )


def _folds(projection: Projection[Any]) -> Mapping[type, Fold]:
    """Return what `Projection.apply` looks up for each event, or an `apply` of the projection's own for all of them."""
    apply = type(projection).apply
    folds = projection.folds_by_event() if apply is Projection.apply else defaultdict(lambda: apply)
    folds = OwnedFolds(folds) if projection._of_tenants else folds
    return _FoldsOfCopies(folds) if projection.row_type().copies else folds


class _FoldsOfCopies(dict[type, Fold]):
    """Folds over copies of rows: what a method changes in place, before it fails, must not be seen by the next one."""

    def __init__(self, folds: Mapping[type, Fold]) -> None:
        self._folds = folds

    def __missing__(self, event: type) -> Fold:
        fold = self._folds[event]
        self[event] = lambda projection, row, recorded: fold(projection, copy.deepcopy(row), recorded)
        return self[event]
