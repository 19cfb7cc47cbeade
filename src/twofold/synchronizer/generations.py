"""The life of a generation of a read model: its states, the changes that are allowed, and the one function for them.

             take over            step back
  building ────────────▶ serving ◀───────────▶ previous
     │                   ▲ │ pause  take over     │
     │ refuse     resume │ ▼                      │ refuse
     ▼                  paused                    ▼
  refused                                      outdated

A read model is made with one generation that serves. A rebuild, or code of a higher version, makes one that is
building. What is not serving or paused may be dropped. All else that is shown of a read model (new, catching up,
faulted, detached, late) is read from its checkpoints, which only steps and leases change: see `status`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

import msgspec

from twofold.errors import InvalidChangeError, InvalidProjectionError, UnknownProjectionError
from twofold.messages.mark import START, Mark
from twofold.ports.checkpoints import (
    LEASE_TABLE,
    SQL,
    Generation,
    GenerationState,
    checkpoints_of,
    generations_now,
    generations_of,
)
from twofold.ports.read_database import ReadDatabase, ReadTransaction
from twofold.ports.segments import bounds
from twofold.projections.fingerprint import copies_in
from twofold.projections.runner import ReadModelBuilder

Change = Literal["pause", "resume", "refuse", "take over", "step back"]
CHANGES: Mapping[Change, Mapping[GenerationState, GenerationState]] = {
    "pause": {GenerationState.SERVING: GenerationState.PAUSED, GenerationState.PAUSED: GenerationState.PAUSED},
    "resume": {GenerationState.PAUSED: GenerationState.SERVING, GenerationState.SERVING: GenerationState.SERVING},
    "refuse": {
        GenerationState.BUILDING: GenerationState.REFUSED,
        GenerationState.REFUSED: GenerationState.REFUSED,
        GenerationState.PREVIOUS: GenerationState.OUTDATED,
        GenerationState.OUTDATED: GenerationState.OUTDATED,
    },
    "take over": {GenerationState.BUILDING: GenerationState.SERVING, GenerationState.PREVIOUS: GenerationState.SERVING},
    "step back": {GenerationState.SERVING: GenerationState.PREVIOUS, GenerationState.PAUSED: GenerationState.PREVIOUS},
}
"""The changes that are allowed, each with the states before and after it."""
DROPPABLE = frozenset(
    {GenerationState.BUILDING, GenerationState.REFUSED, GenerationState.PREVIOUS, GenerationState.OUTDATED}
)


async def change(transaction: ReadTransaction, generation: Generation, change: Change) -> GenerationState:
    """Change the state of a generation, and return what it is afterwards. No other code writes it.

    Raises:
        InvalidChangeError: the table of changes does not allow it, or another process changed the state first.
        StorageError: the database failed.
    """
    after = CHANGES[change].get(generation.state)
    of = {"name": generation.name, "generation": generation.number}
    if after is None or not await transaction.run(
        SQL["change_state"], **of, before=str(generation.state), after=after.value
    ):
        raise InvalidChangeError(generation.name, generation.number, change, generation.state)
    return after


async def locked_generations(transaction: ReadTransaction, name: str) -> list[Generation]:
    """Return the generations of a read model, with the locks of all who change them.

    Raises:
        UnknownProjectionError: there is none of this name.
        StorageError: the database failed.
    """
    await transaction.lock(name)
    await transaction.lock(LEASE_TABLE)
    generations = await generations_of(transaction, name)
    if not generations:
        raise UnknownProjectionError(name, {row[0] for row in await transaction.run(SQL["generations"])})
    return generations


async def serving_now(database: ReadDatabase, name: str) -> Generation:
    """Return the generation that serves. No lock is taken, so that it may be replaced right afterwards.

    Raises:
        UnknownProjectionError: there is none of this name.
        StorageError: the database failed.
    """
    generations = await generations_now(database, name)
    if not generations:
        raise UnknownProjectionError(name, {row[0] for row in await database.query(SQL["generations"])})
    return serving_of(generations)


def serving_of(generations: Sequence[Generation]) -> Generation:
    """Return the one that serves; there always is one."""
    return next(each for each in generations if each.role == "serving")


async def prepare(
    database: ReadDatabase, code: ReadModelBuilder, start: Mark = START, *, paused: bool = False
) -> Sequence[str]:
    """Make sure that there is a read model for this code, and return which parts of the code changed since.

    The first one serves from the beginning. One for a higher version is built beside the one that serves.

    Args:
        database: where the read model is.
        code: builds it.
        start: where the first one begins.
        paused: whether the first one stands still until it is resumed.

    Raises:
        InvalidProjectionError: the rows changed and the version did not, or the version is lower than the one that
            serves, or a table of its name is no read model's.
        StorageError: the database failed.
    """
    async with database.transaction(code.style) as transaction:
        await transaction.lock(code.name)
        known = await generations_of(transaction, code.name)
        if not known:
            if code.name in await transaction.names():
                raise InvalidProjectionError(
                    f"there is a table {code.name} that is no read model; rename the projection"
                )
            made = await build(transaction, code, GenerationState.SERVING, start=start)
            if paused:
                await change(transaction, made, "pause")
            return ()
        own = next((each for each in known if each.version == code.version), None)
        serving = serving_of(known)
        newest = max(each.version for each in known)
        if own is None and code.version < newest:
            raise InvalidProjectionError(
                f"the read model {code.name} was built by version {newest} of its projection, this code has "
                f"{code.version}; deploy the newer code, or raise the version beyond {newest}"
            )
        if own is None:
            for outrun in (each for each in known if each.role == "building"):
                await forget(transaction, code, outrun)
            await build(transaction, code, GenerationState.BUILDING, segments=serving.segments)
            return ()
        await code.check(transaction, own.suffix)
        if own.kind != code.drive.name:
            await transaction.run(SQL["set_kind"], name=code.name, generation=own.number, kind=code.drive.name)
        return _changed_parts(own, code)


async def build(
    transaction: ReadTransaction,
    code: ReadModelBuilder,
    state: GenerationState,
    *,
    segments: int = 1,
    start: Mark = START,
) -> Generation:
    """Make a new, empty generation, which is serving or building."""
    known = await generations_of(transaction, code.name)
    number = max((each.number for each in known), default=0) + 1
    suffix = f"__{number}"
    # A number may have been that of a generation which was cancelled, an epoch must not: its workers may still wake up.
    epoch = 0 if state is GenerationState.SERVING else (await transaction.run(SQL["now"]))[0][0]
    await code.make(transaction, suffix)
    await transaction.run(
        SQL["make_generation"], name=code.name, generation=number, version=code.version, suffix=suffix,
        state=state.value, segments=segments, fingerprint=_dump(code.fingerprint()), kind=code.drive.name,
    )  # fmt: skip
    for first, end in pairwise(bounds(segments)):
        await transaction.run(
            SQL["make_segment"], name=code.name, generation=number, first=first, end=end, epoch=epoch,
            position=start.position, event_id=start.text,
        )  # fmt: skip
    if state is GenerationState.SERVING:
        await code.expose(transaction, suffix)
    return next(each for each in await generations_of(transaction, code.name) if each.number == number)


async def divide(transaction: ReadTransaction, generation: Generation, segments: int) -> None:
    """Divide a generation that was built in other segments, before it serves: else pages would be of several positions.

    The transaction holds the lock `LEASE_TABLE`. Segments that do not stand at one position stay apart, and the workers
    join them.
    """
    rows = await checkpoints_of(transaction, generation)
    stand = {(row.position, row.held_back) for row in rows}
    if len(stand) != 1 or [row.first for row in rows] == list(bounds(segments)[:-1]):
        return
    place = {"name": generation.name, "generation": generation.number}
    epoch = max(row.epoch for row in rows) + 1  # no slot ever sees an epoch again
    await transaction.run(SQL["forget_segments"], **place)
    for first, end in pairwise(bounds(segments)):
        stands = {"position": rows[0].position, "event_id": rows[0].event_id, "held_back": rows[0].held_back}
        parts = {"first": first, "end": end, **stands, "epoch": epoch}
        await transaction.run(SQL["put_segment"], **place, **parts)


async def forget(transaction: ReadTransaction, code: ReadModelBuilder, generation: Generation) -> None:
    """Drop a generation with its tables, its checkpoints and what is parked of it.

    Raises:
        InvalidChangeError: it serves.
        StorageError: the database failed.
    """
    await code.drop(transaction, generation.suffix)
    await drop_copies(transaction, generation)
    await forget_records(transaction, generation)


async def drop_copies(transaction: ReadTransaction, generation: Generation) -> None:
    """Drop the tables in which a generation keeps rows of projections that its code reads, or read when it was built.

    Raises:
        StorageError: the database failed.
    """
    await transaction.drop(*(name + generation.suffix for name in copies_in(generation.name, generation.parts)))


async def forget_records(transaction: ReadTransaction, generation: Generation) -> None:
    """Forget a generation whose tables are dropped: its checkpoints and what is parked of it.

    Raises:
        InvalidChangeError: it serves.
        StorageError: the database failed.
    """
    if generation.state not in DROPPABLE:
        raise InvalidChangeError(generation.name, generation.number, "drop", generation.state)
    await transaction.lock(LEASE_TABLE)
    for statement in ("forget_generation", "forget_segments", "forget_parked"):
        await transaction.run(SQL[statement], name=generation.name, generation=generation.number)


def _changed_parts(generation: Generation, code: ReadModelBuilder) -> Sequence[str]:
    built, now = generation.parts, code.fingerprint()
    return sorted(part for part in built.keys() | now.keys() if built.get(part) != now.get(part)) if built else ()


def _dump(parts: Mapping[str, str]) -> str:
    return msgspec.json.encode(parts, order="deterministic").decode()
