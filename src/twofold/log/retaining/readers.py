"""What holds retention up: projections, reactions and processes that have not read a stream, or parked events of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from twofold.log.chunks import event_at
from twofold.messages.stored_event import StoredEvent
from twofold.ports.checkpoints import SQL
from twofold.ports.event_log import EventLog
from twofold.ports.read_database import ReadDatabase


@dataclass(frozen=True)
class Readers:
    """How far each consumer has read, and of which streams events are parked."""

    positions: Sequence[tuple[str, int]] = ()
    """The names of consumers, and how far they have come."""
    parked: dict[str, str] = field(default_factory=dict)
    """Streams of which events are parked, and by whom."""

    def hold_up(self, end: StoredEvent) -> str:
        """Return why events of a stream must not be removed yet; empty: they may be."""
        for name, position in self.positions:
            if position < end.position:
                return f"{name} has not read so far"
        parked_by = self.parked.get(end.stream_id)
        return f"{parked_by} has parked events" if parked_by else ""


async def readers_of(log: EventLog, databases: Sequence[ReadDatabase], may_miss: Collection[str] = ()) -> Readers:
    """Return what is known of all consumers, but for those that may miss events.

    Raises:
        StorageError: a database failed.
    """
    positions, parked = list[tuple[str, int]](), dict[str, str]()
    for database in databases:
        for name, _, position in await database.query(SQL["answering"]):
            if name not in may_miss:
                positions.append((name, position))
        for name, position in await database.query(SQL["parked_positions"]):
            if name not in may_miss and (event := await event_at(log, position)) is not None:
                parked.setdefault(event.stream_id, name)
    return Readers(sorted(positions, key=lambda each: each[1]), parked)
