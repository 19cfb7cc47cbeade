"""Projections that write their own SQL, and how `apply` of theirs and of reactions is called."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import timedelta
from functools import lru_cache, partial
from typing import Any, ClassVar, Self

from twofold.messages.event import RecordedEvent
from twofold.messages.event_methods import FoldParameters, fold_parameters
from twofold.messages.read_policy import ReadPolicy
from twofold.ports.read_database import Style
from twofold.ports.sql import quoted
from twofold.projections.projection import OnFailure
from twofold.projections.reaction import Reaction


class SqlProjection:
    """A projection with tables of its own design: the way out where rows and keys do not fit.

    `apply(event, connection)` runs the SQL, in the transaction that moves the checkpoint, so that each event takes
    effect exactly once. Name tables by `self.table("revenue")`: a rebuild fills other ones, and afterwards the views
    `revenue` and so on show those. Neither commit nor roll back, and do not think for longer than a worker's lease
    between two statements: PostgreSQL then ends the transaction, so that a frozen process does not keep others waiting.
    """

    name: ClassVar[str] = ""
    """The name of the read model. Stored: change it with care."""
    version: ClassVar[int] = 1
    """Raised whenever the same events would give other rows: the read model is then built again."""
    tables: ClassVar[tuple[str, ...]] = ()
    """The names of its tables."""
    connection: ClassVar[Style] = "driver"
    """What `apply` gets: the driver's connection, or SQLAlchemy's `Connection`, for which it is a plain function."""
    max_lag: ClassVar[timedelta | None] = None
    """How far behind the log the read model may be before that is a fault."""
    policy: ClassVar[ReadPolicy | None] = None
    """See `Projection.policy`."""
    on_failure: ClassVar[OnFailure] = "park"
    """See `Projection.on_failure`. Without a `key`, all events depend on each other, and a failure stops it."""
    follows: ClassVar[tuple[str, ...]] = ()
    """Names of projections that this one never overtakes, so that it may read their tables."""

    keeps_tenants_apart: ClassVar[bool] = False
    """Whether its SQL writes of each row whose it is, `recorded.tenant`. An application with tenants takes no other:
    nothing narrows what your own SQL writes and reads.
    """

    _suffix = ""
    _of_tenants = False

    def handles(self) -> tuple[type, ...]:
        """Return the classes of the events that it takes."""
        raise NotImplementedError(
            f"{type(self).__qualname__}.handles() returns the classes of the events that it takes"
        )

    def key(self, event: Any) -> Any:
        """Return what an event is about; only events with the same key depend on each other. By default all do."""
        return ()

    def create(self, connection: Any) -> Any:
        """Create the tables, `async` or not as `apply` is."""
        raise NotImplementedError(f"{type(self).__qualname__}.create(connection) makes the tables {self.tables}")

    def apply(self, event: Any, /, *connection: Any, **recorded: Any) -> Any:
        """Write what follows from an event: `apply(self, event, connection)`, `async` unless it gets SQLAlchemy's.

        A parameter gets the `RecordedEvent` as in a `Projection`: behind the connection, or instead of the event.
        """
        raise NotImplementedError(
            f"{type(self).__qualname__}.apply(event, connection) writes what follows from an event"
        )

    def table(self, name: str) -> str:
        """Return the name of a table for use in SQL.

        Raises:
            ValueError: it is none of `tables`.
        """
        if name not in self.tables:
            raise ValueError(f"{name!r} is none of the tables of {self.name}: {', '.join(self.tables)}")
        return quoted(f"{name}{self._suffix}")

    def at(self, suffix: str) -> Self:
        """Return the same projection with other tables."""
        other = copy.copy(self)
        other._suffix = suffix
        return other


def applied(projection: SqlProjection | Reaction, recorded: RecordedEvent[Any]) -> Callable[..., Any]:
    """Return `apply` with its event, to be called with what else it takes."""
    apply = projection.apply
    names, record = _parameters(getattr(apply, "__func__", apply))
    if record is None:
        return partial(apply, recorded.event)
    if names[1] == record:  # instead of the event, behind `self`
        return partial(apply, recorded)
    return partial(apply, recorded.event, **{record: recorded})


@lru_cache(256)
def _parameters(apply: Callable[..., Any]) -> FoldParameters:
    return fold_parameters(apply)
