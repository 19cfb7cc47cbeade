"""Rebuilds: a new generation is built beside the one that serves, verified, and takes over in one transaction.

What is not finished when a process dies goes on with the next one: all that must be known stands in the database.
"""

from __future__ import annotations

import msgspec

from twofold.errors import InvalidProjectionError, UnknownProjectionError
from twofold.ports.checkpoints import (
    LEASE_TABLE,
    SQL,
    Generation,
    GenerationState,
    checkpoints_of,
    generations_now,
    generations_of,
)
from twofold.ports.event_log import EventLog
from twofold.ports.read_database import ReadDatabase, ReadTransaction
from twofold.projections.fingerprint import has_effects
from twofold.projections.runner import ProjectionRunner
from twofold.synchronizer.generations import build, forget
from twofold.synchronizer.leases import read_lease_table
from twofold.synchronizer.rebuild_checks import Report, read_report, store_report


async def begin(
    log: EventLog, database: ReadDatabase, runner: ProjectionRunner, *, expect_same: bool, max_segments: int
) -> Generation:
    """Make an empty generation beside the one that serves, or return the one that is being built already.

    One that has read another history of the log could never be completed: a new one takes its place.

    Raises:
        InvalidProjectionError: it is a reaction, whose effects cannot be had again.
        UnknownProjectionError: there is no read model of this name.
        StorageError: the database failed.
    """
    if not runner.has_read_model:
        raise InvalidProjectionError(f"{runner.name} is a reaction; what it did elsewhere is not done again")
    async with database.transaction(runner.style) as transaction:
        await transaction.lock(runner.name)
        known = await generations_of(transaction, runner.name)
        if not known:
            raise UnknownProjectionError(runner.name, ())
        for begun in (each for each in known if each.role == "building"):
            is_going_on = begun.version == runner.version and begun.state == GenerationState.BUILDING
            if is_going_on and await _is_of_this_history(log, transaction, begun):
                return begun
            await forget(transaction, runner, begun)
        workers = (await read_lease_table(transaction)).workers.values()
        able = sum((runner.name, runner.version) in codes for codes in workers)
        serving = next(each for each in known if each.role == "serving")
        segments = max(serving.segments, min(able, max_segments))
        generation = await build(transaction, runner, GenerationState.BUILDING, segments=segments)
        await store_report(transaction, generation, Report(expect_same=expect_same))
        return generation


async def _is_of_this_history(log: EventLog, transaction: ReadTransaction, generation: Generation) -> bool:
    marks = [each.mark for each in await checkpoints_of(transaction, generation)]
    return all([mark.agrees(await log.mark(mark.position)) for mark in marks if mark.position])


def refuse_effects(serving: Generation, words: str) -> None:
    """Refuse to set back or forth what does things elsewhere, unless the caller says that this is meant.

    Raises:
        InvalidProjectionError: it is a reaction or a process.
    """
    if has_effects(msgspec.json.decode(serving.fingerprint, type=dict[str, str])):
        raise InvalidProjectionError(
            f"{serving.name} is a reaction or a process: it would do again what it has done elsewhere, such as sending "
            f"mails, or leave out what it has not done; if that is meant, write {words}"
        )


async def reset(database: ReadDatabase, runner: ProjectionRunner, *, despite_effects: bool = False) -> None:
    """Empty a read model in place and let it begin again.

    Raises:
        InvalidProjectionError: it is a reaction or a process, and the word for that is missing.
        UnknownProjectionError: there is none of this name.
        StorageError: the database failed.
    """
    async with database.transaction(runner.style) as transaction:
        await transaction.lock(runner.name)
        known = await generations_of(transaction, runner.name)
        serving = next((each for each in known if each.role == "serving"), None)
        if serving is None:
            raise UnknownProjectionError(runner.name, ())
        if not despite_effects:
            refuse_effects(serving, "reset(despite_effects=True)")
        of = {"name": serving.name, "generation": serving.number}
        await transaction.lock(LEASE_TABLE)
        beginning = {"position": 0, "event_id": ""}
        await transaction.run(SQL["set_position"], **of, **beginning)  # before the rows, as appends lock them
        await runner.clear(transaction, serving.suffix)
        await transaction.run(SQL["forget_parked"], **of)


async def cancel(database: ReadDatabase, runner: ProjectionRunner) -> bool:
    """Drop the generation that is being built; return whether there was one."""
    return await _forget_all(database, runner, "building")


async def drop_previous(database: ReadDatabase, runner: ProjectionRunner) -> bool:
    """Drop the generation that served before; return whether there was one."""
    return await _forget_all(database, runner, "previous")


async def report_of(database: ReadDatabase, name: str, number: int) -> tuple[str, Report]:
    """Return the role of a generation, empty if it is gone, and what came of the attempt to let it serve."""
    found = next((each for each in await generations_now(database, name) if each.number == number), None)
    return (found.role, read_report(found)) if found else ("", Report())


async def _forget_all(database: ReadDatabase, runner: ProjectionRunner, role: str) -> bool:
    async with database.transaction(runner.style) as transaction:
        await transaction.lock(runner.name)
        found = [each for each in await generations_of(transaction, runner.name) if each.role == role]
        for generation in found:
            await forget(transaction, runner, generation)
        serving = [each for each in await generations_of(transaction, runner.name) if each.role == "serving"]
        if found and serving and serving[0].version == runner.version:
            await runner.expose(transaction, serving[0].suffix)
    return bool(found)
