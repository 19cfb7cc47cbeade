"""The application: where the parts are wired, in ordinary Python."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Self, TypeVar

from twofold.arguments import check_flag, check_instance, check_texts
from twofold.checks.application import ApplicationChecks
from twofold.checks.findings import Finding, without
from twofold.commands.aggregate import Aggregate
from twofold.commands.bus import CommandBus
from twofold.commands.repository import Repository
from twofold.engines.engine import Engine, check_address, connect, connect_keys, connect_replica
from twofold.errors import OwnershipError, StorageError
from twofold.log.codec.event_types import EventTypes
from twofold.log.event_store import EventStore
from twofold.log.keys.master_key import MasterKeys, MasterKeySource
from twofold.messages.event import event_type_of
from twofold.messages.event_query import EventQuery
from twofold.messages.personal import SubjectForgotten
from twofold.messages.tenant_names import tenant_of
from twofold.middleware import Middleware, checked
from twofold.monitoring.observing import StatusObserver
from twofold.monitoring.status import SharedStatus
from twofold.options import Options
from twofold.ports.owner import Owner
from twofold.privacy.privacy import Privacy
from twofold.processes.processes import Processes
from twofold.queries.bus import QueryBus
from twofold.synchronizer.preparation import ChangedCode
from twofold.synchronizer.synchronizer import ReadModelSynchronizer
from twofold.tasks import run_in_thread

A = TypeVar("A", bound=Aggregate)


class Application:
    """An event store, two buses, projections and processes, on one database.

    Args:
        url: `sqlite:///orders.db`, `postgresql://…`, `memory://` for unit tests, or that of another package's engine.
        engine: in place of a URL, an engine that is made already.
        read_url: another database for the read models, if they are to live apart from the log.
        replica_url: a streaming standby of the read models' PostgreSQL database, which then answers the queries.
        middleware: wrapped around all command and query handlers, the first outermost.
        synchronize: whether this process runs the projections; others may do so instead.
        changed_code: what to do at the start about a projection whose code changed and whose version did not.
        options: all that can be tuned; the defaults are what was measured.
        keys_url: where the keys of personal fields are: a SQLite file of their own, or a PostgreSQL database, in
            which they get a schema of their own.
        master_key: what wraps those keys; by default `TWOFOLD_MASTER_KEY` or `TWOFOLD_MASTER_KEY_FILE` says it.
        tenants: whether it serves several tenants, none of whom sees or changes what is another's. Everything is then
            on behalf of the tenant whom `twofold.metadata(tenant=…)` has set, and refused where none is set.

    Attributes:
        store: the event store: appends, reads and follows events.
        commands: the command bus: register a handler for each command, and dispatch commands.
        queries: the query bus: register a handler for each query, and dispatch queries.
        projections: the synchronizer: add projections, wait for them, and look after their read models.
        privacy: the privacy of persons: forgets them, tells what is known of one, and looks after their keys.
        processes: the processes: add those that send commands and set timers, and look after their instances.
        status: the look that all who ask share at where log, read models and processes stand: `await app.status.ask()`.

    Raises:
        ValueError: a URL names no known engine, or neither or both of a URL and an engine are given.
        TypeError: an argument is of another type.
        InvalidHandlerError: one of the middleware cannot work.
    """

    store: EventStore
    commands: CommandBus
    queries: QueryBus
    projections: ReadModelSynchronizer
    privacy: Privacy
    processes: Processes
    status: SharedStatus

    def __init__(
        self,
        url: str | None = None,
        *,
        engine: Engine | None = None,
        read_url: str | None = None,
        replica_url: str | None = None,
        middleware: Sequence[Middleware] = (),
        synchronize: bool = True,
        changed_code: ChangedCode = "warn",
        options: Options | None = None,
        keys_url: str | None = None,
        master_key: MasterKeySource | MasterKeys | None = None,
        tenants: bool = False,
    ) -> None:
        if options is not None:
            check_instance("options", options, Options)
        check_flag("synchronize", synchronize)
        middleware = checked(middleware)
        for name, given in (("read_url", read_url), ("replica_url", replica_url)):
            check_address(name, given)
        options = options or Options()
        engine = _engine(url, engine, options)
        read_db = connect(read_url, options=options).read_database if read_url else engine.read_database
        self._synchronize = synchronize
        self._owner: Owner | None = None
        keys = connect_keys(url, keys_url, master_key, options=options)
        self.store = EventStore(engine.log, options=options.log, keys=keys, tenants=tenants)
        self.commands = CommandBus(self.store, middleware=middleware, options=options.commands)
        self.projections = ReadModelSynchronizer(
            self.store,
            read_db,
            replica=connect_replica(replica_url, options=options) if replica_url else None,
            changed_code=changed_code,
            scratch=engine.scratch,
            options=options.synchronizer,
            query_options=options.queries,
        )
        self.privacy = Privacy(self.store, self.projections)
        self.processes = Processes(self.store, read_db, self.projections, self.commands, options)
        self.queries = QueryBus(middleware=middleware, progress=self.projections.progress)
        self.status = SharedStatus(self.store, self.projections, self.processes)
        self._observer = StatusObserver(self.status, options.monitoring)

    def repository(self, aggregate_type: type[A]) -> Repository[A]:
        """Return the repository of a type of aggregates.

        Raises:
            InvalidMessageTypeError: one of its events cannot be stored as declared.
        """
        return Repository(self.store, aggregate_type, self.commands)

    def check(self, *, packages: Sequence[str] = (), ignore: Collection[str] = ()) -> list[Finding]:
        """Return what the code declares and never uses, or uses and never declares; see the reference of the checks.

        Args:
            packages: where messages and decision models are declared; by default the packages of all that is
                registered. What is to be looked at must be imported.
            ignore: codes such as `TF003`, or `TF003:OrderPrinted` for one subject alone.

        Raises:
            ValueError: there is no check of such a code.
            TypeError: an argument is of another type.
        """
        return without(self._checks(check_texts("packages", packages)).of_code(), check_texts("ignore", ignore))

    async def check_log(self, *, ignore: Collection[str] = ()) -> list[Finding]:
        """Return what the log and the read models hold that the code does not know. Their databases must be open.

        Args:
            ignore: as for `check`.

        Raises:
            ValueError, TypeError: as for `check`.
            TenantMissingError: there are tenants, and this code does not run on behalf of all.
            StorageError: a database failed.
        """
        return without(await self._checks(()).of_log(), check_texts("ignore", ignore))

    def event_types(self, packages: Sequence[str] = ()) -> EventTypes:
        """Return the classes of events that the application has registered, and those that packages declare.

        Args:
            packages: where events are declared; by default the packages of all that is registered.

        Raises:
            TypeError: an argument is of another type.
        """
        return self._checks(check_texts("packages", packages)).event_types()

    def _checks(self, packages: Sequence[str]) -> ApplicationChecks:
        return ApplicationChecks(self.store, self.commands, self.queries, self.projections, packages)

    async def start(self) -> None:
        """Open the databases and begin to run the projections.

        Raises:
            OwnershipError: the application is started already, here or in another process or event loop.
            InvalidHandlerError: a query says that it reads what is no projection.
            TagsMissingError: a class of events has a tag that its stored events lack.
            InvalidProjectionError: a projection's rows changed and its version did not.
            StorageError: a database cannot be opened, or its log belongs to tenants and this has none, or the other
                way round; the text names the remedy.
        """
        self.queries.check()
        if self._owner is not None:
            self._owner.check()
            raise OwnershipError("the application is started already; start it once, or make another one")
        self._owner = Owner("the application")
        try:
            await self.store._log.open()
            await self._refuse_log_of_other_tenancy()
            if self.store.keys is not None:
                await run_in_thread(self.store.keys.open)
            await self.store.compare_tags()
            for database in self.projections._databases:
                await database.open()
            await self.projections.prepare()
        except BaseException:
            await self.stop()
            raise
        if self._synchronize:
            self.projections.begin()
            self.privacy.begin()
        self._observer.begin()

    async def _refuse_log_of_other_tenancy(self) -> None:
        """Make sure by the first and the newest event that the log has tenants if this application has, else none."""
        log, everything = self.store._log, EventQuery.all()
        last = max(await log.head() - 1, 0)
        rows = [*await log.read(everything, limit=1), *await log.read(everything, after=last, limit=1)]
        of_none = event_type_of(SubjectForgotten).name  # stands in logs of both kinds
        owners = [tenant_of(row) for row in rows if row.type != of_none]
        if not owners or (self.store._has_tenants and any(owners)):  # events of none may stand between those of tenants
            return
        if tenant := next(filter(None, reversed(owners)), None):
            raise StorageError(
                f"the events of this log belong to tenants, the newest to {tenant!r}, and this application would mix "
                f"them; write Application(…, tenants=True)"
            )
        if not self.store._has_tenants:
            return
        raise StorageError(
            "the events of this log belong to no tenant, so that no tenant of this application would see them; leave "
            "`tenants` out, or begin with an empty database and copy them into it on behalf of their tenants"
        )

    async def stop(self) -> None:
        """Stop the projections and close the databases; may be repeated.

        Raises:
            OwnershipError: the application was started in another process or event loop.
        """
        if self._owner is not None:
            self._owner.check()
        await self._observer.end()
        await self.privacy.end()
        await self.projections.end()
        await self.projections.close()
        for database in self.projections._databases:
            await database.close()
        await self.store.snapshots.end()
        await self.store._log.close()
        if self.store.keys is not None:
            await run_in_thread(self.store.keys.close)
        self._owner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @asynccontextmanager
    async def lifespan(self, _: object) -> AsyncIterator[None]:
        """Run the application as long as a web framework runs: `FastAPI(lifespan=app.lifespan)`."""
        async with self:
            yield


def _engine(url: str | None, engine: Engine | None, options: Options) -> Engine:
    if engine is not None and url is None:
        check_instance("engine", engine, Engine, "such as twofold.engines.engine.connect(url) makes")
        return engine
    if url is not None and engine is None:
        check_address("url", url)
        return connect(url, options=options)
    raise ValueError('give a URL or an engine: Application("sqlite:///orders.db"), or Application(engine=…)')
