"""Appending the events with which streams end, a few streams in one append, on the log itself.

It knows no classes of events and no tenant in whose name it runs: whose a stream is says its last event.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from msgspec.structs import replace

from twofold.errors import ConflictError
from twofold.log.codec.event_types import encode_metadata
from twofold.messages.context import current_metadata
from twofold.messages.endings import StreamClosed, StreamTombstoned, is_ended
from twofold.messages.event import event_type_of
from twofold.messages.ids import new_event_ids
from twofold.messages.stored_event import EventNames, NewEvent, StoredEvent, covered_names, new_event
from twofold.messages.tenant_names import shown_stream, tenant_of, tenant_tag
from twofold.options import LogOptions
from twofold.ports.event_log import Append, Appended
from twofold.ports.maintenance import PortableLog

Ending = StreamClosed | StreamTombstoned
MakeEnding = Callable[[StoredEvent, str], Ending]
"""Makes the last event of a stream, given the one before it, and the name of the stream as its application knows it."""


async def close_streams(
    log: PortableLog,
    stream_ids: Sequence[str],
    *,
    reason: str,
    by: str,
    options: LogOptions,
    wanted: Callable[[StoredEvent], bool] = lambda _: True,
    ended: Callable[[int], object] = lambda _: None,
) -> int:
    """Close streams that are not closed yet, a few in one append; return how many were.

    Args:
        log: an open log.
        stream_ids: the names of the streams, as they are stored. Those that do not exist are left alone.
        reason: why; it is recorded.
        by: who closes them; it is recorded.
        options: how many are closed in one append.
        wanted: whether a stream with this last event is to be closed.
        ended: told after each append how many are closed so far.

    Raises:
        ConflictError: others append to one of the streams all the while.
        StorageError: the database failed; call it again to go on.
    """

    def closing(end: StoredEvent, shown: str) -> StreamClosed:
        return StreamClosed(shown, end.stream_type, reason, by)

    count = 0
    for part in slices(stream_ids, options.ended_at_once):
        _, closed = await end_streams(log, part, closing, lambda end: wanted(end) and not is_ended(end), options)
        count += closed
        ended(count)
    return count


async def end_streams(
    log: PortableLog,
    stream_ids: Sequence[str],
    make: MakeEnding,
    wanted: Callable[[StoredEvent], bool],
    options: LogOptions,
) -> tuple[Sequence[StoredEvent], int]:
    """Append endings, in one append, to the streams whose last events are such that it is wanted.

    Returns:
        The last events of all streams, and how many endings were appended.

    Raises:
        ConflictError: others append to one of the streams all the while.
        StorageError: the database failed; call it again to go on.
    """
    living = list[StoredEvent]()
    for _ in range(options.record_attempts):
        ends = await log.find_stream_ends(stream_ids)
        if not (living := [end for end in ends if wanted(end)]):
            return ends, 0
        new = tuple(_encoded(end, make) for end in living)
        outcome = await log.append(Append(new, tuple((end.stream_id, end.version) for end in living)))
        if isinstance(outcome, Appended):
            return await log.find_stream_ends(stream_ids), len(living)
    raise ConflictError(f"others append to {living[0].stream_id!r} all the while, so that it was not ended")


def slices(stream_ids: Sequence[str], most: int) -> list[Sequence[str]]:
    """Return the streams that are ended together."""
    return [stream_ids[start : start + most] for start in range(0, len(stream_ids), most)]


def _encoded(end: StoredEvent, make: MakeEnding) -> NewEvent:
    tenant = tenant_of(end)
    tags = (tenant_tag(tenant),) if tenant else ()
    event = make(end, shown_stream(end.stream_id, tags))
    names = EventNames(end.stream_id, end.stream_type, event_type_of(type(event)).name, 1)
    metadata = current_metadata()
    metadata = replace(metadata, tenant=tenant or metadata.tenant)
    [event_id] = new_event_ids(1)
    return new_event(names, covered_names(names), event_id, msgspec.json.encode(event), encode_metadata(metadata), tags)
