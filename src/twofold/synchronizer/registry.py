"""The projections of an application: what each needs to be run, and where its questions are answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from twofold.arguments import check_choice
from twofold.errors import InvalidProjectionError, UnknownProjectionError
from twofold.log.event_store import EventStore
from twofold.messages.event import RawEvent
from twofold.options import FoldOptions, QueryOptions
from twofold.ports.positions import Positions
from twofold.ports.read_database import ReadDatabase
from twofold.projections.declaration import check_declaration, check_events
from twofold.projections.kinds import drive_of, runner_of
from twofold.projections.runner import Drive, ProjectionKind, ProjectionRunner, RowRunner, Start
from twofold.projections.sql_projection import SqlProjection
from twofold.queries.consistency import Progress
from twofold.queries.overlay import Overlay
from twofold.queries.read_model import ReadModel
from twofold.queries.read_model_progress import ReadModelProgress
from twofold.synchronizer.aside.on_demand import OnDemandRows
from twofold.synchronizer.aside.past_rows import PastRows


class Registered(NamedTuple):
    """A projection that has a read model to be worked on."""

    runner: ProjectionRunner
    database: ReadDatabase
    written: ReadModelProgress
    """Where its read model stands in the database that it is written to."""
    served: ReadModelProgress
    """Where it stands in the database that answers questions: the same, or a replica."""
    start: Start

    def forget(self) -> None:
        """Look up again which generation serves, at the next question."""
        self.written.serving.forget()
        self.served.serving.forget()


class Registry:
    """Takes projections on, each under its own name.

    Args:
        store: where the events are.
        read_db: where the read models are, unless a projection has a database of its own.
        replica: follows `read_db`, and answers the questions in its place.
        batch_size: events that are folded and committed together, at most.
        options: how the read models wait and look.
        folding: how long folds take at a time.
        scratch: gives a database for the rows of a projection that is folded on demand.
        tenants: whether each row is a tenant's.
    """

    def __init__(
        self,
        store: EventStore,
        read_db: ReadDatabase,
        *,
        replica: ReadDatabase | None = None,
        batch_size: int | None = None,
        scratch: Callable[[], ReadDatabase] | None = None,
        options: QueryOptions = QueryOptions(),  # noqa: B008 - it is immutable
        folding: FoldOptions = FoldOptions(),  # noqa: B008 - it is immutable
        tenants: bool = False,
    ) -> None:
        self._options = options
        self._has_tenants = tenants
        self._folding = folding
        self.positions = Positions()
        """How far the read models have come where they are written, as this process knows it."""
        self.faults: Callable[[], Mapping[str, str]] = dict
        """What fails at present in this process, by the names of projections."""
        self.stored: dict[str, Registered] = {}
        self.on_demand: dict[str, OnDemandRows] = {}
        self.read_models: dict[str, ReadModel[Any]] = {}
        """Those that answer questions, by the names of their projections."""
        self.progress: dict[str, Progress] = {}
        """How far the read models are that can be queried, where they answer, by name."""
        self._store = store
        self._read_db = read_db
        self._replica = replica
        self._replicated = Positions()
        self._batch_size = batch_size
        self._scratch = scratch

    def add(
        self, projection: Any, *, kind: ProjectionKind, start: Start | None, database: ReadDatabase | None
    ) -> ReadModel[Any] | None:
        """Take on a projection; see `ReadModelSynchronizer.add`."""
        drive = drive_of(kind)
        if start is not None:
            check_choice("start", start, Start, InvalidProjectionError)
        check_declaration(projection)
        if self._has_tenants:
            _of_tenants(projection)
        self._refuse_taken(projection.name)
        if not drive.is_stored:
            return self._add_on_demand(projection, drive, start, database)
        database = database or self._read_db
        registered = self._register(self._runner(database, projection, drive), start, database)
        if (rows := registered.runner.rows) is None:
            return None
        asked = self._asked(registered.database)
        progress, overlay = registered.served, None
        if rows.folds_single_rows:
            overlay = Overlay(self._store, asked, rows, progress.serving, self._options)
        past = self._past(asked, rows, registered.start)
        model: ReadModel[Any] = ReadModel(asked, rows.projection, progress, overlay, options=self._options, past=past)
        self.read_models[projection.name] = model
        return model

    def _past(self, database: ReadDatabase, rows: RowRunner, start: Start = "beginning") -> PastRows:
        return PastRows(self._store, database, rows, start, self._scratch, self._options)

    def add_runner(self, runner: ProjectionRunner, start: Start | None) -> None:
        """Take on what is no projection and is fed as one; see `ReadModelSynchronizer.add_runner`."""
        self._refuse_taken(runner.name)
        if self._has_tenants:
            _of_tenants(runner.projection)
        self._register(runner, start, self._read_db)

    def _refuse_taken(self, name: str) -> None:
        if name in self.stored or name in self.on_demand:
            raise InvalidProjectionError(
                f"there is a projection or a process named {name!r} already; rename one, or add it once"
            )

    def of(self, name: str) -> Registered:
        """Return one that has a read model to be worked on.

        Raises:
            UnknownProjectionError: there is none of this name.
            InvalidProjectionError: it is folded on demand.
        """
        if name in self.on_demand:
            raise InvalidProjectionError(f"{name} is folded on demand; there is nothing to be worked on")
        if name not in self.stored:
            raise UnknownProjectionError(name, self.stored)
        return self.stored[name]

    def by_database(self) -> Sequence[tuple[ReadDatabase, Mapping[str, ProjectionRunner]]]:
        """Return what is written to each database, the synchronizer's own first."""
        found: dict[int, tuple[ReadDatabase, dict[str, ProjectionRunner]]] = {id(self._read_db): (self._read_db, {})}
        for name, registered in self.stored.items():
            found.setdefault(id(registered.database), (registered.database, {}))[1][name] = registered.runner
        return list(found.values())

    def _all_faults(self) -> Mapping[str, str]:
        return self.faults()

    def _register(self, runner: ProjectionRunner, start: Start | None, database: ReadDatabase) -> Registered:
        self._check(runner)
        runner.drive.attach(runner, self._store.log, self._store.events, database)
        told = self._all_faults
        written = served = ReadModelProgress(
            self._store, database, runner, self.positions, self._options, self._all_faults
        )
        if (asked := self._asked(database)) is not database:
            served = ReadModelProgress(self._store, asked, runner, self._replicated, self._options, told)
        registered = Registered(runner, database, written, served, start or runner.start)
        self.stored[runner.name] = registered
        if runner.has_read_model:
            self.progress[runner.name] = served
        return registered

    def _asked(self, database: ReadDatabase) -> ReadDatabase:
        """Return the database that answers questions about what is written to another."""
        return self._replica if self._replica is not None and database is self._read_db else database

    def _add_on_demand(
        self, projection: Any, drive: Drive, start: Start | None, database: ReadDatabase | None
    ) -> ReadModel[Any]:
        if start == "now" or database is not None:
            raise InvalidProjectionError(f"{projection.name} is folded from all events, and stored nowhere")
        if self._scratch is None:
            raise InvalidProjectionError(
                f"{projection.name} cannot be folded on demand; give the synchronizer "
                f"`scratch=twofold.engines.scratch_database`"
            )
        scratch = self._scratch()
        runner = self._runner(scratch, projection, drive)
        self._check(runner)
        rows = cast(RowRunner, runner.rows)  # a drive without stored rows refuses what does not fold them
        folded = self.on_demand[projection.name] = OnDemandRows(self._store, scratch, rows)
        if self._store.keys is not None:
            self._store.keys.on_forgotten(folded.invalidate)
        self.progress[projection.name] = folded
        past = self._past(scratch, rows)
        model: ReadModel[Any] = ReadModel(scratch, rows.projection, folded, options=self._options, past=past)
        self.read_models[projection.name] = model
        return model

    def _runner(self, database: ReadDatabase, projection: Any, drive: Drive) -> ProjectionRunner:
        return runner_of(projection, database, self._batch_size or database.batch_size, drive, self._folding)

    def _check(self, runner: ProjectionRunner) -> None:
        """Refuse what cannot work, and make its events known."""
        projection = runner.projection
        for name in projection.follows:
            if name not in self.stored:
                raise InvalidProjectionError(f"{projection.name} follows {name!r}; add that one before it")
        runner.drive.refuse(runner, [self.stored[name].runner for name in projection.follows])
        if not projection.handles():
            raise InvalidProjectionError(f"{projection.name} handles no event; mark a method with @on(...)")
        check_events(projection)
        self._store.events.register(*(each for each in projection.handles() if each is not RawEvent))


def _of_tenants(projection: Any) -> None:
    """Let the rows and keys of a projection say whose they are.

    Raises:
        InvalidProjectionError: it writes SQL of its own, which nothing narrows, and does not say that this does.
    """
    if isinstance(projection, SqlProjection) and not projection.keeps_tenants_apart:
        raise InvalidProjectionError(
            f"{projection.name} writes SQL of its own, and this application has tenants; let each row and each of its "
            f"statements name the tenant, `recorded.tenant`, and declare `keeps_tenants_apart = True`"
        )
    projection._of_tenants = True
