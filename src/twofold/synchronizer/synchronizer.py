"""The synchronizer: keeps read models in step with the log."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar, overload

from twofold.arguments import (
    check_choice,
    check_function,
    check_instance,
    check_iterable,
    check_number,
    check_port,
    check_text,
    check_texts,
    check_whole,
)
from twofold.errors import InvalidProjectionError
from twofold.log.event_store import EventStore
from twofold.log.retention import Retention
from twofold.log.shared_scans import SharedScans
from twofold.messages.receipt import Receipt
from twofold.messages.session import WriteToken
from twofold.options import QueryOptions, SynchronizerOptions
from twofold.ports.read_database import ReadDatabase
from twofold.projections.failure import described
from twofold.projections.kinds import drive_of
from twofold.projections.projection import Projection
from twofold.projections.reaction import Reaction
from twofold.projections.runner import ProjectionKind, ProjectionRunner, Start
from twofold.projections.sql_projection import SqlProjection
from twofold.queries.consistency import Progress, wait_for
from twofold.queries.read_model import ReadModel
from twofold.synchronizer.control import ProjectionControl
from twofold.synchronizer.overview import Overview
from twofold.synchronizer.preparation import ChangedCode, prepare_all
from twofold.synchronizer.rebuild_checks import Report
from twofold.synchronizer.rebuild_progress import RebuildProgress
from twofold.synchronizer.registry import Registry
from twofold.synchronizer.segments.factory import RunnerFactory
from twofold.synchronizer.status import ProjectionStatus
from twofold.synchronizer.worker import Worker
from twofold.tasks import Supervisor, end, keep_running
from twofold.tenants import require_all_tenants

R = TypeVar("R")


class ReadModelSynchronizer:
    """Runs projections: reads the log from each one's checkpoint on, folds, and writes rows and checkpoint together.

    Any number of processes may run the same projections: they share the work. An event that fails again and again is
    parked with the later ones of its row; none is skipped unless an operator says so. Killed at any point and started
    again, all goes on where it was, exactly.

    1. `prepare` makes the read models, or begins to build those of a new version.
    2. `run` starts one worker for each database; a worker that fails is tried again, and holds up no other. Beside them
       it removes what the log has kept of commands for longer than `LogOptions.commands_kept`.
    3. Each worker leases its share of the segments, and a runner for each keeps it in step with the log.
    4. `status` reads what stands in the databases, and adds what fails in this process; `control` commands one.

    Args:
        event_store: where the events are.
        read_db: where the read models are.
        projections: what to run; more can be added until `run` is called.
        batch_size: events that are folded and committed together, at most, by default as many as suit the database;
            those that write SQL take fewer.
        replica: a copy of `read_db` that follows it, such as a streaming standby of PostgreSQL, and that answers the
            questions in its place; waiting for a read model is waiting for it there.
        scratch: gives a database for the rows of a projection on demand, which closing it deletes.
        changed_code: what to do at the start about a projection whose code changed and whose version did not: `warn`,
            `refuse` or `ignore`.
        options: leases, retries, pauses and sizes.
        query_options: how the read models wait and look.
    """

    def __init__(
        self,
        event_store: EventStore,
        read_db: ReadDatabase,
        projections: Iterable[Projection[Any] | SqlProjection | Reaction] = (),
        *,
        batch_size: int | None = None,
        replica: ReadDatabase | None = None,
        scratch: Callable[[], ReadDatabase] | None = None,
        changed_code: ChangedCode = "warn",
        options: SynchronizerOptions | None = None,
        query_options: QueryOptions | None = None,
    ) -> None:
        check_instance("event_store", event_store, EventStore)
        check_port("read_db", read_db, "read database", "open", "transaction", "read")
        check_choice("changed_code", changed_code, ChangedCode)
        if options is not None:
            check_instance("options", options, SynchronizerOptions)
        if query_options is not None:
            check_instance("query_options", query_options, QueryOptions)
        if replica is not None:
            check_port("replica", replica, "read database", "open", "read")
        if scratch is not None:
            check_function("scratch", scratch)
        check_iterable("projections", projections)
        if batch_size is not None:
            check_whole("batch_size", batch_size, 1)
        self._store, self._has_tenants = event_store._of_all, event_store._has_tenants
        self._options = options or SynchronizerOptions()
        self._replica = replica
        self._changed_code: ChangedCode = changed_code
        self._registry = Registry(
            self._store,
            read_db,
            replica=replica,
            batch_size=batch_size,
            scratch=scratch,
            options=query_options or QueryOptions(),
            folding=self._options.folding,
            tenants=self._has_tenants,
        )
        self._of = self._registry.of
        self._scans = SharedScans(self._store.log, self._options.shared_within, event_store.options)
        self._retention = Retention(self._store.log, event_store.options)
        self._workers: list[Worker] = []
        self._preparing = Supervisor(
            "the preparation of the read models", self._options.backoff, refusals=(InvalidProjectionError,)
        )
        self._is_prepared = False
        self._task: asyncio.Task[None] | None = None
        self._registry.faults = lambda: self.faults
        self.progress: Mapping[str, Progress] = self._registry.progress
        """How far the read models are, by the names of their projections; a `QueryBus` takes it."""
        for projection in projections:
            self.add(projection)

    @overload
    def add(
        self,
        projection: Projection[R],
        *,
        kind: ProjectionKind = ...,
        start: Start | None = ...,
        database: ReadDatabase | None = ...,
    ) -> ReadModel[R]: ...
    @overload
    def add(
        self, projection: SqlProjection | Reaction, *, start: Start | None = ..., database: ReadDatabase | None = ...
    ) -> None: ...

    def add(
        self,
        projection: Any,
        *,
        kind: ProjectionKind = "asynchronous",
        start: Start | None = None,
        database: ReadDatabase | None = None,
    ) -> ReadModel[Any] | None:
        """Take on a projection; return its read model, to be queried, if it is a keyed one.

        Args:
            projection: what to run.
            kind: when the rows follow from the events: `asynchronous`, soon after the append; `inline`, in its
                transaction, so that a failure rejects the append; `on_demand`, whenever a question is asked. The code
                of a keyed projection is the same for all three; others are asynchronous.
            start: whether it begins with the first event, as projections do, or with what comes after it was first
                added, as reactions do.
            database: where its read model is, if not in the synchronizer's own.

        Raises:
            InvalidProjectionError: it cannot work as declared, or its name is taken.
            InvalidMessageTypeError: an event that it handles cannot be stored as declared.
        """
        if database is not None:
            check_port("database", database, "read database", "open", "transaction", "read")
        self._is_prepared = False
        if self._workers and drive_of(kind).is_stored:
            raise InvalidProjectionError(
                f"{projection.name} was added after the start, so that no worker would run it; add it before `run`"
            )
        return self._registry.add(projection, kind=kind, start=start, database=database)

    def add_runner(self, runner: ProjectionRunner, *, start: Start | None = None) -> None:
        """Feed what is no projection, such as a process, as a reaction is fed: by segments, under leases.

        Raises:
            InvalidProjectionError: its name is taken, or this synchronizer runs already.
            InvalidMessageTypeError: an event that it handles cannot be stored as declared.
        """
        self._is_prepared = False
        if self._workers:
            raise InvalidProjectionError(
                f"{runner.name} was added after the start, so that no worker would run it; add it before `run`"
            )
        self._registry.add_runner(runner, start)

    @property
    def runners(self) -> Sequence[ProjectionRunner]:
        """What runs the projections, reactions and processes that were added."""
        on_demand = [each.runner for each in self._registry.on_demand.values()]
        return [*(each.runner for each in self._registry.stored.values()), *on_demand]

    @property
    def databases(self) -> Sequence[ReadDatabase]:
        """All that it works with, its own first; the owner of the synchronizer opens and closes them.

        Raises:
            TenantMissingError: there are tenants, and this code does not run on behalf of all.
        """
        self._require_all_tenants("a database of read models")
        return self._databases

    @property
    def _databases(self) -> Sequence[ReadDatabase]:
        written = [database for database, _ in self._registry.by_database()]
        return written if self._replica is None else [*written, self._replica]

    async def prepare(self) -> None:
        """Make the read models' tables, or begin to build those of a new version; `run` does it too.

        Inline ones that serve are brought up to the head of the log, whatever time that takes.

        Raises:
            InvalidProjectionError: a projection's rows changed and its version did not, or its code did and that is
                to be refused.
            StorageError: the database failed.
        """
        await prepare_all(self._store, self._registry, self._changed_code)
        self._is_prepared = True

    async def close(self) -> None:
        """Throw away what projections on demand have folded; may be repeated."""
        for rows in self._registry.on_demand.values():
            await rows.close()

    async def run(self) -> None:
        """Keep all projections in step with the log, together with other processes, until cancelled.

        Whatever fails is logged, shown by `status`, and tried again after a pause: a database that is away for a while
        ends nothing, and one that fails holds up only the read models in it.

        Raises:
            InvalidProjectionError: as `prepare`, unless that was called before.
        """
        await self._preparing.run(self._prepare_once)
        self._workers = [Worker(self._factory(*each)) for each in self._registry.by_database()]
        works = {f"twofold-worker-{number}": worker.run for number, worker in enumerate(self._workers)}
        if self._retention.is_on:
            works["twofold-retention"] = partial(self._retention.run, self._options.backoff)
        try:
            await keep_running(works, self._options.backoff)
        finally:
            self._workers = []

    def begin(self) -> None:
        """Run in the background, until `end`; if that is so already, change nothing."""
        if not self.is_running:
            self._task = asyncio.create_task(self.run(), name="twofold-synchronizer")

    @property
    def is_running(self) -> bool:
        """Whether `begin` has begun to run the projections in this process, and nothing has ended that since."""
        return self._task is not None and not self._task.done()

    async def end(self) -> None:
        """End what `begin` began; may be repeated."""
        task, self._task = self._task, None
        if task is not None:
            await end(task)

    @property
    def faults(self) -> Mapping[str, str]:
        """What fails at present in this process, by the names of the projections that it concerns."""
        found: dict[str, str] = {}
        if self._preparing.error is not None:
            found = dict.fromkeys(self._registry.stored, described(self._preparing.error)[0])
        for worker in self._workers:
            found |= worker.faults
        if self._task is not None and self._task.done():
            error = None if self._task.cancelled() else self._task.exception()
            why = f"has ended: {described(error)[0]}" if error else "was cancelled"
            found |= dict.fromkeys(self._registry.stored, f"the synchronizer {why}; start the application again")
        return found

    async def run_once(self, timeout: float | None = None) -> int:
        """Bring all projections up to the present head of the log, and return that position.

        Raises:
            TimeoutError: they did not get there in time.
            InvalidProjectionError, StorageError: as `prepare`.
        """
        if timeout is not None:
            check_number("timeout", timeout)
        await self.prepare()
        head = await self._store.head()
        running = asyncio.create_task(self.run(), name="twofold-synchronizer-once")
        arriving = asyncio.create_task(self._arrive(head), name="twofold-synchronizer-arriving")
        try:
            async with asyncio.timeout(timeout):
                done, _ = await asyncio.wait({running, arriving}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                await task
            return head
        finally:
            await end(running, arriving)

    async def wait(
        self, position: Receipt[Any] | WriteToken | int, timeout: float, projections: Collection[str] | None = None
    ) -> None:
        """Wait until the projections (by default all) have passed a position, in whichever process they run.

        Those on demand have passed whatever is in the log.

        Raises:
            StaleReadError: they had not after `timeout` seconds.
            InvalidTokenError: the position is of another history of the log, or of another log.
            UnknownProjectionError: there is none of that name.
            ReadModelBuildingError: one is being built, and what serves has other columns.
            StorageError: the database failed.
        """
        check_number("timeout", timeout)
        if projections is not None:
            projections = check_texts("projections", projections)
        if not isinstance(position, Receipt | WriteToken):
            check_whole("position", position)
        stored, on_demand = self._registry.stored, self._registry.on_demand
        names = stored if projections is None else projections
        waited = [on_demand[name] if name in on_demand else self._of(name).served for name in names]
        written, deadline = WriteToken.of(position).position, time.monotonic() + timeout
        await self._store.known_positions.compare(written)
        await wait_for(waited, written, deadline)
        await self._store.known_positions.compare(written)  # the log may have been restored since

    async def status(self) -> Sequence[ProjectionStatus]:
        """Return where all read models stand, by what their databases say: also those whose code is not here.

        Read models whose database cannot be asked are faulted. What fails in this process is shown, too.

        Raises:
            StorageError: the log's database failed.
            TenantMissingError: there are tenants, and this code does not run on behalf of all.
        """
        self._require_all_tenants("the status of the read models")
        return await Overview(self._store, self._registry, self._options).read(self.faults)

    def control(self, name: str) -> ProjectionControl:
        """Return what commands a read model: pause, resume, scale, retry, skip, rebuild, roll back.

        Raises:
            UnknownProjectionError: there is none of this name here.
            InvalidProjectionError: it is folded on demand, so that there is nothing to be commanded.
            TenantMissingError: there are tenants, and this code does not run on behalf of all.
        """
        check_text("name", name)
        self._require_all_tenants(f"looking after {name}")
        registered = self._of(name)
        factory = self._factory(registered.database, {name: registered.runner})
        return ProjectionControl(registered, self._store, factory, self._poke, self.status)

    def read_model(self, name: str) -> ReadModel[Any]:
        """Return the read model that `add` has returned for a projection.

        Raises:
            UnknownProjectionError: there is no projection of this name here.
            InvalidProjectionError: it has no rows that can be asked for: it writes SQL of its own, or has effects.
        """
        check_text("name", name)
        if (model := self._registry.read_models.get(name)) is not None:
            return model
        self._of(name)
        raise InvalidProjectionError(f"{name} has no rows that the framework folds; only its own code can read them")

    async def rebuild_projection(
        self,
        name: str,
        *,
        expect_same: bool = False,
        progress: Callable[[RebuildProgress], object] = lambda _: None,
    ) -> Report:
        """Build a read model again beside the one that serves, verify it, and let it take over in one transaction.

        All workers share the work, and go on with it should this process die or be cancelled; calling it again joins
        what is under way. Some worker must run, here or elsewhere.

        Args:
            name: the projection.
            expect_same: whether any difference to the rows that serve is a fault.
            progress: told now and then how far it has come.

        Raises:
            RebuildFailedError: the new rows did not pass the verification; the earlier ones serve on.
            NoWorkerError: no worker that has its code has been there for the length of a lease.
            UnknownProjectionError: there is none of this name.
            InvalidProjectionError: it is a reaction.
            StorageError: the database failed.
        """
        return await self.control(name).rebuild(expect_same=expect_same, progress=progress)

    # ---------------------------------------------------------------------------------------------------------------

    def _require_all_tenants(self, what: str) -> None:
        if self._has_tenants:
            require_all_tenants(what)

    async def _prepare_once(self) -> None:
        if not self._is_prepared:
            await self.prepare()

    def _factory(self, database: ReadDatabase, runners: Mapping[str, ProjectionRunner]) -> RunnerFactory:
        return RunnerFactory(
            store=self._store, database=database, runners=runners, positions=self._registry.positions,
            ceiling=self._ceiling, scans=self._scans, options=self._options,
        )  # fmt: skip

    def _poke(self) -> None:
        for worker in self._workers:
            worker.poke()

    async def _arrive(self, position: int) -> None:
        """Wait until all projections have passed a position, where their read models are written."""
        progresses = [each.written for each in self._registry.stored.values()]
        await asyncio.gather(*(each.wait(position, math.inf) for each in progresses))

    async def _ceiling(self, runner: ProjectionRunner, after: int, timeout: float) -> int:
        """Wait until there is more in the log, and until the projections that it follows have handled that."""
        deadline = time.monotonic() + timeout
        head = await self._store.log.wait(after, timeout)
        for name in runner.projection.follows if head > after else ():
            head = min(head, await self._of(name).written.wait(after + 1, deadline))
        return head
