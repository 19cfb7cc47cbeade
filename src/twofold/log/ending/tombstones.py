"""Tombstones: a stream is ended for ever, and its events are removed.

1. A `StreamTombstoned` is appended behind the last event of the stream. From then on, it takes no more events, and to
   those who load it, it is as if it had never been.
2. The events before it are removed, the last one first, a slice at a time. What is left of each is its place (position,
   version, id, stream, time), whose it was, and a digest of what stood there. So a fold of the stream up to
   an earlier moment either has all events up to it, or finds that the stream is gone.
3. Snapshots are deleted that may hold what was removed, and files of the archive are written again without it.

Interrupted, it is completed when it is called again: the first event of a stream is the last to be removed, so that one
look tells whether anything is left.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import cast

import msgspec
from msgspec.structs import replace

from twofold.log.archiving.tidying import tidy_archives, unsettle_archives
from twofold.log.ending.appending import end_streams, slices
from twofold.log.ending.digests import as_removed
from twofold.messages.endings import TOMBSTONED, StreamTombstoned
from twofold.messages.stored_event import (
    REMOVED,
    StoredEvent,
    content_checksum,
    seal,
)
from twofold.messages.tenant_names import tenant_of, tenant_tag
from twofold.options import LogOptions
from twofold.ports.maintenance import PortableLog, Removal
from twofold.ports.snapshots import SnapshotLog


async def tombstone_streams(
    log: PortableLog,
    stream_ids: Sequence[str],
    *,
    reason: str,
    by: str,
    options: LogOptions,
    wanted: Callable[[StoredEvent], bool] = lambda _: True,
    ended: Callable[[int, int], object] = lambda *_: None,
) -> int:
    """End streams for ever, a few in one append, and remove their events; return how many events were removed.

    Streams that are tombstoned already are completed, and those that do not exist are left alone.

    Args:
        log: an open log.
        stream_ids: the names of the streams, as they are stored.
        reason: why; it is recorded.
        by: who asked for it; it is recorded.
        options: how much is done at once.
        wanted: whether a stream with this last event is to be ended.
        ended: told how many streams are tombstoned so far, and how many events of them are removed.

    Raises:
        ConflictError: others append to one of the streams all the while.
        StorageError: the database failed; call it again to go on.
    """

    def tombstone(end: StoredEvent, shown: str) -> StreamTombstoned:
        return StreamTombstoned(shown, end.stream_type, reason, by, end.version)

    streams = count = 0
    for part in slices(stream_ids, options.ended_at_once):
        ends, _ = await end_streams(log, part, tombstone, lambda end: end.type != TOMBSTONED and wanted(end), options)
        gone = [end for end in ends if end.type == TOMBSTONED]
        count += await _remove(log, gone, options)
        streams += len(gone)
        ended(streams, count)
    await tidy_archives(log, options=options)
    return count


async def _remove(log: PortableLog, ends: Sequence[StoredEvent], options: LogOptions) -> int:
    """Remove the events before some tombstones, and the snapshots; return how many events were removed."""
    stream_ids = [end.stream_id for end in ends]
    await unsettle_archives(log, stream_ids)
    count, waiting = 0, list[Removal]()
    for end in ends:
        async for removals in _removals(log, end, options.removed_at_once):
            waiting += removals
            if len(waiting) >= options.removed_at_once:
                await log.remove_events(waiting)
                count, waiting = count + len(waiting), []
    if waiting:
        await log.remove_events(waiting)
        count += len(waiting)
    await _delete_snapshots(log, stream_ids)
    return count


async def is_complete(log: PortableLog, stream_id: str) -> bool:
    """Return whether all events of a tombstoned stream are removed: its first one is the last to be."""
    first = await log.read_stream(stream_id, limit=1)
    return not first or first[0].type in (REMOVED, TOMBSTONED)


async def _removals(log: PortableLog, end: StoredEvent, most: int) -> AsyncIterator[list[Removal]]:
    """Iterate over what takes the place of the events before a tombstone, the last one first."""
    if await is_complete(log, end.stream_id):
        return
    version = end.version - 1
    while version > 0:
        after = max(version - most, 0)
        rows = await log.read_stream(end.stream_id, after=after, limit=version - after)
        yield [_removal(row) for row in reversed(rows) if row.type != REMOVED]
        version = after


def _removal(row: StoredEvent) -> Removal:
    tenant = tenant_of(row)
    kept = [tenant_tag(tenant)] if tenant else []
    tags, payload = msgspec.json.encode(kept), as_removed(row)
    bare = replace(row, type=REMOVED, schema_version=1, payload=payload, metadata=b"{}", tags=tags)
    checksum = seal(content_checksum(bare), row.position, row.version, row.recorded_at)
    gone = [tag for tag in dict.fromkeys(msgspec.json.decode(row.tags, type=list[str])) if tag not in kept]
    return Removal(row.position, row.checksum, payload, tags, checksum, gone)


async def _delete_snapshots(log: PortableLog, stream_ids: Sequence[str]) -> None:
    """Delete the states of streams, and those of all decisions, which may have been folded from events of these."""
    if not hasattr(log, "delete_snapshots"):
        return
    keeper = cast(SnapshotLog, log)
    for stream_id in stream_ids:
        await keeper.delete_snapshots(subject=stream_id)
    while found := await keeper.read_snapshots(after=("decision", ""), limit=1):
        if not found[0].fold.startswith("decision "):
            return
        await keeper.delete_snapshots(fold=found[0].fold)
