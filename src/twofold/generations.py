"""Generations of read models: the one that serves, the one that is being built, the one that is kept warm."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from twofold.errors import InvalidProjectionError, ReadModelBuildingError, UnknownProjectionError
from twofold.read_database import Changes, ReadDatabase, ReadTransaction, Style
from twofold.segments import Step, bounds
from twofold.sql import sql_blocks

SQL = sql_blocks("twofold", "checkpoints.sql")
FRESH = 1.0
"""Seconds after which it is looked up again which generation serves."""
UNREADY = 0.05
"""The same, if none serves yet."""
HELD = 2 * FRESH
"""Seconds for which the generation that served before stands still, as it may still be asked."""

LEDGER = "all segments"
"""The lock of whoever changes several checkpoints at once, lest two of them wait for each other.

It is taken last: after the lock of a read model, and after its tables.
"""

Role = Literal["live", "shadow", "warm"]


class Generation(NamedTuple):
    """One read model as it was built. The order of the fields is that of `generations` in `checkpoints.sql`."""

    name: str
    number: int
    version: int
    suffix: str
    """Of the names of its tables."""
    role: Role
    paused: int
    segments: int
    """How many it shall have."""
    fingerprint: str
    """JSON: a digest for each part of the code that builds it."""
    report: str
    """JSON: what came of the last attempt to let it serve."""
    made_at: int

    @property
    def refused(self) -> str:
        """Why it must not serve; empty if nothing speaks against it."""
        return str(_load(self.report).get("reason", "")) if self.report else ""


class Checkpoint(NamedTuple):
    """How far a segment has come, and who works on it. The order of the fields is that of `checkpoints`."""

    name: str
    generation: int
    first: int
    end: int
    position: int
    epoch: int
    owner: str
    leased_until: int
    moved_at: int
    error: str
    now: int
    """The database's clock. Times are microseconds since 1970-01-01 UTC."""

    @property
    def is_leased(self) -> bool:
        """Whether somebody holds it."""
        return bool(self.owner) and self.leased_until >= self.now


class Buildable(Protocol):
    """What can be built: the code of a projection, of one kind or another."""

    name: str
    version: int
    style: Style
    """Whose connection its code gets."""

    def fingerprint(self) -> Mapping[str, str]:
        """Return a digest for each part of its code; `row` is that of what its rows look like."""

    async def make(self, transaction: ReadTransaction, suffix: str) -> None:
        """Make the empty tables of a generation.

        Raises:
            InvalidProjectionError: a table of this name is there already.
        """

    async def check(self, transaction: ReadTransaction, suffix: str) -> None:
        """Make sure that a generation's tables stand as declared.

        Raises:
            InvalidProjectionError: they do not.
        """

    async def clear(self, transaction: ReadTransaction, suffix: str) -> None:
        """Delete all rows of a generation."""

    async def drop(self, transaction: ReadTransaction, suffix: str) -> None:
        """Drop the tables of a generation."""

    async def expose(self, transaction: ReadTransaction, suffix: str) -> None:
        """Let the lasting names show the tables of this generation."""


async def generations_of(transaction: ReadTransaction, name: str) -> list[Generation]:
    """Return the generations of a read model, the oldest first."""
    return [Generation(*row) for row in await transaction.run(SQL["generations_of"], name=name)]


async def checkpoints_of(transaction: ReadTransaction, generation: Generation) -> list[Checkpoint]:
    """Return a generation's segments in order."""
    rows = await transaction.run(SQL["checkpoints_of"], name=generation.name, generation=generation.number)
    return [Checkpoint(*row) for row in rows]


async def advance(transaction: ReadTransaction, changes: Changes, step: Step) -> bool:
    """Take a step within a transaction, with all but the rows; return whether the segment was where it had to be."""
    segment = {"name": step.segment.projection, "generation": step.segment.generation}
    taken = {"first": step.segment.first, "epoch": step.epoch, "before": step.before, "after": step.after}
    if not await transaction.run(SQL["take_step"], **segment, **taken, lease=int(step.lease * 1e6)):
        return False
    for event in changes.parked:
        await transaction.run(SQL["park"], **segment, **event._asdict(), slot=event.slot)
    for position in changes.released:
        await transaction.run(SQL["release"], **segment, position=position)
    return True


async def prepare(database: ReadDatabase, code: Buildable, start: int = 0) -> Sequence[str]:
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
            await build(transaction, code, "live", start=start)
            return ()
        own = next((each for each in known if each.version == code.version), None)
        live = next(each for each in known if each.role == "live")
        newest = max(each.version for each in known)
        if own is None and code.version < newest:
            raise InvalidProjectionError(
                f"the read model {code.name} was built by version {newest} of its projection, this code has "
                f"{code.version}; deploy the newer code, or raise the version beyond {newest}"
            )
        if own is None:
            for shadow in (each for each in known if each.role == "shadow"):
                await forget(transaction, code, shadow)
            await build(transaction, code, "shadow", segments=live.segments)
            return ()
        await code.check(transaction, own.suffix)
        return _changed_parts(own, code)


