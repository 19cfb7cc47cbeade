"""The projections of an application: what each needs to be run, and where its questions are answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, cast

from twofold.errors import InvalidProjectionError, UnknownProjectionError
from twofold.log.event_store import EventStore
from twofold.ports.positions import Positions
from twofold.ports.read_database import ReadDatabase
from twofold.projections.grouped import GroupedProjection
from twofold.projections.inline_projection import InlineProjection, attach
from twofold.projections.keyed_projector import GroupedProjector, KeyedProjector
from twofold.projections.projection import Projection, ProjectionKind
from twofold.projections.projector import Projector
from twofold.projections.reaction import Reaction
from twofold.projections.sql_projection import SqlProjection
from twofold.projections.sql_projectors import ReactionProjector, SqlProjector
from twofold.queries.overlay import Overlay
from twofold.queries.read_model import ReadModel
from twofold.synchronizer.on_demand import LiveReadModel, LiveRows
from twofold.synchronizer.read_model_progress import Standing

Start = Literal["beginning", "now"]


class Registered(NamedTuple):
    """A projection that has a read model to be worked on."""

    projector: Projector
    database: ReadDatabase
    standing: Standing
    """Where its read model stands in the database that it is written to."""
    served: Standing
    """Where it stands in the database that answers questions: the same, or a replica."""
    start: Start

    def forget(self) -> None:
        """Look up anew which generation serves, where that is asked next."""
        self.standing.place.forget()
        self.served.place.forget()


class Registrations:
    """Takes projections on, each under its own name.

    Args:
        store: where the events are.
        read_db: where the read models are, unless a projection has a database of its own.
        replica: follows `read_db`, and answers the questions in its place.
        batch_size: events that are folded and committed together, at most.
        scratch: gives a database for the rows of a live projection.
    """

    def __init__(
        self,
        store: EventStore,
        read_db: ReadDatabase,
        *,
        replica: ReadDatabase | None = None,
        batch_size: int | None = None,
        scratch: Callable[[], ReadDatabase] | None = None,
    ) -> None:
        self.positions = Positions()
        """How far the read models have come where they are written, as this process knows it."""
        self.stored: dict[str, Registered] = {}
        self.live: dict[str, LiveRows] = {}
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
        if projection.name in self.stored or projection.name in self.live:
            raise InvalidProjectionError(f"there are two projections named {projection.name!r}; rename one")
        if kind != "asynchronous" and not isinstance(projection, Projection):
            raise InvalidProjectionError(
                f"{projection.name} can be asynchronous only: it does not say which rows it changes"
            )
        if kind == "live":
            return self._add_live(projection, start, database)
        registered = self._register(projection, kind, start, database or self._read_db)
        if not isinstance(projection, Projection):
            return None
        asked = self._asked(registered.database)
        place, overlay = registered.served.place, None
        if not isinstance(projection, GroupedProjection):
            overlay = Overlay(self._store, asked, cast(KeyedProjector, registered.projector), place)
        return ReadModel(asked, projection, place, overlay)

    def of(self, name: str) -> Registered:
        """Return one that has a read model to be worked on.

        Raises:
            UnknownProjectionError: there is none of this name.
            InvalidProjectionError: it is a live one.
        """
        if name in self.live:
            raise InvalidProjectionError(f"{name} is folded whenever somebody asks; there is nothing to be worked on")
        if name not in self.stored:
            raise UnknownProjectionError(name, self.stored)
        return self.stored[name]

    def by_database(self) -> Sequence[tuple[ReadDatabase, Mapping[str, Projector]]]:
        """Return what is written to each database, the synchronizer's own first."""
        found: dict[int, tuple[ReadDatabase, dict[str, Projector]]] = {id(self._read_db): (self._read_db, {})}
        for name, registered in self.stored.items():
            found.setdefault(id(registered.database), (registered.database, {}))[1][name] = registered.projector
        return list(found.values())

    def _register(
        self, projection: Any, kind: ProjectionKind, start: Start | None, database: ReadDatabase
    ) -> Registered:
        projector = self._projector(database, projection, kind)
        self._check(projection, kind)
        if kind == "inline":
            attach(self._store.log, InlineProjection(cast(KeyedProjector, projector), self._store.events), database)
        standing = served = Standing(self._store, database, projector, self.positions)
        if (asked := self._asked(database)) is not database:
            served = Standing(self._store, asked, projector, self._replicated)
        begin: Start = start or ("now" if isinstance(projection, Reaction) else "beginning")
        registered = self.stored[projection.name] = Registered(projector, database, standing, served, begin)
        return registered

    def _asked(self, database: ReadDatabase) -> ReadDatabase:
        """Return the database that answers questions about what is written to another."""
        return self._replica if self._replica is not None and database is self._read_db else database

    def _add_live(
        self, projection: Projection[Any], start: Start | None, database: ReadDatabase | None
    ) -> LiveReadModel[Any]:
        if start == "now" or database is not None:
            raise InvalidProjectionError(f"{projection.name} is folded from all events, and stored nowhere")
        if self._scratch is None:
            raise InvalidProjectionError(
                f"{projection.name} cannot be live; give the synchronizer `scratch=twofold.engines.scratch_database`"
            )
        self._check(projection, "live")
        scratch = self._scratch()
        rows = LiveRows(self._store, scratch, cast(KeyedProjector, self._projector(scratch, projection, "live")))
        self.live[projection.name] = rows
        return LiveReadModel(rows, projection)

    def _projector(self, database: ReadDatabase, projection: Any, kind: ProjectionKind) -> Projector:
        batch_size = self._batch_size or database.batch_size
        match projection:
            case GroupedProjection():
                return GroupedProjector(database, projection, batch_size, kind)
            case Projection():
                return KeyedProjector(database, projection, batch_size, kind)
            case SqlProjection():
                return SqlProjector(database, projection, batch_size)
            case Reaction():
                return ReactionProjector(database, projection)
        raise InvalidProjectionError(f"{projection!r} is no Projection, SqlProjection or Reaction")

    def _check(self, projection: Any, kind: ProjectionKind) -> None:
        """Refuse what cannot work, and make its events known."""
        if not projection.handles():
            raise InvalidProjectionError(f"{projection.name} handles no event; mark a method with @on(...)")
        for name in projection.follows:
            if name not in self.stored:
                raise InvalidProjectionError(f"{projection.name} follows {name!r}; add that one before it")
            other = self.stored[name].projector.kind
            if kind == "live" or (kind == "inline" and other != "inline"):
                raise InvalidProjectionError(
                    f"{projection.name} ({kind}) cannot follow {name} ({other}); make them of one kind, and not live"
                )
        self._store.events.register(*projection.handles())
