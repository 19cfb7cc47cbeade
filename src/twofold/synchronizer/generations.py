"""Generations of read models: the one that serves, the one that is being built, the one that is kept warm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import msgspec

from twofold.errors import InvalidProjectionError
from twofold.messages.mark import START, Mark
from twofold.ports.checkpoints import LEASE_TABLE, SQL, Generation, Role, generations_of
from twofold.ports.read_database import ReadDatabase, ReadTransaction
from twofold.ports.segments import bounds
from twofold.projections.runner import ReadModelBuilder


async def prepare(database: ReadDatabase, code: ReadModelBuilder, start: Mark = START) -> Sequence[str]:
    """Make sure that there is a read model for this code, and return which parts of the code changed since.

    The first one serves from the beginning. One for a higher version is built beside the one that serves.

    Raises:
        InvalidProjectionError: the rows changed and the version did not, or the version is lower than the one that
            serves, or a table is somebody else's.
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
            await build(transaction, code, "serving", start=start)
            return ()
        own = next((each for each in known if each.version == code.version), None)
        live = next(each for each in known if each.role == "serving")
        newest = max(each.version for each in known)
        if own is None and code.version < newest:
            raise InvalidProjectionError(
                f"the read model {code.name} was built by version {newest} of its projection, this code has "
                f"{code.version}; deploy the newer code, or raise the version beyond {newest}"
            )
        if own is None:
            for shadow in (each for each in known if each.role == "building"):
                await forget(transaction, code, shadow)
            await build(transaction, code, "building", segments=live.segments)
            return ()
        await code.check(transaction, own.suffix)
        return _changed_parts(own, code)


async def build(
    transaction: ReadTransaction, code: ReadModelBuilder, role: Role, *, segments: int = 1, start: Mark = START
) -> Generation:
    """Make a new, empty generation."""
    known = await generations_of(transaction, code.name)
    number = max((each.number for each in known), default=0) + 1
    suffix = f"__{number}"
    # A number may have been that of a generation which was cancelled, an epoch must not: its workers may yet wake up.
    epoch = 0 if role == "serving" else (await transaction.run(SQL["now"]))[0][0]
    await code.make(transaction, suffix)
    await transaction.run(
        SQL["make_generation"], name=code.name, generation=number, version=code.version, suffix=suffix, role=role,
        segments=segments, fingerprint=_dump(code.fingerprint()),
    )  # fmt: skip
    for first, end in pairwise(bounds(segments)):
        await transaction.run(
            SQL["make_segment"], name=code.name, generation=number, first=first, end=end, epoch=epoch,
            position=start.position, event_id=start.text,
        )  # fmt: skip
    if role == "serving":
        await code.expose(transaction, suffix)
    return next(each for each in await generations_of(transaction, code.name) if each.number == number)


async def forget(transaction: ReadTransaction, code: ReadModelBuilder, generation: Generation) -> None:
    """Drop a generation with its tables, its checkpoints and what is parked of it."""
    await code.drop(transaction, generation.suffix)
    await forget_records(transaction, generation)


async def forget_records(transaction: ReadTransaction, generation: Generation) -> None:
    """Forget a generation whose tables are dropped: its checkpoints and what is parked of it."""
    await transaction.lock(LEASE_TABLE)
    for statement in ("forget_generation", "forget_segments", "forget_parked"):
        await transaction.run(SQL[statement], name=generation.name, generation=generation.number)


def _changed_parts(generation: Generation, code: ReadModelBuilder) -> Sequence[str]:
    built, now = generation.parts, code.fingerprint()
    return sorted(part for part in built.keys() | now.keys() if built.get(part) != now.get(part)) if built else ()


def _dump(parts: Mapping[str, str]) -> str:
    return msgspec.json.encode(parts, order="deterministic").decode()
