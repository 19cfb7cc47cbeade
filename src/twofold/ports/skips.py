"""Skips: the events that operators have left out of a read model for ever, told from others at their positions."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Protocol, TypeVar
from uuid import UUID

log = logging.getLogger(__name__)


class Stored(Protocol):
    """An event as the log has it."""

    @property
    def position(self) -> int:
        """Where it stands."""

    @property
    def event_id(self) -> bytes:
        """Which one it is."""


E = TypeVar("E", bound=Stored)


class Skips:
    """The skips of one read model, or some of them.

    A skip names its event by id: after a restore of the log another one may stand at its position, which is folded.

    Args:
        name: the read model.
        rows: the position and the event's id of each, and the key of the row for which it is skipped, empty if for
            all rows, as `checkpoints.sql` reads them.
    """

    def __init__(self, name: str, rows: Iterable[tuple[Any, ...]] = ()) -> None:
        self._name = name
        self._ids: dict[int, bytes] = {}
        self._keys: dict[int, set[str]] = {}
        for position, text, key in rows:
            self._ids[position] = bytes.fromhex(text)
            self._keys.setdefault(position, set()).add(key)

    def without(self, events: Sequence[E]) -> Sequence[E]:
        """Return the events that are folded for any row, and tell of a skip whose position another event has."""
        return [each for each in events if not self._holds(each)] if self._ids else events

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._ids)

    def keys_of(self, event: Stored) -> Collection[str]:
        """Return the keys of the rows for which alone an event is skipped."""
        return self._keys[event.position] if self._ids.get(event.position) == event.event_id else ()

    def _holds(self, event: Stored) -> bool:
        if (event_id := self._ids.get(event.position)) is None:
            return False
        if event_id != event.event_id:
            log.warning(
                "%s does not skip event %d: the skip is of event %s, and the log has %s there by now; skip that one "
                "if it is to be left out, too", self._name, event.position, UUID(bytes=event_id),
                UUID(bytes=event.event_id),
            )  # fmt: skip
        return event_id == event.event_id and "" in self._keys[event.position]
