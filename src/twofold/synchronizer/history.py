"""Which history of the log a read model or a reaction has read, and setting it back to where that history goes on.

Workers keep a trail of marks for each of them, a few seconds apart. When the log has another history, the last mark of
the trail that the log agrees with is the last position which is known to be in both.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from twofold.errors import HistoryChangedError, InvalidProjectionError, UnknownProjectionError
from twofold.log.chunks import mark_at
from twofold.log.integrity.damage import Damage
from twofold.messages.mark import Mark
from twofold.options import SynchronizerOptions
from twofold.ports.checkpoints import (
    LEASE_TABLE,
    SQL,
    Checkpoint,
    Generation,
    GenerationState,
    checkpoints_of,
    generations_of,
)
from twofold.ports.event_log import EventLog
from twofold.ports.read_database import ReadDatabase, ReadTransaction
from twofold.projections.fingerprint import has_row_type


async def remember(transaction: ReadTransaction) -> None:
    """Add where all that serves stands to the trails.

    Raises:
        StorageError: the database failed; the transaction is lost.
    """
    await transaction.run(SQL["remember_marks"])


async def thin_out(transaction: ReadTransaction, options: SynchronizerOptions) -> None:
    """Delete marks of the trails that stand close to others, except for the recent ones.

    Raises:
        StorageError: the database failed; the transaction is lost.
    """
    await transaction.run(SQL["thin_marks"], recent=options.recent_marks, coarse=options.coarse_marks)


async def compare(log: EventLog, database: ReadDatabase) -> None:
    """Make sure that all that goes on from checkpoints in a database has read the history that the log has.

    Raises:
        HistoryChangedError: the one that it names has read another one.
        StorageError: a database failed.
    """
    async for damage in differing_checkpoints(log, database):
        raise damage.error


async def differing_checkpoints(log: EventLog, database: ReadDatabase) -> AsyncGenerator[Damage]:
    """Iterate over the checkpoints in a database that are of another history than the log has.

    Raises:
        StorageError: a database failed.
    """
    generations = [Generation(*row) for row in await database.query(SQL["generations"])]
    outdated = {(each.name, each.number) for each in generations if each.state == GenerationState.OUTDATED}
    checkpoints = [Checkpoint(*row) for row in await database.query(SQL["checkpoints"])]
    for checkpoint in (each for each in checkpoints if (each.name, each.generation) not in outdated):
        try:
            await mark_at(log, checkpoint.furthest, checkpoint.furthest.position)
        except HistoryChangedError as error:
            where = f"{checkpoint.name}, generation {checkpoint.generation}, at position {checkpoint.position}"
            yield Damage("checkpoint", where, error.of(checkpoint.name))


async def rewind(
    log: EventLog,
    database: ReadDatabase,
    name: str,
    position: int | None = None,
    options: SynchronizerOptions = SynchronizerOptions(),  # noqa: B008 - it is immutable
) -> Mark:
    """Set a reaction or a projection by SQL back, so that it goes on in the history that the log has; return to where.

    What it has made of events that are not in the log any more stays as it made it, and so does what it has made of
    events behind the position that are: it handles these again.

    Args:
        log: the log.
        database: where its checkpoints are.
        name: the reaction or the projection.
        position: where to, by default the last position that is known to be in both histories.
        options: how many marks of its trail are compared with the log.

    Raises:
        UnknownProjectionError: there is none of this name.
        InvalidProjectionError: it is a keyed projection, whose rows are built again instead.
        ValueError: the log ends before the position, or no position is known to be in both histories.
        StorageError: a database failed.
    """
    async with database.transaction() as transaction:
        await transaction.lock(name)
        await transaction.lock(LEASE_TABLE)
        serving = await _serving(transaction, name)
        to = (
            await _shared(log, transaction, serving, options.compared_marks)
            if position is None
            else await _named(log, position)
        )
        of: dict[str, Any] = {"name": name, "generation": serving.number}
        await transaction.run(SQL["set_position"], **of, position=to.position, event_id=to.text)
        await transaction.run(SQL["forget_parked_behind"], **of, position=to.position)
        for statement in ("forget_skipped_behind", "forget_marks"):  # they are about events of the other history
            await transaction.run(SQL[statement], name=name, position=to.position)
    return to


async def _serving(transaction: ReadTransaction, name: str) -> Generation:
    known = await generations_of(transaction, name)
    if not known:
        raise UnknownProjectionError(name, {row[0] for row in await transaction.run(SQL["generations"])})
    serving = next(each for each in known if each.role == "serving")
    if has_row_type(serving.parts):
        raise InvalidProjectionError(
            f"the rows of {name} hold what the other history made of them; `twofold rebuild` builds them again"
        )
    return serving


async def _named(log: EventLog, position: int) -> Mark:
    if mark := await log.mark(position) if position >= 0 else None:
        return mark
    raise ValueError(f"the log ends at {await log.head()}, before position {position}")


async def _shared(log: EventLog, transaction: ReadTransaction, generation: Generation, compared: int) -> Mark:
    """Return the last mark that is known to be in both histories, and that no segment has yet to reach."""
    marks = [Mark.stored(*row) for row in await transaction.run(SQL["marks"], name=generation.name, limit=compared)]
    checkpoints = [each.mark for each in await checkpoints_of(transaction, generation)]
    agreeing = [each for each in checkpoints if each.event_id and each.agrees(await log.mark(each.position))]
    most = min((each.position for each in agreeing), default=None)
    for mark in sorted({*marks, *agreeing}, reverse=True):
        if (most is None or mark.position <= most) and mark.event_id and mark.agrees(await log.mark(mark.position)):
            return mark
    raise ValueError(
        f"no position is known up to which {generation.name} and the log have the same history; name one: "
        f"`--to POSITION`"
    )
