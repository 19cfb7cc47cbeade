"""The event log in memory: short, exact, the reference that the other engines are compared with."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice
from operator import attrgetter
from uuid import uuid4

import msgspec

from twofold.engines.memory.database import MemoryDatabase
from twofold.engines.memory.inline import answer
from twofold.engines.sqlite.log.inline import carry_out
from twofold.errors import HistoryChangedError
from twofold.messages.endings import TOMBSTONED, is_ended
from twofold.messages.event_query import EventQuery
from twofold.messages.mark import Mark
from twofold.messages.stored_event import REMOVED, StoredEvent, record
from twofold.messages.stream import holds
from twofold.options import InspectionOptions
from twofold.ports.event_log import (
    Append,
    Appended,
    CommandRecord,
    FoundCommand,
    Rejected,
    Scan,
    condition_rejection,
    ended_rejection,
    repeated,
    repeated_command,
    scanned,
    version_rejection,
)
from twofold.ports.inline import Inline, elsewhere
from twofold.ports.maintenance import (
    Examination,
    Fork,
    Inspection,
    PrunedCommands,
    Removal,
    StoredCommand,
    StreamSize,
    TagChange,
    refuse_gaps,
)
from twofold.ports.read_database import ReadDatabase
from twofold.ports.snapshots import FoundSnapshot, Snapshot

PAUSE_EVERY = 32
"""Appends after which the event loop gets a turn. Raised, tasks wait longer while another one appends in a loop;
lowered, each append pays for more of a turn, which takes half as long as the append itself."""


class MemoryEventLog:
    """Keeps everything in lists, for as long as the object lives. For tests, and to be read.

    Args:
        database: where inline projections are written; by default one for itself.
    """

    has_event_table = False

    def __init__(self, database: MemoryDatabase | None = None) -> None:
        self._database = database or MemoryDatabase()
        self._database.answer_to = partial(answer, log=self)
        self._inline: list[Inline] = []
        self._id = uuid4().bytes
        self._fork: Fork | None = None
        self._events: list[StoredEvent] = []
        self._streams: dict[str, list[StoredEvent]] = {}
        self._by_id: dict[bytes, StoredEvent] = {}
        self._commands: dict[bytes, tuple[CommandRecord, Appended]] = {}
        self._tagged_types: dict[str, str] = {}
        self._tag_changes = 0
        self._snapshots: dict[tuple[str, str], Snapshot] = {}
        self._grown = asyncio.Event()
        self._waiters = 0
        self._since_pause = 0

    @property
    def times_set_back(self) -> int:
        return 0

    async def open(self) -> None:
        await self._database.open()

    async def close(self) -> None:
        await self._database.close()

    async def append(self, append: Append) -> Appended | Rejected:
        outcome = await self._append_inline(append) if self._inline else self._judged(append) or self._store(append)
        self._since_pause += 1
        if self._inline or self._since_pause >= PAUSE_EVERY:  # what is written inline takes as long as many appends
            self._since_pause = 0
            await asyncio.sleep(0)  # a task that appends in a loop lets others run, as it would on a disk
        return outcome

    async def _append_inline(self, append: Append) -> Appended | Rejected:
        async with self._database.transaction() as connection:
            if judged := self._judged(append):
                return judged
            head = len(self._events)
            try:
                appended = self._store(append)
                for each in self._inline:
                    carry_out(connection, each.fold(head, appended.last), self._database.answer_to)
            except BaseException:
                self._take_back(head)
                raise
        return appended

    def is_with(self, database: ReadDatabase) -> bool:
        return database.is_in(self._database)

    def attach(self, inline: Inline, database: ReadDatabase) -> None:
        if not self.is_with(database):
            raise elsewhere(inline)
        self._inline.append(inline)

    async def read(
        self,
        query: EventQuery,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int,
        backwards: bool = False,
    ) -> Sequence[StoredEvent]:
        if not backwards:
            return self.read_now(query, after, before, limit)
        end = len(self._events) if before is None else max(before - 1, 0)
        return [event for event in self._events[max(after, 0) : end] if _matches(query, event)][::-1][:limit]

    def read_now(self, query: EventQuery, after: int, before: int | None, limit: int) -> Sequence[StoredEvent]:
        """Return events as `read` does, at once."""
        end = len(self._events) if before is None else max(before - 1, 0)
        return list(islice((event for event in self._events[max(after, 0) : end] if _matches(query, event)), limit))

    def head_now(self) -> int:
        """Return the highest position, at once."""
        return len(self._events)

    def append_now(self, append: Append) -> Appended | Rejected:
        """Judge and store an append, to be taken back if the open transaction is rolled back."""
        if judged := self._judged(append):
            return judged
        self._database.after_rollback = partial(self._take_back, len(self._events))
        self._database.after_commit = self._wake
        return self._store(append, wake=False)

    async def scan(self, query: EventQuery, *, after: Mark, end: int | None = None, limit: int) -> Scan:
        head = len(self._events)
        stands = self._mark(after.position)
        if stands is None or not after.agrees(stands):
            raise HistoryChangedError(after, stands, head)
        last = max(head if end is None else min(end, head), after.position)
        found = (event for event in self._events[after.position : last] if _matches(query, event))
        return scanned(list(islice(found, limit)), limit, self._mark(last) or stands)

    async def mark(self, position: int) -> Mark | None:
        return self._mark(position)

    async def read_stream(
        self, stream_id: str, *, after: int = 0, limit: int, without: Sequence[str] = ()
    ) -> Sequence[StoredEvent]:
        stream = self._streams.get(stream_id, [])
        if not without:
            return stream[after : after + limit]
        found = (
            row for row in islice(stream, after, None)
            if row.type not in without or row.version in (after + 1, len(stream))
        )  # fmt: skip
        return list(islice(found, limit))

    async def head(self) -> int:
        return len(self._events)

    async def wait(self, after: int, timeout: float) -> int:
        self._waiters += 1
        try:
            async with asyncio.timeout(timeout):
                while len(self._events) <= after:
                    await self._grown.wait()
        except TimeoutError:
            pass
        finally:
            self._waiters -= 1
        return len(self._events)

    async def find_command(self, command_id: bytes) -> FoundCommand | None:
        return self._found(command_id)

    async def restore(self, rows: Sequence[StoredEvent], commands: Sequence[StoredCommand] = ()) -> None:
        refuse_gaps(rows, commands, len(self._events))
        for row in rows:
            self._keep(row)
        for command_id, content_hash, result, name, first, last in commands:
            appended = Appended(first, last, result=result, version=self._events[last - 1].version)
            self._commands[command_id] = (CommandRecord(command_id, content_hash, result, name), appended)
        self._wake()

    async def find_events(self, event_ids: Sequence[bytes]) -> Sequence[StoredEvent]:
        found = [self._by_id[each] for each in dict.fromkeys(event_ids) if each in self._by_id]
        return sorted(found, key=attrgetter("position"))

    async def read_mentioning(
        self, text: str, *, after: int, before: int, limit: int, backwards: bool = False
    ) -> Sequence[StoredEvent]:
        low, high, wanted = max(after, 0), max(before - 1, 0), text.encode()
        rows = self._events[low:high]
        return list(islice((row for row in (rows[::-1] if backwards else rows) if wanted in row.metadata), limit))

    async def adopt(self, log_id: bytes) -> None:
        self._id = self._id if self._events else log_id

    async def fork(self) -> Fork | None:
        return self._fork

    async def mark_fork(self, fork: Fork) -> bool:
        if not self._events:
            self._fork = fork
        return self._fork == fork

    async def read_commands(self, *, after: bytes = b"", limit: int) -> Sequence[StoredCommand]:
        wanted = sorted(command_id for command_id in self._commands if command_id > after)[:limit]
        known = map(self._commands.__getitem__, wanted)
        return [StoredCommand(*record, appended.first, appended.last) for record, appended in known]

    async def prune_commands(
        self, *, before: int, tag: str = "", after: bytes = b"", limit: int, write: bool
    ) -> PrunedCommands | None:
        looked_at = await self.read_commands(after=after, limit=limit)
        ends = [(each.command_id, self._events[each.last_position - 1]) for each in looked_at]
        found = [
            command_id
            for command_id, row in ends
            if row.recorded_at < before and (not tag or tag in msgspec.json.decode(row.tags))
        ]
        for command_id in found if write else ():
            del self._commands[command_id]
        return PrunedCommands(len(found), looked_at[-1].command_id) if looked_at else None

    async def tagged_types(self) -> Mapping[str, str]:
        return dict(self._tagged_types)

    async def record_tagged_types(self, types: Mapping[str, str], *, seen: int | None = None) -> bool:
        if seen is not None and any(event.type in types for event in self._events[seen:]):
            return False
        self._tagged_types |= types
        return True

    async def replace_tags(self, changes: Sequence[TagChange]) -> None:
        self._tag_changes += 1
        for position, found, tags, checksum in changes:
            if self._events[position - 1].checksum == found:
                self._replace(position, tags=tags, checksum=checksum)

    async def read_stream_ends(self, *, after: str = "", limit: int) -> Sequence[StoredEvent]:
        names = sorted(name for name, stream in self._streams.items() if stream and name > after)
        return [self._streams[name][-1] for name in names[:limit]]

    async def find_stream_ends(self, stream_ids: Sequence[str]) -> Sequence[StoredEvent]:
        return [self._streams[each][-1] for each in dict.fromkeys(stream_ids) if self._streams.get(each)]

    async def measure_streams(self, stream_ids: Sequence[str]) -> Sequence[StreamSize]:
        found = {
            each: [row for row in self._streams.get(each, []) if row.type != REMOVED] for each in stream_ids
        }  # fmt: skip
        return [
            StreamSize(each, len(rows), sum(len(row.payload) + len(row.metadata) + len(row.tags) for row in rows))
            for each, rows in found.items()
            if rows
        ]

    async def remove_events(self, removals: Sequence[Removal]) -> None:
        self._tag_changes += 1
        for position, found, payload, tags, checksum, _ in removals:
            if self._events[position - 1].checksum == found:
                self._replace(
                    position, type=REMOVED, schema_version=1, payload=payload, metadata=b"{}", tags=tags,
                    checksum=checksum,
                )  # fmt: skip

    def _replace(self, position: int, **columns: object) -> None:
        stored = self._events[position - 1]
        changed = msgspec.structs.replace(stored, **columns)
        self._events[position - 1] = self._by_id[stored.event_id] = changed
        if stored.stream_id:
            self._streams[stored.stream_id][stored.version - 1] = changed

    async def read_short_stream(self, stream_id: str, *, limit: int) -> Sequence[StoredEvent] | None:
        stream = self._streams.get(stream_id, [])
        return stream[:] if len(stream) < limit else None

    async def find_snapshot(self, fold: str, subject: str) -> FoundSnapshot:
        return FoundSnapshot(self._snapshots.get((fold, subject)), self._tag_changes)

    async def tag_changes(self) -> int:
        return self._tag_changes

    async def save_snapshot(self, snapshot: Snapshot, *, instead_of: int | None = None) -> bool:
        known = self._snapshots.get(snapshot[:2])
        if known and snapshot.position <= known.position and known.checksum != instead_of:
            return False
        self._snapshots[snapshot[:2]] = snapshot
        return True

    async def read_snapshots(self, *, after: tuple[str, str] = ("", ""), limit: int) -> Sequence[Snapshot]:
        return [self._snapshots[key] for key in sorted(self._snapshots) if key > after][:limit]

    async def delete_snapshots(self, fold: str | None = None, subject: str | None = None) -> int:
        gone = [key for key in self._snapshots if fold in (None, key[0]) and subject in (None, key[1])]
        for key in gone:
            del self._snapshots[key]
        return len(gone)

    async def check(self) -> Sequence[str]:
        return []

    async def examine(self, options: InspectionOptions) -> Examination:
        return Examination({"engine": "memory"}, [])

    async def inspect(self) -> Inspection:
        types = Counter(event.type for event in self._events)
        return Inspection(len(self._events), types, len(self._commands), 0, 0, [])

    def _mark(self, position: int) -> Mark | None:
        if position == 0:
            return Mark(0, self._id)
        return Mark(position, self._events[position - 1].event_id) if 0 < position <= len(self._events) else None

    def _judged(self, append: Append) -> Appended | Rejected | None:
        return self._repeated(append) or self._rejected(append)

    def _repeated(self, append: Append) -> Appended | None:
        if append.command and (known := self._found(append.command.command_id)):
            return repeated_command(append.command, known)
        return repeated(append.events, [self._by_id.get(event.event_id) for event in append.events])

    def _found(self, command_id: bytes) -> FoundCommand | None:
        if (known := self._commands.get(command_id)) is None:
            return None
        record, appended = known
        return FoundCommand(record, appended, tuple(self._events[appended.first - 1 : appended.last]))

    def _ended(self, append: Append) -> Rejected | None:
        for event in append.events:
            stream = self._streams.get(event.stream_id)
            if stream and is_ended(last := stream[-1]) and (event.type != TOMBSTONED or last.type == TOMBSTONED):
                return ended_rejection(last)
        return None

    def _rejected(self, append: Append) -> Rejected | None:
        if ended := self._ended(append):
            return ended
        for stream_id, expected in append.expected:
            stream = self._streams.get(stream_id, [])
            if not holds(expected, len(stream)):
                newer = stream[max(expected, 0) :] if isinstance(expected, int) else []
                return version_rejection(stream_id, expected, len(stream), newer)
        if condition := append.condition:
            later = self._events[max(condition.after or 0, 0) :]
            conflicts = [event for event in later if _matches(condition.fail_if, event)]
            if conflicts or any(event.type == TOMBSTONED for event in later):
                return condition_rejection(condition, conflicts)
        return None

    def _store(self, append: Append, *, wake: bool = True) -> Appended:
        now, first = time.time_ns() // 1000, len(self._events) + 1
        for event in append.events:
            stream = self._streams.get(event.stream_id, [])
            self._keep(record(event, len(self._events) + 1, len(stream) + 1 if event.stream_id else 0, now))
        result = append.command.result if append.command else b""
        appended = Appended(first, len(self._events), result=result, version=self._events[-1].version)
        if append.command:
            self._commands[append.command.command_id] = (append.command, appended)
        if wake:
            self._wake()
        return appended

    def _keep(self, stored: StoredEvent) -> None:
        if stored.stream_id:
            self._streams.setdefault(stored.stream_id, []).append(stored)
        self._events.append(stored)
        self._by_id[stored.event_id] = stored

    def _take_back(self, head: int) -> None:
        for event in reversed(self._events[head:]):
            del self._by_id[event.event_id]
            if event.stream_id:
                self._streams[event.stream_id].pop()
        del self._events[head:]
        self._commands = {key: known for key, known in self._commands.items() if known[1].last <= head}

    def _wake(self) -> None:
        if self._waiters:
            self._grown.set()
            self._grown = asyncio.Event()


def _matches(query: EventQuery, event: StoredEvent) -> bool:
    return query.matches(event.type, msgspec.json.decode(event.tags, type=list[str]))
