"""Checks all events of a log, in chunks: that none is missing, each matches its checksum, and versions follow.

With the code of the application, the tags of each event are compared with those that its class makes of its payload.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, suppress
from typing import Any, cast

from twofold.errors import (
    ArchiveError,
    CorruptEventError,
    HistoryChangedError,
    KeyMissingError,
    StorageError,
    StorageUnavailableError,
    UnreadableEventError,
)
from twofold.log.chunks import Rows, event_at, pace_of_all, scan_chunks
from twofold.log.codec.event_types import EventTypes
from twofold.log.codec.tags import Tags
from twofold.log.ending.tombstones import is_complete
from twofold.log.integrity.damage import Damage
from twofold.messages.endings import TOMBSTONED
from twofold.messages.event import RecordedEvent
from twofold.messages.event_query import EventQuery
from twofold.messages.mark import Mark
from twofold.messages.stored_event import REMOVED, StoredEvent, are_intact, is_intact
from twofold.messages.tenant_names import own_name
from twofold.options import LogOptions
from twofold.ports.event_log import EventLog
from twofold.ports.maintenance import PortableLog

_RESTORE = "restore it from a backup"


async def damaged_events(
    log: EventLog,
    end: int,
    *,
    after: int = 0,
    known: EventTypes | None = None,
    reached: Callable[[int], object] = lambda _: None,
    options: LogOptions | None = None,
) -> AsyncGenerator[Damage]:
    """Iterate over what is wrong with the events behind a position up to another one.

    Args:
        log: the log.
        end: the last position.
        after: the position behind which it begins; the events up to it count as intact.
        known: the classes of events, if their tags are to be compared, too.
        reached: told the position of each chunk.
        options: how large a chunk is, and how many streams are remembered.
    """
    options = options or LogOptions()
    checks = _Checks(log, known, options)
    while after < end:
        try:
            async with aclosing(_chunks(log, after, end, options)) as all_chunks:
                async for rows in all_chunks:
                    for damage in await checks.of(rows, after):
                        yield damage
                    after = rows[-1].position if rows else after
                    reached(after)
            if after < end:
                text = f"the log ends at {end}, but there is nothing after {after}; {_RESTORE}"
                yield Damage("event", _span(after + 1, end), StorageError(text))
            return
        except StorageUnavailableError:
            raise
        except HistoryChangedError as error:
            yield Damage("event", f"position {after}", error)
            return
        except StorageError as error:  # the engine refuses the chunk: read its events alone, to find out which
            first, count = after + 1, 0
            async with aclosing(_one_by_one(log, after, end, options.whole_log_chunk)) as alone:
                async for rows, refused in alone:
                    found = [refused] if refused else await checks.of(rows, after)
                    count, after = count + len(found), after + 1
                    for damage in found:
                        yield damage
            if not count:
                yield Damage("event", _span(first, after), error)


def _chunks(log: EventLog, after: int, end: int, options: LogOptions) -> AsyncGenerator[Rows]:
    pace = pace_of_all(options)
    return scan_chunks(log, EventQuery.all(), Mark(after), end, pace)


async def _one_by_one(log: EventLog, after: int, end: int, most: int) -> AsyncGenerator[tuple[Rows, Damage | None]]:
    """Read events alone, about as many as a chunk has; the last one is there, or is the last of all."""
    for position in range(after + 1, end + 1):
        where, rows = f"position {position}", list[StoredEvent]()
        try:
            if (row := await event_at(log, position)) is not None:
                rows.append(row)
        except StorageUnavailableError:
            raise
        except StorageError as error:
            yield rows, Damage("event", where, error)
        else:
            text = f"event {position} is missing; {_RESTORE}"
            yield rows, None if rows else Damage("event", where, StorageError(text))
        if rows and position >= after + most:
            return


class _Checks:
    """What each chunk is checked for.

    Args:
        log: the log.
        known: the classes of events, if their tags are to be compared.
        options: how many streams are remembered.
    """

    def __init__(self, log: EventLog, known: EventTypes | None, options: LogOptions) -> None:
        self._streams = StreamVersions(log, options.remembered_streams)
        self._tombstones = TombstoneCheck(cast(PortableLog, log), options.remembered_streams)
        self._tags = _TagCheck(known) if known else None

    async def of(self, rows: Rows, after: int) -> Sequence[Damage]:
        """Return what is wrong with the rows that are to follow a position."""
        found = [*damaged_rows(rows, after), *await self._streams.check(rows), *await self._tombstones.check(rows)]
        return [*found, *self._tags.check(rows)] if self._tags else found


def damaged_rows(rows: Rows, after: int) -> Iterator[Damage]:
    """Iterate over what is wrong with the rows that are to follow a position.

    A chunk is checked at once, and only where that fails row by row: so a whole log is read in half the time.
    """
    with suppress(TypeError, ValueError):  # a damaged file may hold a value of another type, or none
        if [row.position for row in rows] == list(range(after + 1, after + 1 + len(rows))) and are_intact(rows):
            return
    for row in rows:
        if row.position != after + 1:
            text = f"event {after + 1} is missing, {row.position} follows; {_RESTORE}"
            yield Damage("event", _span(after + 1, row.position - 1), StorageError(text))
        if not is_intact(row):
            yield Damage("event", f"position {row.position}", CorruptEventError(row.position))
        after = row.position


def _span(first: int, last: int) -> str:
    return f"position {first}" if first >= last else f"positions {first} to {last}"


class StreamVersions:
    """Checks that each event has the version behind the one of the event before it in its stream.

    The streams that were met last are remembered; for the others, the event before is read.

    Args:
        log: the log.
        most: streams that are remembered.
    """

    def __init__(self, log: EventLog, most: int) -> None:
        self._log = log
        self._most = most
        self._versions: OrderedDict[str, int] = OrderedDict()

    async def check(self, rows: Rows) -> Sequence[Damage]:
        """Return what is wrong with the versions of the next rows."""
        found, versions = list[Damage](), self._versions
        for row in rows:
            if not row.stream_id:
                before = -1
            elif (before := versions.pop(row.stream_id, -1)) < 0:
                before = await self._before(row) if row.version != 1 else 0
            if row.version != before + 1:
                found.append(_misplaced(row, before + 1))
            if row.stream_id:
                versions[row.stream_id] = row.version
        while len(versions) > self._most:
            versions.popitem(last=False)
        return found

    async def _before(self, row: StoredEvent) -> int:
        """Return the version of the event before a row of a stream that is not remembered."""
        if not isinstance(row.version, int) or row.version < 1:
            return 0
        try:
            found = await self._log.read_stream(row.stream_id, after=row.version - 2, limit=1)
        except ArchiveError:  # which is told of that event
            return row.version - 1
        is_before = bool(found) and found[0].version == row.version - 1 and found[0].position < row.position
        return row.version - 1 if is_before else 0


class TombstoneCheck:
    """Checks that events are removed of tombstoned streams only, and that all of theirs are.

    Args:
        log: the log.
        most: streams that are remembered.
    """

    def __init__(self, log: PortableLog, most: int) -> None:
        self._log = log
        self._most = most
        self._known: set[str] = set()

    async def check(self, rows: Rows) -> Sequence[Damage]:
        """Return what is wrong with removed events among the next rows, and with tombstones."""
        found = list[Damage]()
        concerned = [row for row in rows if row.type in (REMOVED, TOMBSTONED)]
        removed = {row.stream_id for row in concerned if row.type == REMOVED} - self._known
        ends = {end.stream_id: end.type for end in await self._log.find_stream_ends(list(removed))} if removed else {}
        for row in concerned:
            where = f"position {row.position}"
            if row.type == TOMBSTONED and not await is_complete(self._log, row.stream_id):
                text = (
                    f"events of the tombstoned stream {row.stream_id!r} are still there, as their removal was "
                    f"interrupted; tombstone it again, which completes it"
                )
                found.append(Damage("tombstone", where, StorageError(text)))
            if row.stream_id in removed and ends.get(row.stream_id) != TOMBSTONED:
                removed.discard(row.stream_id)
                text = (
                    f"event {row.position} was removed, and its stream {row.stream_id!r} is not tombstoned; {_RESTORE}"
                )
                found.append(Damage("event", where, StorageError(text)))
        self._known = removed if len(self._known) > self._most else self._known | removed
        return found


def _misplaced(row: StoredEvent, expected: int) -> Damage:
    text = (
        f"event {row.position} has version {row.version} of stream {row.stream_id!r}, {expected} would follow; "
        f"{_RESTORE}"
    )
    return Damage("event", f"position {row.position}", StorageError(text))


class _TagCheck:
    """Compares stored tags with those that today's classes make of the payloads; other types are not compared."""

    def __init__(self, known: EventTypes) -> None:
        self._known = known
        self._tags: dict[str, Tags] = {name: codec.tags for codec in known.codecs for name in codec.names}

    def check(self, rows: Rows) -> Iterator[Damage]:
        for row in rows:
            if row.type in self._tags and is_intact(row):
                yield from self._check(row)

    def _check(self, row: StoredEvent) -> Iterator[Damage]:
        try:
            recorded: list[RecordedEvent[Any]] = self._known.decode([row])
            made = {tag for each in recorded for tag in self._made(each)}
        except KeyMissingError:  # `damaged_keys` names it
            return
        except Exception as error:  # an upcaster, or a value that makes no tag
            why = UnreadableEventError(row.type, row.position, row.schema_version, str(error))
            yield Damage("tags", f"position {row.position}", why)
            return
        for each in recorded[:1]:
            if text := self._difference(each, made):
                yield Damage("tags", f"position {row.position}", StorageError(f"event {row.position} {text}"))

    def _made(self, recorded: RecordedEvent[Any]) -> list[str]:
        tags = self._tags[recorded.type].of(recorded.event)
        return [own_name(recorded.tenant, tag) for tag in tags] if recorded.tenant else list(tags)

    def _difference(self, recorded: RecordedEvent[Any], made: set[str]) -> str:
        stored = set(recorded.stored_tags)
        if lacking := sorted(made - stored):
            return f"lacks the tag {lacking[0]!r} that its payload makes; `twofold tags add` adds it"
        declared = tuple(own_name(recorded.tenant, f"{name}:") if recorded.tenant else f"{name}:"
                         for name in self._tags[recorded.type].names)  # fmt: skip
        if wrong := sorted(tag for tag in stored - made if tag.startswith(declared)):
            return f"has the tag {wrong[0]!r}, which its payload does not make; {_RESTORE}"
        return ""
