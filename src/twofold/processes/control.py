"""Looking after processes, without their code: what the command line and `app.processes` have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from twofold.arguments import check_flag
from twofold.errors import StorageUnavailableError, UnknownProcessError
from twofold.log.codec.event_types import EventTypes
from twofold.log.event_store import EventStore
from twofold.messages.context import caused_by, current_metadata
from twofold.messages.event_query import EventQuery
from twofold.messages.ids import uuid7
from twofold.messages.stored_event import StoredEvent
from twofold.options import ProcessOptions
from twofold.ports.checkpoints import SQL, Generation
from twofold.ports.event_log import Append, EventLog, Rejected
from twofold.ports.inline import AppendEvents, Steps, WriteRows
from twofold.ports.read_database import Changes, ReadDatabase
from twofold.ports.segments import slot_of
from twofold.ports.table import Table
from twofold.processes.inputs import encode
from twofold.processes.instance import Failure, Instance, ProcessState, after_step, moment_of
from twofold.processes.retention import prune
from twofold.processes.rows import InstanceRow, row_of, statement, table_of
from twofold.processes.steps import Cancelled, ProcessStep, stream_of, stream_type_of
from twofold.projections.keys.keyed_event import key_text
from twofold.pruning import checked_age, counted
from twofold.synchronizer import parking

TRIES = 20
"""How often an operator's decision is tried while the instance takes in something else at the same time."""


@dataclass(frozen=True, kw_only=True)
class ProcessInstance:
    """An instance of a process, as its row shows it."""

    process: str
    id: str
    status: ProcessState
    version: int
    """Inputs that it has taken in."""
    started_at: datetime
    changed_at: datetime
    next_at: datetime | None
    """When it has something to do next; None if it waits for events only."""
    timer_at: datetime | None
    """When the first of its timers is due."""
    waiting: int
    """Commands that it has sent and that have no outcome yet."""
    ignored: int
    """Inputs that came after its end."""
    failures: Sequence[Failure]
    """Why it does not get on."""


@dataclass(frozen=True, kw_only=True)
class ProcessDelays:
    """What of the instances of a process does not get on. To ask costs the same however many wait or have ended."""

    stuck: int = 0
    timer_late: timedelta = timedelta()
    """Age of the oldest timer that is due; zero if none is."""
    oldest_command: timedelta = timedelta()
    """Age of the oldest command that has no outcome; zero if all have one."""


@dataclass(frozen=True, kw_only=True)
class ProcessCounts(ProcessDelays):
    """How the instances of a process stand."""

    running: int = 0
    completed: int = 0
    cancelled: int = 0
    ignored: int = 0
    """Inputs that came after the end of their instances."""


async def processes_of(database: ReadDatabase) -> dict[str, Generation]:
    """Return the processes that a database has instances of, by name.

    Raises:
        StorageError: the database failed.
    """
    found = [Generation(*row) for row in await database.query(SQL["generations"])]
    return {each.name: each for each in found if "process" in each.parts}