async def build(
    transaction: ReadTransaction, code: Buildable, role: Role, *, segments: int = 1, start: int = 0
) -> Generation:
    """Make a new, empty generation."""
    known = await generations_of(transaction, code.name)
    number = max((each.number for each in known), default=0) + 1
    suffix = f"__{number}"
    # A number may have been that of a generation which was cancelled, an epoch must not: its workers may yet wake up.
    epoch = 0 if role == "live" else (await transaction.run(SQL["now"]))[0][0]
    await code.make(transaction, suffix)
    await transaction.run(
        SQL["make_generation"], name=code.name, generation=number, version=code.version, suffix=suffix, role=role,
        segments=segments, fingerprint=_dump(code.fingerprint()),
    )  # fmt: skip
    for first, end in pairwise(bounds(segments)):
        await transaction.run(
            SQL["make_segment"], name=code.name, generation=number, first=first, end=end, position=start, epoch=epoch
        )
    if role == "live":
        await code.expose(transaction, suffix)
    return next(each for each in await generations_of(transaction, code.name) if each.number == number)


async def forget(transaction: ReadTransaction, code: Buildable, generation: Generation) -> None:
    """Drop a generation with its tables, its checkpoints and what is parked of it."""
    await code.drop(transaction, generation.suffix)
    await forget_records(transaction, generation)


async def forget_records(transaction: ReadTransaction, generation: Generation) -> None:
    """Forget a generation whose tables are dropped: its checkpoints and what is parked of it."""
    await transaction.lock(LEDGER)
    for statement in ("forget_generation", "forget_segments", "forget_parked"):
        await transaction.run(SQL[statement], name=generation.name, generation=generation.number)


class Place:
    """Which generation answers the questions of this version of the code; looked up now and then.

    Args:
        database: where it is.
        code: what builds it.
        fresh: seconds for which what was found holds. The one before is kept in step for much longer, but not by the
            appends.
    """

    def __init__(self, database: ReadDatabase, code: Buildable, fresh: float = FRESH) -> None:
        self._fresh = fresh
        self._database = database
        self._code = code
        self._found: Generation | None = None
        self._built: int | None = None
        self._looked_at = 0.0
        self._looking = asyncio.Lock()

    @property
    def known(self) -> Generation | None:
        """The generation that was found last."""
        return self._found

    async def find(self, *, again: bool = False) -> Generation:
        """Return the generation that serves this version, or the one before if its rows look alike.

        However many ask at one moment, the database is asked once.

        Args:
            again: look it up now.

        Raises:
            UnknownProjectionError: nothing was prepared.
            ReadModelBuildingError: it is being built, and what serves looks otherwise.
            StorageError: the database failed.
        """
        asked = time.monotonic()
        since = asked if again else asked - (self._fresh if self._found else UNREADY)
        if self._looked_at < since:
            async with self._looking:
                if self._looked_at < since:  # else whoever went before has looked for all who waited
                    await self._look()
        if self._found is not None:
            return self._found
        if self._built is None:
            raise UnknownProjectionError(self._code.name, ())
        raise ReadModelBuildingError(self._code.name, self._code.version, self._built)

    def forget(self) -> None:
        """Look it up the next time."""
        self._looked_at = 0.0

    async def _look(self) -> None:
        now = time.monotonic()  # before the question, however long the answer takes
        rows = await self._database.query(SQL["generations_of"], name=self._code.name)
        known: dict[str, Generation] = {each.role: each for each in (Generation(*row) for row in rows)}
        found, built = self._choose(known), None
        if known and found is None:
            of = known.get("shadow", known["live"])
            [(position,)] = await self._database.query(SQL["position_of"], name=of.name, generation=of.number)
            built = position or 0
        self._found, self._built, self._looked_at = found, built, now

    def _choose(self, known: Mapping[str, Generation]) -> Generation | None:
        for role in ("live", "warm"):
            if (found := known.get(role)) and found.version == self._code.version:
                return found
        live = known.get("live")
        return live if live and _load(live.fingerprint).get("row") == self._code.fingerprint()["row"] else None


def _changed_parts(generation: Generation, code: Buildable) -> Sequence[str]:
    built, now = _load(generation.fingerprint), code.fingerprint()
    return sorted(part for part in built.keys() | now.keys() if built.get(part) != now.get(part)) if built else ()


def _dump(parts: Mapping[str, str]) -> str:
    return msgspec.json.encode(parts, order="deterministic").decode()


def _load(text: str) -> dict[str, Any]:
    return msgspec.json.decode(text, type=dict[str, Any])
