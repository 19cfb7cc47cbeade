"""Folding: events with the keys of their rows, and what a batch of them makes of the rows."""

from __future__ import annotations

import asyncio
import copy
import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from twofold.errors import InvalidProjectionError
from twofold.messages.event import RecordedEvent
from twofold.options import FoldOptions
from twofold.ports.segments import Parked
from twofold.projections.failure import described
from twofold.projections.projection import Fold, KeyValues, Projection
from twofold.tasks import PROCESS_EXITS

_VARIANTS = {datetime, Decimal}
_encode = msgspec.json.Encoder(order="deterministic").encode


class KeyedEvent(msgspec.Struct, frozen=True, gc=False, eq=False):
    """An event and the key of the row that it is about."""

    recorded: RecordedEvent[Any]
    key: KeyValues

    @property
    def text(self) -> str:
        """The key as JSON."""
        return key_text(self.key)

    def parked(self, cause: str = "", traceback: str = "") -> Parked:
        """Return what is stored of it while it is parked; without a cause, it waits behind an earlier one."""
        stored = self.recorded.stored
        return Parked(stored.position, self.text, stored.event_id.hex(), cause, traceback)


class FailedEvent(NamedTuple):
    """An event that took no effect: it failed, or (without an error) it waits behind one of its row that did."""

    keyed: KeyedEvent
    error: BaseException | None = None

    @property
    def position(self) -> int:
        """Where the event stands in the log."""
        return self.keyed.recorded.position

    def parked(self) -> Parked:
        """Return what is stored of it."""
        return self.keyed.parked(*described(self.error))


class Folded(NamedTuple):
    """What a batch of events makes of the rows that it touches."""

    rows: dict[KeyValues, Any]
    """The changed rows by key; None for one that is to be deleted."""
    failures: Sequence[FailedEvent] = ()


def key_text(key: KeyValues) -> str:
    """Return a key as JSON. stored: version with care."""
    if _VARIANTS & set(map(type, key)):
        key = tuple(_plain(each) for each in key)
    return _encode(key).decode()


def _plain(value: Any) -> Any:
    """Return the one way to write a value of which equal ones can be written in several ways."""
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    return value.normalize() if isinstance(value, Decimal) else value


def keys_of(projection: Any, events: Sequence[RecordedEvent[Any]]) -> list[KeyValues]:
    """Return the key of each event, as the projection's `key` gives it.

    Raises:
        Exception: whatever `key` raises.
    """
    keys = [projection.key(recorded.event) for recorded in events]
    return [key if type(key) is tuple else (key,) for key in keys]


def keyed(projection: Any, events: Sequence[RecordedEvent[Any]]) -> list[KeyedEvent]:
    """Return events with their keys; raises what `keys_of` raises."""
    return list(map(KeyedEvent, events, keys_of(projection, events)))


class Folding:
    """A fold of events over rows that can be interrupted after each event.

    Args:
        projection: whose methods fold.
        rows: the rows as they are before the events, by key.
    """

    def __init__(self, projection: Projection[Any], rows: Mapping[KeyValues, Any]) -> None:
        self._projection = projection
        self._rows = rows
        self._changed: dict[KeyValues, Any] = {}
        self._failures: list[FailedEvent] = []
        self._failed: set[KeyValues] = set()

    @property
    def folded(self) -> Folded:
        """What came of the events so far."""
        return Folded(self._changed, self._failures)

    def take(self, events: Sequence[KeyedEvent], first: int = 0, seconds: float = math.inf) -> int:
        """Fold events in order, and return how many of them are folded by now.

        One that fails takes no effect, nor do the later ones of its row.

        Args:
            events: all of them; each call takes some.
            first: how many of them were folded by earlier calls.
            seconds: begin with no further event after this time.
        """
        rows, changed, failed, projection = self._rows, self._changed, self._failed, self._projection
        key_of, folds, clock = projection.key_of, _folds(projection), time.perf_counter
        end = clock() + seconds
        for count, each in enumerate(events[first:] if first else events, first + 1):
            key, recorded = each.key, each.recorded
            if failed and key in failed:
                self._failures.append(FailedEvent(each))
                continue
            try:
                row = changed[key] if key in changed else rows.get(key)
                row = folds[type(recorded.event)](projection, row, recorded)
                if row is not None and key_of(row) != key:
                    raise _other_key(projection, key, key_of(row))
                if row is None and projection.keeps_row(type(recorded.event)):
                    raise _nothing_returned(projection, recorded)
                changed[key] = row
            except PROCESS_EXITS:
                raise
            except BaseException as error:  # the user's code; it is reported, retried, and never skipped
                self._failures.append(FailedEvent(each, error))
                failed.add(key)
            if clock() > end:
                return count
        return len(events)


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
    while count < len(events) and time.perf_counter() - began < seconds:
        moving()
        await asyncio.sleep(options.pause)
        count = folding.take(events, count, options.slice)
    return folding.folded, count


def _other_key(projection: Projection[Any], key: KeyValues, returned: KeyValues) -> InvalidProjectionError:
    return InvalidProjectionError(
        f"{projection.name}: the event is about the row {key!r}, its method returned the row {returned!r}; a row keeps "
        f"its key, and `key(event)` says which one it is"
    )


def _nothing_returned(projection: Projection[Any], recorded: RecordedEvent[Any]) -> InvalidProjectionError:
    return InvalidProjectionError(
        f"{projection.name}: the method for {type(recorded.event).__name__} says that it returns a row, and returned "
        f"None, which deletes it; add the missing `return`, or declare `-> … | None`"
    )


def _folds(projection: Projection[Any]) -> Mapping[type, Fold]:
    """Return what `Projection.apply` looks up for each event, or an `apply` of the projection's own for all of them."""
    apply = type(projection).apply
    folds = projection.folds_by_event() if apply is Projection.apply else defaultdict(lambda: apply)
    return _FoldsOfCopies(folds) if projection.row_type().copies else folds


class _FoldsOfCopies(dict[type, Fold]):
    """Folds over copies of rows: what a method changes in place, before it fails, must not be seen by the next one."""

    def __init__(self, folds: Mapping[type, Fold]) -> None:
        self._folds = folds

    def __missing__(self, event: type) -> Fold:
        fold = self._folds[event]
        self[event] = lambda projection, row, recorded: fold(projection, copy.deepcopy(row), recorded)
        return self[event]
