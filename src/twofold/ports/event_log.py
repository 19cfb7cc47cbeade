"""The port of the event log: rows in, rows out. `EventStore` gives them their types."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple, Protocol
from uuid import UUID
from zlib import crc32

import msgspec

from twofold.errors import CommandReusedError, CorruptCommandError, DuplicateEventIdError
from twofold.messages.endings import TOMBSTONED, is_ended
from twofold.messages.event_query import AppendCondition, EventQuery
from twofold.messages.mark import Mark
from twofold.messages.stored_event import SEAL_MODULUS, NewEvent, StoredEvent, is_repeat
from twofold.messages.stream import ExpectedVersion
from twofold.ports.inline import Inline
from twofold.ports.read_database import ReadDatabase


class CommandRecord(NamedTuple):
    """The command that an append carries out: a repeat of the id gets the first receipt and this result."""

    command_id: bytes
    content_hash: bytes
    result: bytes
    name: str = ""
    """The stored name of its class; it tells what happened, and identifies nothing."""


def command_checksum(command: CommandRecord) -> int:
    """Return the CRC-32 over what a command brings along. stored: change it with care."""
    return crc32(
        b"\0".join((command.command_id + command.content_hash, command.result, command.name.encode("utf-8", "replace")))
    )


def sealed_command(command: CommandRecord, first: int, last: int) -> int:
    """Return the stored checksum: that of the content, mixed with the positions that the log allots."""
    return command_checksum(command) ^ ((first * 31 + last * 17) % SEAL_MODULUS)


def intact_command(command: CommandRecord, first: int, last: int, checksum: int) -> CommandRecord:
    """Return a command as it was stored.

    Raises:
        CorruptCommandError: it does not match its checksum.
    """
    try:
        is_intact = sealed_command(command, first, last) == checksum
    except (AttributeError, TypeError):  # a damaged file may hold a value of another type, or none
        is_intact = False
    if not is_intact:
        raise CorruptCommandError(UUID(bytes=command.command_id))
    return command


class Append(msgspec.Struct, frozen=True):
    """One decision: its events and all that must hold for them. It is stored as a whole or not at all.

    Events may belong to several streams (or to none, with an empty stream id); `expected` names the version of each
    stream before the append, a stream that is not named may have any.

    Raises:
        ValueError: there is no event.
    """

    events: tuple[NewEvent, ...]
    expected: tuple[tuple[str, ExpectedVersion], ...] = ()
    condition: AppendCondition | None = None
    command: CommandRecord | None = None

    def __post_init__(self) -> None:
        if not self.events:
            raise ValueError("an append needs at least one event")


class Appended(NamedTuple):
    """An append that is durable. Its events stand at the contiguous positions `first` to `last`."""

    first: int
    last: int
    repeated: bool = False
    """This call stored nothing: an earlier one with the same ids had done so."""
    result: bytes = b""
    """The recorded result of the command, if the append carries one."""
    version: int = 0
    """The version that the last event gave its stream; 0 if it belongs to none."""
    rows: tuple[StoredEvent, ...] = ()
    """Of a repeat, the events that the first call stored, in order: its caller needs no second round trip for them."""


class FoundCommand(NamedTuple):
    """What is recorded of a command that has taken effect."""

    record: CommandRecord
    appended: Appended
    """What its first call was answered with."""
    rows: tuple[StoredEvent, ...]
    """The events that it stored, in order."""


class Rejected(NamedTuple):
    """An append that was refused; nothing of it is stored."""

    reason: str
    conflicts: tuple[StoredEvent, ...] = ()
    """The events that caused it. Of a stream that takes no more events, the one that says so."""
    stream_id: str = ""
    version: int = 0

    @property
    def is_ended(self) -> bool:
        """Whether the stream is closed or tombstoned: to try again leads nowhere."""
        return bool(self.stream_id and self.conflicts) and is_ended(self.conflicts[-1])


class Scan(NamedTuple):
    """What a consumer reads of the log, and how far it has then seen it: both of one snapshot."""

    rows: Sequence[StoredEvent]
    """The matching events, in order."""
    covered: Mark
    """No further event up to here matches, and none will: positions are committed in their order."""


MAX_CONFLICTS = 100
"""The most events that a rejection carries of those that caused it. More: larger answers to callers who lost."""


class EventLog(Protocol):
    """An append-only log with one global order. Adapters pass `twofold.testing.EventLogConformance`."""

    @property
    def times_set_back(self) -> int:
        """How often this process has seen that the log had lost its end, as in a fail-over: compare marks again."""

    async def open(self) -> None:
        """Connect and bring the schema up to date; safe when several processes do so at once, and when repeated.

        Raises:
            StorageError: in one of its kinds, with the remedy.
        """

    async def close(self) -> None:
        """Finish the appends that were accepted and release all resources; may be repeated."""

    async def append(self, append: Append) -> Appended | Rejected:
        """Store a decision durably, as a whole or not at all.

        Checks and stores in one step, so that no other append comes between. Positions are contiguous and are
        committed in their order. A repeat (the same command, or the same event ids with the same content) stores
        nothing and answers as the first call did, whatever the versions are by now. Appends that wait at one
        moment share one commit, and each is judged alone, in the order of the calls.

        A stream that ends with a `StreamClosed` or `StreamTombstoned` takes no more events, whatever is expected of
        it, but for a tombstone behind a closed one; the event that says so is the only conflict of the rejection. A
        condition also fails if a stream was tombstoned behind its position: events that match may be gone.

        A cancelled caller does not know the outcome; the append itself goes on and is stored or rejected whole.

        Raises:
            DuplicateEventIdError: an event id is stored already with other content.
            CommandReusedError: the command id is recorded already with another content hash.
            CorruptCommandError: the record of the command does not match its checksum.
            LimitExceededError: a name or a number is out of the engine's range.
            ProjectionFailedError: an inline read model cannot take the events; nothing was stored.
            OutcomeUnknownError: the deadline passed before the outcome could be learnt.
            StorageError: nothing was stored.
        """

    async def read(
        self,
        query: EventQuery,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int,
        backwards: bool = False,
    ) -> Sequence[StoredEvent]:
        """Return up to `limit` matching events with `after < position < before`, in order or in reverse order.

        Every event that was committed before the call and matches is seen; none is seen before one of a lower
        position.
        """

    async def scan(self, query: EventQuery, *, after: Mark, end: int | None = None, limit: int) -> Scan:
        """Return up to `limit` matching events behind a mark, and how far the log has then been seen.

        It is seen up to the last of the rows if there are `limit` of them, else up to `end` or the head of the log,
        whichever comes first. The rows, the head and the comparison of the mark are of one snapshot. So a consumer that
        goes on from `covered` skips nothing, whatever became of the log between two calls.

        Args:
            query: which events.
            after: where the consumer stands. A mark without an event id is only compared with the head.
            end: events beyond this position are not looked at; by default all are.
            limit: number of events, at most; at least 1.

        Raises:
            HistoryChangedError: the event of the mark does not stand at its position.
            StorageError: the database failed.
        """

    async def mark(self, position: int) -> Mark | None:
        """Return what stands at a position, None beyond the head. At 0 it is the id of the log, made with it.

        Raises:
            StorageError: the database failed.
        """

    async def read_stream(
        self, stream_id: str, *, after: int = 0, limit: int, without: Sequence[str] = ()
    ) -> Sequence[StoredEvent]:
        """Return up to `limit` events of a stream whose version is greater than `after`, in order.

        Events of the types `without` are left out, but for the one right behind `after` and the last of the stream,
        whose version is the stream's: of one snapshot, so that no answer with fewer than `limit` events lacks it.
        """

    async def head(self) -> int:
        """Return the highest position, 0 for an empty log. It is out of date when it arrives: see `scan`."""

    async def wait(self, after: int, timeout: float) -> int:
        """Wait until the head is beyond `after`, at most `timeout` seconds, and return the head that is known.

        Woken by appends of this process and of all others. What it returns is a hint that there is something to read,
        and proves nothing: only `scan` says how far a consumer has seen the log.
        """

    async def find_command(self, command_id: bytes) -> FoundCommand | None:
        """Return what is recorded of a command and what it stored, in one round trip; None if it has no effect yet.

        Raises:
            CorruptCommandError: the record does not match its checksum.
            StorageError: the database failed.
        """


class JoinedTransaction(Protocol):
    """An open transaction that appends can join."""

    connection: Any
    """The driver's connection, for the user's own SQL."""

    async def append(self, append: Append) -> Appended | Rejected:
        """Judge and store an append within the transaction, with the log locked from here to its end.

        Raises:
            DuplicateEventIdError, CommandReusedError, ProjectionFailedError, StorageError: as `EventLog.append`; the
                transaction is lost.
        """


class JoinableLog(EventLog, Protocol):
    """A log in a SQL database, where appends can join a transaction of the user's own."""

    def transaction(self, connection: Any = None) -> AbstractAsyncContextManager[JoinedTransaction]:
        """Open a transaction, to be committed when the block ends and rolled back when it raises.

        Given a connection with an open transaction, of the driver or of SQLAlchemy, join that one; its owner commits.

        Raises:
            StorageError: it could not be opened or committed; nothing was stored.
        """

    has_event_table: bool
    """Whether such a transaction sees the events in a table; those in memory, which is never restored, it does not."""

    def is_with(self, database: ReadDatabase) -> bool:
        """Return whether read models of this database are in the log's own, so that one transaction spans both."""

    def attach(self, inline: Inline, database: ReadDatabase) -> None:
        """Have a read model written in the transaction of each append from now on, of `transaction` too.

        An append whose events it refuses is rejected with `ProjectionFailedError`; the others of its group are not.
        Appends of other processes, and `PortableLog.restore`, are brought in by the next append.

        Raises:
            InvalidProjectionError: the read model is in another database than the log.
        """


