"""Adds to old events the tags that their class declares today, chunk by chunk, while applications write on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple, cast

import msgspec
from msgspec.structs import replace

from twofold.errors import TagsMissingError, UnknownTypeError
from twofold.log.codec.payload import PayloadCodec
from twofold.log.event_store import EventStore
from twofold.log.tagged_types import as_tags, as_text
from twofold.log.verify import Progress, no_progress
from twofold.messages.event import RecordedEvent
from twofold.messages.event_query import EventQuery
from twofold.messages.stored_event import StoredEvent, content_checksum, seal
from twofold.messages.tenant_names import own_name
from twofold.ports.maintenance import PortableLog, TagChange


class AddedTags(NamedTuple):
    """What came of adding tags, or what would come of it."""

    events: int
    """Events of the type."""
    lacking: int
    """Those of them that lacked tags of their class."""
    first: int
    """The position of the first one of these; 0 if there is none."""
    tags: Sequence[str]
    """The tags that this one lacked."""


async def add_tags(
    store: EventStore, type_name: str, *, write: bool = False, progress: Progress = no_progress
) -> AddedTags:
    """Give all stored events of a type the tags that its class declares, and record that they carry them.

    Only ever adds: tags that the class no longer declares stay. Applications may write and read on: each chunk is one
    short transaction. Interrupted, it is run again: events that have their tags are not written again. Events that a
    process with an older class appends afterwards lack the tags again, so run it once more when none is left.

    Args:
        store: an open store that knows the class.
        type_name: its stored name, or one of its former names.
        write: whether to do it; by default it is only looked what there would be to do.
        progress: told how far it has come.

    Raises:
        UnknownTypeError: the store knows no class of this name.
        UnreadableEventError, CorruptEventError, InvalidEventError: an event cannot be read, or has no such tag.
        TagsMissingError: other processes append events without the tags all the while; run it again when none is left.
        StorageError: the database failed; run it again to go on.
    """
    codec, log = _codec(store, type_name), cast(PortableLog, store.log)
    events, lacking, first, seen = 0, 0, 0, 0
    example: Sequence[str] = ()
    if write:
        await _record_what_is_open(codec, log)
    declared = dict.fromkeys(codec.names, as_text(codec.tags.declared))
    declared |= await _of_sources(codec, log)
    for _ in range(store.options.record_attempts):
        end = await store.head()  # and no further: others may append faster than this comes near the head
        async for rows in _chunks(store, codec, seen, end):
            found = _tagged(store, codec, rows)
            changes = [(row, tags) for row, tags in found if not set(tags) <= set(row.tags)]
            events, lacking, seen = events + len(found), lacking + len(changes), rows[-1].position
            if changes and not first:
                first, example = changes[0][0].position, _missing(*changes[0])
            if changes and write:
                await log.replace_tags([_change(row, tags) for row, tags in changes])
            progress("adding tags" if write else "looking", seen, end)
        if not write or await log.record_tagged_types(declared, seen=seen):
            return AddedTags(events, lacking, first, example)
    raise TagsMissingError(codec.stored.name, sorted({tag for tag, _ in codec.tags.declared}))


def _codec(store: EventStore, type_name: str) -> PayloadCodec:
    codecs = store.events.codecs
    for codec in codecs:
        if type_name in codec.names:
            return codec
    raise UnknownTypeError(type_name, [codec.stored.name for codec in codecs])


async def _record_what_is_open(codec: PayloadCodec, log: PortableLog) -> None:
    """Record of types of which nothing is known that their events lack tags, so that an interruption is noticed."""
    recorded = await log.tagged_types()
    names = (*codec.names, *codec.stored.sources)
    if unknown := {name: as_text(()) for name in names if name not in recorded}:
        await log.record_tagged_types(unknown)


async def _of_sources(codec: PayloadCodec, log: PortableLog) -> dict[str, str]:
    """Return what is to be recorded of the types that events of the class are made of: they have tags of their own."""
    recorded = await log.tagged_types() if codec.stored.sources else {}
    known = {name: as_tags(recorded[name]) if name in recorded else frozenset() for name in codec.stored.sources}
    return {name: as_text(tags | codec.tags.declared) for name, tags in known.items()}


async def _chunks(store: EventStore, codec: PayloadCodec, after: int, end: int) -> AsyncIterator[Sequence[StoredEvent]]:
    of_type = EventQuery.exactly(*codec.names, *codec.stored.sources)
    while rows := await store.log.read(of_type, after=after, before=end + 1, limit=store.options.chunk):
        await store.events._fetch_keys(rows)
        yield rows
        after = rows[-1].position


def _tagged(
    store: EventStore, codec: PayloadCodec, rows: Sequence[StoredEvent]
) -> list[tuple[RecordedEvent[object], Sequence[str]]]:
    """Return the stored events that are events of the class today, each once, with the tags that they make."""
    found: dict[int, tuple[RecordedEvent[object], Sequence[str]]] = {}
    for each in store.events.decode(rows):
        if type(each.event) is codec.cls:
            _, before = found.get(each.position, (each, ()))
            found[each.position] = each, tuple(dict.fromkeys((*before, *codec.tags.of(each.event))))
    return list(found.values())


def _missing(row: RecordedEvent[object], tags: Sequence[str]) -> Sequence[str]:
    return tuple(tag for tag in tags if tag not in row.tags)


def _own_tags(tenant: str, tags: Sequence[str]) -> Sequence[str]:
    return [own_name(tenant, tag) for tag in tags] if tenant else tags


def _change(recorded: RecordedEvent[object], tags: Sequence[str]) -> TagChange:
    row: StoredEvent = recorded.stored
    tags_json = msgspec.json.encode((*recorded.stored_tags, *_own_tags(recorded.tenant, _missing(recorded, tags))))
    content = content_checksum(replace(row, tags=tags_json))
    return TagChange(row.position, row.checksum, tags_json, seal(content, row.position, row.version, row.recorded_at))
