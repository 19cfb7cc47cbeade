"""Folding: events with the keys of their rows, and what a batch of them makes of the rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from twofold.errors import InvalidProjectionError
from twofold.messages.event import RecordedEvent
from twofold.ports.segments import Parked
from twofold.projections.failure import described
from twofold.projections.projection import Fold, KeyValues, Projection
from twofold.tasks import PROCESS_EXITS

_encode = msgspec.json.Encoder(order="deterministic").encode


class KeyedEvent(msgspec.Struct, frozen=True, gc=False, eq=False):
    """An event and the key of the row that it is about."""

    recorded: RecordedEvent[Any]
    key: KeyValues

    @property
    def text(self) -> str:
        """The key as JSON."""
        return key_text(self.key)


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
        return Parked(self.position, self.keyed.text, *described(self.error))


class Folded(NamedTuple):
    """What a batch of events makes of the rows that it touches."""

    rows: dict[KeyValues, Any]
    """The changed rows by key; None for one that is to be deleted."""
    failures: Sequence[FailedEvent] = ()


def key_text(key: KeyValues) -> str:
    """Return a key as JSON. stored: version with care."""
    return _encode(key).decode()


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


def fold(projection: Projection[Any], rows: Mapping[KeyValues, Any], events: Sequence[KeyedEvent]) -> Folded:
    """Fold events over rows, in order. One that fails takes no effect, nor do the later ones of its row."""
    changed: dict[KeyValues, Any] = {}
    failures: list[FailedEvent] = []
    failed: set[KeyValues] = set()
    key_of, folds = projection.key_of, _folds(projection)
    for each in events:
        key, recorded = each.key, each.recorded
        if failed and key in failed:
            failures.append(FailedEvent(each))
            continue
        try:
            row = changed[key] if key in changed else rows.get(key)
            row = folds[type(recorded.event)](projection, row, recorded)
            if row is not None and key_of(row) != key:
                raise InvalidProjectionError(
                    f"{projection.name}: the event is about the row {key!r}, its method returned the row "
                    f"{key_of(row)!r}; a row keeps its key, and `key(event)` says which one it is"
                )
            changed[key] = row
        except PROCESS_EXITS:
            raise
        except BaseException as error:  # the user's code; it is reported, retried, and never skipped
            failures.append(FailedEvent(each, error))
            failed.add(key)
    return Folded(changed, failures)


def _folds(projection: Projection[Any]) -> Mapping[type, Fold]:
    """Return what `Projection.apply` looks up for each event, or an `apply` of the projection's own for all of them."""
    apply = type(projection).apply
    return projection.folds_by_event() if apply is Projection.apply else defaultdict(lambda: apply)