def scanned(rows: Sequence[StoredEvent], limit: int, end: Mark) -> Scan:
    """Return rows with what they cover: up to the last of them if there may be more, else up to `end`."""
    if len(rows) == limit:
        end = Mark(rows[-1].position, rows[-1].event_id)
    return Scan(rows, end)


def scanned_from(rows: Sequence[StoredEvent], after: Mark) -> Scan | None:
    """Return a scan of the whole log, given what stands at the mark and behind it; None if that is another event.

    No position is missing in the whole log, so the rows themselves say how far it was seen: up to the last one.
    """
    found = Mark(rows[0].position, rows[0].event_id) if rows else None
    if found is None or found.position != after.position or not after.agrees(found):
        return None
    return Scan(rows[1:], Mark(rows[-1].position, rows[-1].event_id))


def repeated(events: Sequence[NewEvent], stored: Sequence[StoredEvent | None]) -> Appended | None:
    """Judge an append by what the log holds under its event ids; None if it holds none of them.

    Raises:
        DuplicateEventIdError: the ids were used for something else than exactly this append, or one of them twice
            within it.
    """
    if len(events) > 1:
        _refuse_twins(events)
    known = [earlier for earlier in stored if earlier is not None]
    if not known:
        return None
    first, last = known[0].position, known[0].position + len(events) - 1
    for place, (event, earlier) in enumerate(zip(events, stored, strict=True), first):
        if earlier is not None and (earlier.position != place or not is_repeat(event, earlier)):
            raise DuplicateEventIdError(UUID(bytes=event.event_id))
    if len(known) < len(events):
        raise DuplicateEventIdError(UUID(bytes=known[0].event_id))
    return Appended(first, last, repeated=True, version=known[-1].version, rows=tuple(known))


