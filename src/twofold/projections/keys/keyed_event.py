"""Events with the keys of the rows that they are about: one key, several, or those that a value finds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from twofold.errors import InvalidProjectionError
from twofold.messages.event import RecordedEvent
from twofold.messages.tenant_names import TENANT_COLUMN
from twofold.ports.segments import Parked
from twofold.ports.skips import Skips
from twofold.projections.failure import described
from twofold.projections.projection import KeyValues

_SEVERAL = frozenset({list, set, frozenset})
"""The types of what `key` returns for several rows; a tuple is one key of several fields."""
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


class LookupEvent(KeyedEvent, frozen=True, gc=False, eq=False):
    """An event that is about each row that fits it, as the rows are right before it. Its own key is empty."""

    fields: tuple[str, ...]
    """Of the rows."""
    values: tuple[Any, ...]
    """What they hold in the rows that fit."""
    without: frozenset[str] = frozenset()
    """Keys of rows, as JSON, that do not take it now, or never."""

    def takes(self, key: str) -> bool:
        """Return whether a row with this key, as JSON, takes the event if it fits: with tenants, one of its own."""
        if self.fields[0] == TENANT_COLUMN and not key.startswith(f'["{self.values[0]}"'):
            return False
        return key not in self.without

    def but(self, keys: Iterable[str]) -> LookupEvent:
        """Return it without some more rows."""
        return msgspec.structs.replace(self, without=self.without.union(keys))


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


def keyed(projection: Any, events: Sequence[RecordedEvent[Any]]) -> list[KeyedEvent]:
    """Return events with their keys, as the projection's `key` gives them; one with several keys comes once for each.

    Raises:
        Exception: whatever `key` raises.
    """
    return _owned(projection, _keyed(projection, events))


def owned_key(recorded: RecordedEvent[Any], key: KeyValues) -> KeyValues:
    """Return the key within the framework of a row that an event is about, in an application with tenants."""
    return (recorded.tenant, *key)


def _keyed(projection: Any, events: Sequence[RecordedEvent[Any]]) -> list[KeyedEvent]:
    keys = [projection.key(recorded.event) for recorded in events]
    if _SEVERAL.isdisjoint(map(type, keys)):
        return list(map(KeyedEvent, events, map(_as_tuple, keys)))
    found: list[KeyedEvent] = []
    for recorded, key in zip(events, keys, strict=True):
        its = [_as_tuple(each) for each in key] if type(key) in _SEVERAL else [_as_tuple(key)]
        each_once = {key_text(each): each for each in its}.values()  # keys of rows are equal if they are written alike
        found += [KeyedEvent(recorded, each) for each in each_once]
    return found


def without_skipped(found: Sequence[KeyedEvent], skips: Skips) -> Sequence[KeyedEvent]:
    """Return keyed events without those that their rows skip.

    An event with one key is skipped whole, even if other code gives it another key than it had.

    Args:
        found: each event with all of its keys.
        skips: the decisions.
    """
    if not skips:
        return found
    counts, kept = Counter(each.recorded.position for each in found), list[KeyedEvent]()
    for each in found:
        keys = skips.keys_of(each.recorded.stored)
        if isinstance(each, LookupEvent):
            kept.append(each.but(keys) if keys else each)
        elif not keys or (counts[each.recorded.position] > 1 and each.text not in keys):
            kept.append(each)
    return kept


def without_blocked(found: Iterable[KeyedEvent], blocked: Collection[str]) -> tuple[list[KeyedEvent], list[Parked]]:
    """Return the events of rows that have no parked ones, and what waits behind those of others.

    Whether a row with parked events fits a `LookupEvent` is known only when these are folded: until then it waits.

    Args:
        found: events.
        blocked: the keys of rows with parked events, as JSON.
    """
    own, waiting = list[KeyedEvent](), list[Parked]()
    for each in found:
        if isinstance(each, LookupEvent):
            own.append(each.but(blocked) if blocked else each)
            stored = each.recorded.stored
            waiting += [Parked(stored.position, key, stored.event_id.hex()) for key in blocked if each.takes(key)]
        elif each.text in blocked:
            waiting.append(each.parked())
        else:
            own.append(each)
    return own, waiting


def is_divided(events: Sequence[KeyedEvent], place: int) -> bool:
    """Return whether what stands at one position of the log goes on at a place: an event for several rows, or parts."""
    return 0 < place < len(events) and (
        events[place - 1].recorded.stored.position == events[place].recorded.stored.position
    )


def start_of_event(events: Sequence[KeyedEvent], place: int) -> int:
    """Return where to divide events so that no position is divided: near a place, 0 if there is only one."""
    before, after = place, max(place, 1)
    while is_divided(events, before):
        before -= 1
    while is_divided(events, after):
        after += 1
    return before or (after if after < len(events) else 0)


def keyed_once(projection: Any, events: Sequence[RecordedEvent[Any]]) -> list[KeyedEvent]:
    """Return events with their keys for code that takes each event once; raises what `keyed` raises.

    Raises:
        InvalidProjectionError: `key` returns several keys.
    """
    keys = [projection.key(recorded.event) for recorded in events]
    for recorded, key in zip(events, keys, strict=True):
        if type(key) in _SEVERAL:
            raise InvalidProjectionError(
                f"{projection.name}: {type(recorded.event).__name__} is applied once, so that it has one key; let "
                f"key() return a value or a tuple"
            )
    return _owned(projection, list(map(KeyedEvent, events, map(_as_tuple, keys))))


def _owned(projection: Any, found: list[KeyedEvent]) -> list[KeyedEvent]:
    """Return keyed events with the keys within the framework."""
    if not projection._of_tenants:
        return found
    return [KeyedEvent(each.recorded, owned_key(each.recorded, each.key)) for each in found]


def _as_tuple(key: Any) -> KeyValues:
    return key if type(key) is tuple else (key,)
