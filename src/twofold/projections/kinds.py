"""The kinds of projections: who can drive which of them, and the runner for each class that an application declares."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from twofold.errors import InvalidProjectionError
from twofold.log.codec.event_types import EventTypes
from twofold.options import FoldOptions
from twofold.ports.event_log import EventLog
from twofold.ports.read_database import ReadDatabase, ReadTransaction
from twofold.projections.batch_reaction import BatchReaction
from twofold.projections.batch_reaction_runner import BatchReactionRunner
from twofold.projections.declaration import check_declaration
from twofold.projections.grouped import GroupedProjection
from twofold.projections.grouped_runner import GroupedRunner
from twofold.projections.inline import InlineProjection, attach, catch_up
from twofold.projections.keyed_runner import KeyedRunner
from twofold.projections.projection import Projection
from twofold.projections.reaction import Reaction
from twofold.projections.reaction_runner import ReactionRunner
from twofold.projections.reading.joint_runner import JointRunner
from twofold.projections.runner import Drive, ProjectionKind, ProjectionRunner, RowRunner
from twofold.projections.sql_projection import SqlProjection
from twofold.projections.sql_runner import SqlRunner


class Asynchronous:
    """Workers bring the events in, soon after they were appended."""

    name: ProjectionKind = "asynchronous"
    is_stored = True
    by_appends = False
    tries_again = True

    def refuse(self, runner: ProjectionRunner, others: Collection[ProjectionRunner]) -> None:
        """Accept every projection."""

    def attach(self, runner: ProjectionRunner, log: EventLog, events: EventTypes, database: ReadDatabase) -> None:
        """Do nothing: appends need not know it."""

    async def catch_up(self, runner: ProjectionRunner, events: EventTypes, database: ReadDatabase) -> None:
        """Do nothing: the workers catch up."""

    async def complete(
        self, runner: ProjectionRunner, events: EventTypes, transaction: ReadTransaction, generation: int
    ) -> None:
        """Do nothing: what appends add from now on, the workers bring in."""


class Inline(Asynchronous):
    """Appends write the rows in their own transactions; workers do what appends have to leave."""

    name: ProjectionKind = "inline"
    by_appends = True

    def refuse(self, runner: ProjectionRunner, others: Collection[ProjectionRunner]) -> None:
        """Refuse what does not say which one row an event changes, and to go ahead of a projection that follows."""
        rows = _rows_of(runner)
        if not rows.folds_single_rows:
            raise InvalidProjectionError(
                f"{runner.name} cannot be inline: it keeps groups of rows; make it asynchronous"
            )
        _refuse_to_follow(runner, [each for each in others if not each.drive.by_appends])

    def attach(self, runner: ProjectionRunner, log: EventLog, events: EventTypes, database: ReadDatabase) -> None:
        """Have the log write the rows in the transactions of its appends."""
        attach(log, InlineProjection(_rows_of(runner), events), database)

    async def catch_up(self, runner: ProjectionRunner, events: EventTypes, database: ReadDatabase) -> None:
        """Bring in what processes appended that do not know the projection as an inline one."""
        await catch_up(database, InlineProjection(_rows_of(runner), events))

    async def complete(
        self, runner: ProjectionRunner, events: EventTypes, transaction: ReadTransaction, generation: int
    ) -> None:
        """Bring in what was appended; further appends wait for the transaction."""
        await transaction.carry_out(InlineProjection(_rows_of(runner), events).complete(generation))


class OnDemand(Asynchronous):
    """Questions bring the events in, into rows that nothing keeps."""

    name: ProjectionKind = "on_demand"
    is_stored = False
    tries_again = False

    def refuse(self, runner: ProjectionRunner, others: Collection[ProjectionRunner]) -> None:
        """Refuse what does not say which rows it changes, and to follow any projection."""
        _rows_of(runner)
        _refuse_to_follow(runner, others)


ASYNCHRONOUS, INLINE, ON_DEMAND = Asynchronous(), Inline(), OnDemand()
DRIVES: Mapping[str, Drive] = {drive.name: drive for drive in (ASYNCHRONOUS, INLINE, ON_DEMAND)}


def drive_of(kind: str) -> Drive:
    """Return who drives projections of a kind, as `add(kind=…)` names it.

    Raises:
        InvalidProjectionError: there is no such kind.
    """
    if not isinstance(kind, str) or kind not in DRIVES:
        raise InvalidProjectionError(f"kind={kind!r} is none; write one of: {', '.join(map(repr, DRIVES))}")
    return DRIVES[kind]


def runner_of(
    projection: Any,
    database: ReadDatabase,
    batch_size: int,
    drive: Drive = ASYNCHRONOUS,
    folding: FoldOptions = FoldOptions(),  # noqa: B008 - it is immutable
) -> ProjectionRunner:
    """Return what runs a projection.

    Raises:
        InvalidProjectionError: it is none, or its declaration cannot work.
    """
    check_declaration(projection)
    match projection:
        case Projection() if projection.reads:
            return JointRunner(database, projection, batch_size, drive, folding)
        case GroupedProjection():
            return GroupedRunner(database, projection, batch_size, drive, folding)
        case Projection():
            return KeyedRunner(database, projection, batch_size, drive, folding)
        case SqlProjection():
            return SqlRunner(database, projection, batch_size, drive, folding)
        case BatchReaction():
            return BatchReactionRunner(database, projection, drive)
        case Reaction():
            return ReactionRunner(database, projection, drive)
    raise InvalidProjectionError(f"{projection!r} is no Projection, SqlProjection or Reaction")


def _rows_of(runner: ProjectionRunner) -> RowRunner:
    if (rows := runner.rows) is None:
        raise InvalidProjectionError(f"{runner.name} can be asynchronous only: it does not say which rows it changes")
    if rows.reads_others:
        raise InvalidProjectionError(
            f"{runner.name} can be asynchronous only: it reads other projections; leave `kind` out"
        )
    return rows


def _refuse_to_follow(runner: ProjectionRunner, others: Collection[ProjectionRunner]) -> None:
    for other in others:
        raise InvalidProjectionError(
            f"{runner.name} ({runner.drive.name}) cannot follow {other.name} ({other.drive.name}); make them of one "
            f"kind, and not on demand"
        )