def _refuse_twins(events: Sequence[NewEvent]) -> None:
    ids = [event.event_id for event in events]
    if len(set(ids)) < len(ids):
        raise DuplicateEventIdError(UUID(bytes=next(each for each in ids if ids.count(each) > 1)))


def found_command(found: Sequence[Sequence[Any]]) -> FoundCommand | None:
    """Return a command, given rows of which each has its columns with the checksum, and one of its events.

    None is returned if its events are beyond the end of the log.

    Raises:
        CorruptCommandError: it does not match its checksum.
    """
    command_id, content_hash, result, name, first, last, checksum, position, *_ = found[0]
    record = intact_command(CommandRecord(command_id, content_hash, result, name), first, last, checksum)
    if position is None:
        return None
    rows = tuple(StoredEvent(*row[7:]) for row in found)
    appended = Appended(first, last, result=result, version=rows[-1].version)
    return FoundCommand(record, appended, rows)


def repeated_command(command: CommandRecord, known: FoundCommand) -> Appended:
    """Return the first outcome of a command that is recorded already.

    Raises:
        CommandReusedError: the command of that time had another content.
    """
    earlier, appended, rows = known
    if earlier.content_hash != command.content_hash:
        raise CommandReusedError(UUID(bytes=command.command_id))
    return appended._replace(repeated=True, result=earlier.result, rows=rows)


def version_rejection(
    stream_id: str, expected: ExpectedVersion, version: int, newer: Sequence[StoredEvent]
) -> Rejected:
    """Return the rejection of an append whose stream is not at the expected version."""
    reason = f"stream {stream_id!r} is at version {version}, expected {expected!r}"
    return Rejected(reason, tuple(newer[:MAX_CONFLICTS]), stream_id, version)


def ended_rejection(last: StoredEvent) -> Rejected:
    """Return the rejection of an append to a stream that takes no more events, given its last one."""
    how = "tombstoned" if last.type == TOMBSTONED else "closed"
    return Rejected(f"stream {last.stream_id!r} is {how}", (last,), last.stream_id, last.version)


def condition_rejection(condition: AppendCondition, conflicts: Sequence[StoredEvent]) -> Rejected:
    """Return the rejection of an append whose condition does not hold.

    Without conflicts, a stream was tombstoned behind the condition's position.
    """
    if not conflicts:
        return Rejected(
            f"the append condition cannot be judged: a stream was tombstoned after {condition.after}, and events that "
            f"matched may be removed; read again"
        )
    reason = f"the append condition fails on event {conflicts[0].position}, after {condition.after}"
    return Rejected(reason, tuple(conflicts[:MAX_CONFLICTS]))
