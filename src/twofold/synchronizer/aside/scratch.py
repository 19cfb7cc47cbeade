"""A read model in a database that this process has for itself, with one segment and no lease."""

from __future__ import annotations

from collections.abc import Callable

from twofold.errors import ProjectionFailedError
from twofold.log.chunks import event_at
from twofold.log.codec.unknown import raw_events
from twofold.log.event_store import EventStore
from twofold.options import SynchronizerOptions
from twofold.ports.checkpoints import Generation, generations_of
from twofold.ports.read_database import ReadDatabase
from twofold.ports.segments import Segment
from twofold.projections.runner import RowRunner, decoder_for
from twofold.synchronizer.generations import prepare
from twofold.synchronizer.segments.runner import SegmentRunner
from twofold.synchronizer.segments.target import SegmentTarget


def reached_nothing(segment: Segment, epoch: int, position: int, held_back: str) -> None:
    """Do nothing: what is brought up to a position whenever it is asked is not waited for."""


async def make_generation(database: ReadDatabase, runner: RowRunner) -> Generation:
    """Open the database and make the empty read model in it.

    Raises:
        StorageError: the database failed.
    """
    await database.open()
    await prepare(database, runner)
    async with database.transaction() as transaction:
        [generation] = await generations_of(transaction, runner.name)
    return generation


def only_segment(
    store: EventStore,
    database: ReadDatabase,
    runner: RowRunner,
    generation: Generation,
    reached: Callable[[Segment, int, int, str], None] = reached_nothing,
) -> SegmentRunner:
    """Return what brings the read model up to a position.

    Args:
        store: where the events are.
        database: where the rows are.
        runner: what folds them.
        generation: the one that was made.
        reached: told of each position that the rows have come to.
    """
    target = SegmentTarget(store, database, runner, generation.suffix, Segment(generation.name, generation.number))
    return SegmentRunner(target, "", SynchronizerOptions(), reached, _head)


async def failure_at(store: EventStore, runner: RowRunner, position: int, cause: str) -> ProjectionFailedError:
    """Return the error that says of which event it is that a row cannot be had.

    Args:
        store: where the events are.
        runner: what could not fold the event.
        position: where it stands; it may be several events by now, or none.
        cause: why.

    Raises:
        StorageError: the database failed.
    """
    row = await event_at(store.log, position)
    rows = [] if row is None else [row]
    decoded = await decoder_for(runner, store.events).events_of(rows)
    return ProjectionFailedError(runner.name, (decoded or raw_events(rows))[0], cause)


async def _head(after: int, timeout: float) -> int:
    raise AssertionError("it does not follow the log")
