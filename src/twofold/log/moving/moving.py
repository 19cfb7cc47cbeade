"""Moves events from a source into a log: the one flow of copies that change events and of imports from other stores.

1. The source gives its events in order, a chunk at a time, from the first on: also where an interrupted run goes on.
2. `Transforming` makes the rows of the target of them.
3. Rows that the target holds already are compared; the rest is stored while the next chunk is prepared.
4. What was stored is read again, and its digest compared with that of the rows.

So no state of an interrupted run is trusted, and a transform may keep what it has seen.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from hashlib import blake2b
from typing import NamedTuple, Protocol

import msgspec

from twofold.errors import LogsDifferError
from twofold.log.moving.plain_event import SourceEvent
from twofold.log.moving.transforming import Transforming
from twofold.log.transfer.restoring import Restoring
from twofold.log.verify import Progress, verified
from twofold.messages.event_query import EventQuery
from twofold.messages.stored_event import StoredEvent
from twofold.options import LogOptions
from twofold.ports.maintenance import PortableLog

_encode = msgspec.msgpack.Encoder().encode
_OTHER = "the target holds another event there than what the source becomes now"


class EventSource(Protocol):
    """Events to be moved."""

    async def end(self) -> int:
        """Return the position of the last event, 0 if there is none.

        Raises:
            StorageError: the store failed.
        """

    def chunks(self, end: int) -> AsyncGenerator[Sequence[SourceEvent]]:
        """Iterate over the events from the first one up to a position, in order; no chunk is empty.

        Raises:
            StorageError: the store failed, or an event is missing.
            CorruptEventError: an event does not match its checksum.
            ForeignEventError: a row cannot be understood.
        """


class Stored(NamedTuple):
    """Rows that stand in the target."""

    last: int
    already: int
    digest: str


async def move(
    source: EventSource,
    end: int,
    target: PortableLog,
    transforming: Transforming,
    progress: Progress,
    options: LogOptions,
) -> Stored:
    """Store what the events of a source become.

    Args:
        source: the events.
        end: the position up to which they are moved.
        target: where to: empty, or with what an earlier run has stored.
        transforming: makes rows of them.
        progress: told how far it has come.
        options: how much is read at once.

    Raises:
        LogsDifferError: the target holds other events, or another program writes to it.
        TransformFailedError: see `Transforming.rows`.
        StorageError, CorruptEventError, ForeignEventError: as `EventSource.chunks`.
    """
    already, last, made = await target.head(), 0, blake2b(digest_size=16)
    stored = made.copy()
    reached = 0
    async with (
        Restoring(target, lambda _: progress("moving", reached, end)) as restoring,
        aclosing(source.chunks(end)) as chunks,
    ):
        async for events in chunks:
            rows = transforming.rows(events)
            known = max(min(already - last, len(rows)), 0)
            await _compare(target, rows[:known])
            _add(stored, rows[:known])
            _add(made, rows)
            reached, last = events[-1].position, last + len(rows)
            if known < len(rows):
                await restoring.store(rows[known:])
            progress("moving", reached, end)
    if already > last:
        raise LogsDifferError(last + 1, "the target goes on where the source ends")
    await _read_again(target, already, last, stored, progress, options)
    if stored.digest() != made.digest() or await target.head() != last:
        raise LogsDifferError(last, "what was stored is not what was read from the source")
    return Stored(last, already, made.hexdigest())


async def preview(source: EventSource, end: int, transforming: Transforming, progress: Progress) -> None:
    """Do what `move` does, and store nothing; raises what `move` does."""
    async with aclosing(source.chunks(end)) as chunks:
        async for events in chunks:
            transforming.rows(events)
            progress("reading", events[-1].position, end)


async def _compare(target: PortableLog, rows: Sequence[StoredEvent]) -> None:
    """Make sure that the target holds rows that an earlier run has stored."""
    if not rows:
        return
    first, last = rows[0].position, rows[-1].position
    there = await target.read(EventQuery.all(), after=first - 1, before=last + 1, limit=len(rows))
    if list(there) != list(rows):
        pairs = zip(rows, there, strict=False)
        raise LogsDifferError(next((row.position for row, other in pairs if row != other), last), _OTHER)


async def _read_again(
    target: PortableLog, already: int, last: int, stored: blake2b, progress: Progress, options: LogOptions
) -> None:
    async with aclosing(verified(target, last, after=already, options=options)) as chunks:
        async for rows in chunks:
            _add(stored, rows)
            progress("comparing", rows[-1].position, last)


def _add(digest: blake2b, rows: Sequence[StoredEvent]) -> None:
    digest.update(b"".join(map(_encode, rows)))