class ProcessControl:
    """Commands the instances of a process, without its code.

    All of its methods raise `UnknownProcessError` if there is no process or instance of this name, and `StorageError`
    if the database fails.

    Args:
        log: where the streams of the instances are.
        database: where their rows are.
        name: of the process.
        options: of its workers.
    """

    def __init__(self, log: EventLog, database: ReadDatabase, name: str, options: ProcessOptions | None = None) -> None:
        self.name = name
        self._options = options or ProcessOptions()
        self._log = log
        self._database = database

    async def list(self, *, status: str = "", after: str = "", limit: int = 100) -> Sequence[ProcessInstance]:
        """Return instances in the order of their ids; those that ended long ago are not among them, see `prune`.

        Args:
            status: only those that are `running`, `stuck`, `completed` or `cancelled`.
            after: only those behind this id.
            limit: the most of them.
        """
        if status:
            status = ProcessState(status).value
        sql = statement("instances", await self._table())
        rows = await self._database.query(sql, status=status, after=after, limit=limit)
        return [self._shown(InstanceRow(*row)) for row in rows]

    async def find(self, process_id: str) -> ProcessInstance | None:
        """Return one instance; None if there is none of this id."""
        row = await self._row_or_none(await self._table(), process_id)
        return None if row is None else self._shown(row)

    async def get(self, process_id: str) -> ProcessInstance:
        """Return one instance."""
        return self._shown(await self._row(await self._table(), process_id))

    async def steps(self, process_id: str, *, limit: int = 1000) -> Sequence[StoredEvent]:
        """Return what an instance has taken in, and what followed from it, as it stands in its stream."""
        await self._row(await self._table(), process_id)
        return await self._log.read_stream(stream_of(self.name, process_id), limit=limit)

    async def counts(self) -> ProcessCounts:
        """Return how the instances stand."""
        rows = await self._database.query(statement("counts", await self._table()))
        number = {status: count for status, count, _ in rows}
        ignored, delays = int(sum(row[2] for row in rows)), await self.delays()
        return ProcessCounts(
            **number, ignored=ignored, timer_late=delays.timer_late, oldest_command=delays.oldest_command
        )

    async def delays(self) -> ProcessDelays:
        """Return what does not get on."""
        table = await self._table()
        [[now]] = await self._database.query(SQL["now"])
        until = now + int(self._options.backoff.last * 1e6)  # whatever fails is tried again by then
        [[stuck, timer_at, sent_at]] = await self._database.query(statement("pressing", table), until=until)
        return ProcessDelays(stuck=stuck, timer_late=_age(now, timer_at), oldest_command=_age(now, sent_at))

    async def retry(self, process_id: str = "") -> int:
        """Let instances go on that fail or are stuck, and events be tried again that are parked; return how many."""
        table = await self._table()
        async with self._database.transaction() as transaction:
            going_on = await transaction.run(statement("retry", table), id=process_id)
        key = key_text((process_id,)) if process_id else ""
        return len(going_on) + await parking.retry(self._database, self.name, key)

    async def restore(self) -> int:
        """Make the rows of instances again from their streams, where they are missing; return how many.

        A copy of a log has the streams and not the rows, so that no process goes on in it by itself. After this, timers
        fire and commands are sent there, too: only do it where the copy takes the place of the original.
        """
        table = await self._table()
        found: dict[str, Instance] = {}
        async for recorded in self._store().read(EventQuery.of(ProcessStep)):
            if recorded.stream_type == stream_type_of(self.name):
                process_id = recorded.stream_id.removeprefix(stream_of(self.name, ""))
                instance = found.get(process_id) or Instance(process_id)
                found[process_id] = after_step(instance, recorded.event, None, caused_by(recorded))
        there = {row[0] for row in await self._database.load(table, [(each,) for each in found])}
        missing = [row_of(instance) for process_id, instance in found.items() if process_id not in there]

        def steps() -> Steps[None]:
            yield WriteRows(table, Changes(missing))

        if missing:
            async with self._database.transaction() as transaction:
                await transaction.carry_out(steps())
        return len(missing)

    async def prune(
        self,
        *,
        older_than: timedelta | None = None,
        write: bool = True,
        progress: Callable[[int], object] = lambda _: None,
    ) -> int:
        """Remove the rows of instances that ended long ago, slice by slice, and return how many those were.

        Their streams stay: `get` and `steps` show them as before, `list` and `counts` no longer do, and what comes for
        them later is ignored. The process may run on. Interrupted, it is run again.

        Args:
            older_than: how long ago, by the database's clock; by default `ProcessOptions.ended_kept`.
            write: whether they are removed; else they are only counted.
            progress: told how many were found so far.

        Raises:
            TypeError, ValueError: an argument cannot work, such as a negative age.
        """
        check_flag("write", write)
        age, table = checked_age(older_than, self._options.ended_kept), await self._table()
        slices = prune(self._database, table, age, self._options.pruned_at_once, write=write)
        return await counted(slices, progress)

    async def cancel(
        self, process_id: str, *, reason: str, even_unstarted: bool = False, only_waiting: bool = False
    ) -> bool:
        """End an instance: its timers and its commands are dropped, and what comes later is ignored.

        A command that is being carried out at this moment may still take effect.

        Args:
            process_id: which.
            reason: why; it is recorded.
            even_unstarted: whether one that has taken nothing in yet is ended before it starts.
            only_waiting: whether one goes on that waits for no timer.

        Returns:
            Whether it was still running.

        Raises:
            ValueError: there is no reason.
        """
        if not reason.strip():
            raise ValueError("say why: the reason is recorded for those who ask later")
        table = await self._table()
        for _ in range(TRIES):
            row = await self._row_or_none(table, process_id)
            if row is None and not even_unstarted:
                raise self._unknown(process_id)
            if row is not None and row.status in (ProcessState.COMPLETED, ProcessState.CANCELLED):
                return False
            if only_waiting and row is not None and row.timer_at is None:
                return False
            if await self._cancelled(table, process_id, row, reason):
                return True
        raise StorageUnavailableError(
            f"{self.name} {process_id!r} takes in so much at this moment that it could not be cancelled; try again"
        )

    async def _cancelled(self, table: Table, process_id: str, row: InstanceRow | None, reason: str) -> bool:
        [[now]] = await self._database.query(SQL["now"])
        version = 1 + (row.version if row else 0)
        step = ProcessStep(Cancelled(reason), moment_of(now))
        ended = InstanceRow(
            process_id, slot_of(key_text((process_id,))), ProcessState.CANCELLED.value, version,
            row.started_at if row else now, now, None, None, None, 0, row.ignored if row else 0, "",
        )  # fmt: skip
        encoded = encode(EventTypes(), self.name, process_id, step, uuid7(), current_metadata())
        append = Append((encoded,), ((stream_of(self.name, process_id), version - 1),))

        def steps() -> Steps[Any]:
            yield WriteRows(table, Changes([ended]))
            if isinstance((yield AppendEvents(append)), Rejected):
                raise _MovedError

        try:
            async with self._database.transaction() as transaction:
                await transaction.carry_out(steps())
        except _MovedError:
            return False
        return True

    async def _table(self) -> Table:
        known = await processes_of(self._database)
        if self.name not in known:
            there = ", ".join(sorted(known)) or "none"
            raise UnknownProcessError(f"there is no process {self.name!r} in this database; there is {there}")
        return table_of(self.name, known[self.name].suffix)

    async def _row_or_none(self, table: Table, process_id: str) -> InstanceRow | None:
        rows = await self._database.load(table, [(process_id,)])
        return InstanceRow(*rows[0]) if rows else await self._ended_row(process_id)

    async def _ended_row(self, process_id: str) -> InstanceRow | None:
        """Return what the row of an instance was that ended so long ago that it has none; None if it has not ended."""
        instance = Instance(process_id)
        async for recorded in self._store().read_stream(stream_of(self.name, process_id)):
            instance = after_step(instance, recorded.event, None, caused_by(recorded))
        return InstanceRow(*row_of(instance)) if instance.ending and not instance.commands else None

    def _store(self) -> EventStore:
        """Return a store that knows the steps of processes alone."""
        store = EventStore(self._log, EventTypes())
        store.events.register(ProcessStep)
        return store

    async def _row(self, table: Table, process_id: str) -> InstanceRow:
        row = await self._row_or_none(table, process_id)
        if row is None:
            raise self._unknown(process_id)
        return row

    def _unknown(self, process_id: str) -> UnknownProcessError:
        return UnknownProcessError(
            f"{self.name} has no instance {process_id!r}; `twofold processes list` shows those that there are"
        )

    def _shown(self, row: InstanceRow) -> ProcessInstance:
        return ProcessInstance(
            process=self.name, id=row.id, status=ProcessState(row.status), version=row.version,
            started_at=moment_of(row.started_at), changed_at=moment_of(row.changed_at),
            next_at=None if row.next_at is None else moment_of(row.next_at),
            timer_at=None if row.timer_at is None else moment_of(row.timer_at),
            waiting=row.waiting, ignored=row.ignored, failures=list(row.failing().values()),
        )  # fmt: skip


def problems_of(delays: ProcessDelays, late: timedelta | None, options: ProcessOptions) -> Sequence[str]:
    """Return what is wrong with the instances of a process."""
    found = []
    if delays.stuck:
        found.append(f"{delays.stuck} instances are stuck; `twofold processes list --status stuck` shows why")
    limit = late or timedelta(seconds=options.late)
    if delays.timer_late > limit:
        found.append(f"the oldest timer is {delays.timer_late.total_seconds():.1f} s late")
    if delays.oldest_command > limit:
        found.append(f"the oldest command has waited for {delays.oldest_command.total_seconds():.1f} s")
    return found


def _age(now: int, oldest: int | None) -> timedelta:
    return timedelta(microseconds=0 if oldest is None else max(now - oldest, 0))


class _MovedError(Exception):
    """The instance took something in at the same time."""
