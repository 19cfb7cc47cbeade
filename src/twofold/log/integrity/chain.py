"""A chain of hashes over the events of a log: what was forged is found, also if its checksum was forged with it.

The checksums of events find what breaks by itself. They are no secret: who can write to the database can write a
checksum that fits. An anchor is the end of a chain of hashes over all events up to a position. It is small, and is kept
where those who can write to the database cannot write.

1. The chain begins with the log's id. Each event adds the BLAKE2b hash of the chain before it and of what is covered.
2. An anchor goes on from the last one, so it reads only what was appended since. Appends cost nothing more.
3. A verification reads the log from its beginning and compares the chain at each anchor. Where one differs, it goes on
   from what the anchor says: so each stretch between two anchors is judged by itself.

Covered is all that an event was appended with, and its place: position, version, recorded time, stream, type, schema
version, id, payload, metadata. What is chained is the hash of that, which stays when an event of a tombstoned stream is
removed: so anchors hold before and after. Not covered are its tags, which follow from the payload and may be added to,
and the checksum over these; nor the records of commands and the snapshots, which may be deleted.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from hashlib import blake2b

import msgspec

from twofold.errors import HistoryChangedError, StorageError
from twofold.log.chunks import pace_of_all, scan_chunks
from twofold.log.ending.digests import digest_of, removed_digest
from twofold.log.integrity.damage import Damage
from twofold.messages.event_query import EventQuery
from twofold.messages.mark import Mark
from twofold.messages.stored_event import REMOVED, StoredEvent
from twofold.options import LogOptions
from twofold.ports.event_log import EventLog


class Anchor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The end of the chain at a position. stored: change it with care."""

    log: str
    """The id of the log, as hexadecimal digits."""
    position: int
    event: str
    """The id of the event there."""
    digest: str
    """The chain up to and with that event."""
    anchored_at: str
    """By the clock of the process that made it."""


async def new_anchors(
    log: EventLog,
    last: Anchor | None,
    every: int,
    *,
    reached: Callable[[int, int], object] = lambda *_: None,
    options: LogOptions | None = None,
) -> AsyncGenerator[Anchor]:
    """Iterate over the anchors behind the last one: one after each `every` events, and one at the head.

    Raises:
        HistoryChangedError: the log is another one than that of the last anchor, or lacks events that it covers.
        StorageError: the database failed.
    """
    log_id = await _log_id(log)
    place = Mark(last.position, bytes.fromhex(last.event)) if last else Mark(0, log_id)
    if last and last.log != log_id.hex():
        raise HistoryChangedError(Mark(0, bytes.fromhex(last.log)), Mark(0, log_id), await log.head())
    link, head = bytes.fromhex(last.digest) if last else beginning(log_id), await log.head()
    async with aclosing(_rows(log, place, head, options)) as rows:
        async for row in rows:
            link = linked(link, row)
            if (row.position - place.position) % every == 0 or row.position == head:
                yield Anchor(
                    log=log_id.hex(), position=row.position, event=row.event_id.hex(), digest=link.hex(),
                    anchored_at=datetime.now(UTC).isoformat(timespec="seconds"),
                )  # fmt: skip
                reached(row.position, head)


async def differing(
    log: EventLog,
    anchors: Sequence[Anchor],
    *,
    reached: Callable[[int, int], object] = lambda *_: None,
    options: LogOptions | None = None,
) -> AsyncGenerator[Damage]:
    """Compare the log with anchors, and iterate over the stretches that are not what was anchored.

    Args:
        log: the log.
        anchors: in the order of their positions.
        reached: told the position of each anchor, and the last one.
        options: how large a chunk is.

    Raises:
        StorageError: the database failed.
    """
    log_id = await _log_id(log)
    for other in [each for each in anchors if each.log != log_id.hex()][:1]:
        text = f"the anchor at position {other.position} is of the log {other.log}, this one is {log_id.hex()}"
        yield Damage("anchor", f"the log {log_id.hex()}", StorageError(text))
        return
    waiting, link, before = list(anchors), beginning(log_id), 0
    end = anchors[-1].position if anchors else 0
    async with aclosing(_rows(log, Mark(), end, options)) as rows:
        async for row in rows:
            while waiting and row.position > waiting[0].position:  # no event stands where it was made
                yield _changed(before + 1, anchor := waiting.pop(0))
                link, before = bytes.fromhex(anchor.digest), anchor.position
            link = linked(link, row)
            if waiting and row.position == waiting[0].position:
                anchor = waiting.pop(0)
                if link.hex() != anchor.digest:
                    yield _changed(before + 1, anchor)
                link, before = bytes.fromhex(anchor.digest), anchor.position
                reached(before, end)
    for anchor in waiting:
        yield _changed(before + 1, anchor)
        before = anchor.position


def beginning(log_id: bytes) -> bytes:
    """Return what the chain of a log begins with. stored: change it with care."""
    return blake2b(log_id, digest_size=32).digest()


def linked(link: bytes, row: StoredEvent) -> bytes:
    """Return the chain with one more event. stored: change it with care."""
    return blake2b(link + (removed_digest(row) if row.type == REMOVED else digest_of(row)), digest_size=32).digest()


async def _rows(log: EventLog, after: Mark, end: int, options: LogOptions | None) -> AsyncGenerator[StoredEvent]:
    options = options or LogOptions()
    pace = pace_of_all(options)
    async with aclosing(scan_chunks(log, EventQuery.all(), after, end, pace)) as all_chunks:
        async for rows in all_chunks:
            for row in rows:
                yield row


async def _log_id(log: EventLog) -> bytes:
    mark = await log.mark(0)
    assert mark is not None  # noqa: S101 - each log has an id
    return mark.event_id


def _changed(first: int, anchor: Anchor) -> Damage:
    where = f"position {first}" if first == anchor.position else f"positions {first} to {anchor.position}"
    text = (
        f"{where}: the events are not those that were anchored at {anchor.anchored_at}; an event there was changed, "
        f"removed, added or moved; compare them with a backup of that time"
    )
    return Damage("anchor", where, StorageError(text))
