"""Checkpoints: how far each segment of each generation of a read model has come, as every engine stores it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal, NamedTuple

import msgspec

from twofold.errors import CheckpointMovedError
from twofold.messages.mark import Mark
from twofold.ports.held_back import HeldBack
from twofold.ports.read_database import Changes, ReadDatabase, ReadTransaction
from twofold.ports.segments import Step
from twofold.ports.sql import literal, sql_blocks

LEASE_TABLE = "all segments"
"""The lock of all that changes several checkpoints at once, so that two such transactions never wait for each other.

It is taken last: after the lock of a read model, and after its tables.
"""


GRACE_OF_PREVIOUS = 2.0
"""Seconds for which the generation that served before stands still, as other processes may still read it.

Longer than `QueryOptions.lookup` of any process. A constant, as all processes must agree on it.
"""


class GenerationState(StrEnum):
    """Where a generation of a read model is in its life. stored: change with care.

    `twofold.synchronizer.generations` has the table of the changes from one to another, and makes all of them.
    """

    BUILDING = "building"
    """It is being built from the log, beside the one that serves."""
    REFUSED = "refused"
    """It was built, and must not serve; its report says why. It stands still."""
    SERVING = "serving"
    """It answers, and is kept in step with the log."""
    PAUSED = "paused"
    """It answers, and stands still."""
    PREVIOUS = "previous"
    """It served before, and is kept in step with the log, so that it can serve again."""
    OUTDATED = "outdated"
    """It served before, and must not serve again; its report says why. It stands still."""


Role = Literal["serving", "building", "previous"]
"""What a generation is to those who ask: the one that answers, the one to come, the one before."""
ROLES: Mapping[GenerationState, Role] = {
    GenerationState.BUILDING: "building",
    GenerationState.REFUSED: "building",
    GenerationState.SERVING: "serving",
    GenerationState.PAUSED: "serving",
    GenerationState.PREVIOUS: "previous",
    GenerationState.OUTDATED: "previous",
}
STANDING_STILL = frozenset({GenerationState.REFUSED, GenerationState.PAUSED, GenerationState.OUTDATED})
"""No worker works on these."""


def _in_sql(*states: GenerationState) -> str:
    return ", ".join(map(literal, states))


_ANSWERING = [state for state, role in ROLES.items() if role == "serving"]
SQL = sql_blocks(
    "twofold.ports",
    "checkpoints.sql",
    answering=_in_sql(*_ANSWERING),
    paused=_in_sql(*STANDING_STILL.intersection(_ANSWERING)),
)
"""The statements about checkpoints that all engines share. No other module reads the file."""
SQL["take_step_of_log"] = SQL["take_step"].replace("RETURNING", f"AND EXISTS ({SQL['event_stands']})\nRETURNING")
BRIEF = frozenset(SQL[name] for name in ("serving", "checkpoints_of"))
"""Those of them that tasks that wait for a read model ask again and again, and that read a few rows along an index: an
engine in this process may answer them at once."""


class Generation(NamedTuple):
    """One read model as it was built. The order of the fields is that of `generations` in `checkpoints.sql`."""

    name: str
    number: int
    version: int
    suffix: str
    """Of the names of its tables."""
    state: GenerationState
    segments: int
    """How many it shall have."""
    fingerprint: str
    """JSON: a digest for each part of the code that builds it."""
    report: str
    """JSON: what came of the last attempt to let it serve."""
    made_at: int
    kind: str = "asynchronous"
    """Who drives it, as the process that prepared it last has declared; see `ProjectionKind`."""

    @property
    def role(self) -> Role:
        """What it is to those who ask."""
        return ROLES[self.state]

    @property
    def stands_still(self) -> bool:
        """Whether no worker works on it."""
        return self.state in STANDING_STILL

    @property
    def refused(self) -> str:
        """Why it must not serve; empty if nothing speaks against it."""
        return str(_load(self.report).get("reason", "")) if self.report else ""

    @property
    def parts(self) -> dict[str, Any]:
        """A digest for each part of the code that builds it."""
        return _load(self.fingerprint)


class Checkpoint(NamedTuple):
    """How far a segment has come, and who works on it. The order of the fields is that of `checkpoints`."""

    name: str
    generation: int
    first: int
    end: int
    position: int
    event_id: str
    """Of the event that stands at the position, as `Mark.text` gives it."""
    epoch: int
    owner: str
    leased_until: int
    moved_at: int
    error: str
    leased_at: int
    now: int
    """The database's clock. Times are microseconds since 1970-01-01 UTC."""
    held_back: str = ""
    """`HeldBack.text`."""

    @property
    def held(self) -> HeldBack | None:
        """The tenants that it holds back; None if there are none."""
        return HeldBack.stored(self.held_back)

    @property
    def furthest(self) -> Mark:
        """What it has handled last for those tenants that it does not hold back."""
        return held.ahead if (held := self.held) else self.mark

    def reached(self, tenant: str) -> int:
        """Return up to where it is complete for a tenant; without a name, for all."""
        return held.of(tenant).position if tenant and (held := self.held) else self.position

    @property
    def mark(self) -> Mark:
        """What it has handled last."""
        return Mark.stored(self.position, self.event_id)

    @property
    def is_leased(self) -> bool:
        """Whether a worker or a takeover holds it.

        A lease that begins in the future is from before the clock went back, and does not hold.
        """
        return bool(self.owner) and self.leased_at <= self.now <= self.leased_until


async def generations_of(transaction: ReadTransaction, name: str) -> list[Generation]:
    """Return the generations of a read model, the oldest first."""
    return [Generation(*row) for row in await transaction.run(SQL["generations_of"], name=name)]


async def generations_now(database: ReadDatabase, name: str) -> list[Generation]:
    """Return the same without a transaction: they may change right afterwards."""
    return [Generation(*row) for row in await database.query(SQL["generations_of"], name=name)]


async def checkpoints_of(transaction: ReadTransaction, generation: Generation) -> list[Checkpoint]:
    """Return a generation's segments in order."""
    rows = await transaction.run(SQL["checkpoints_of"], name=generation.name, generation=generation.number)
    return [Checkpoint(*row) for row in rows]


def statement_of(step: Step) -> str:
    """Return the name of the statement that takes a step.

    Events may be folded, the database be restored to an older state, and the step come then: where the log is beside
    the rows, it must not be taken, as nothing but the step's own event tells the two histories apart.
    """
    return "take_step_of_log" if step.needs_event else "take_step"


async def advance(transaction: ReadTransaction, changes: Changes, step: Step) -> bool:
    """Take a step within a transaction, with all but the rows; return whether the segment was where it had to be."""
    segment = {"name": step.segment.projection, "generation": step.segment.generation}
    if not await transaction.run(SQL[statement_of(step)], **step.values()):
        return False
    for event in changes.parked:
        await transaction.run(SQL["park"], **segment, **event._asdict(), slot=event.slot)
    for position, key in changes.released:
        await transaction.run(SQL["release"], **segment, position=position, key=key)
    return True


async def hold(database: ReadDatabase, step: Step) -> None:
    """Make sure that the holder of a step's epoch still holds the segment, and will for half of its lease.

    Whatever the holder does elsewhere within that time comes before what another worker does for the same segment. What
    cannot be fenced is a holder that is frozen between this call and what it does elsewhere.

    Raises:
        CheckpointMovedError: another worker, a takeover or an operator has the segment, or has moved its checkpoint.
        StorageError: the database failed.
    """
    held = {
        "name": step.segment.projection, "generation": step.segment.generation, "first": step.segment.first,
        "epoch": step.epoch, "position": step.before, "event_id": step.before_id,
    }  # fmt: skip
    while True:
        asked = time.monotonic()
        left = await database.query(SQL["lease_left"], **held)
        if left and left[0][0] / 1e6 >= step.lease / 2 and time.monotonic() < asked + step.lease / 4:
            return
        async with database.transaction() as transaction:
            renewed = await transaction.run(SQL["renew_at"], **held, lease=int(step.lease * 1e6))
        if not renewed:
            raise CheckpointMovedError(step.segment.projection)


def _load(text: str) -> dict[str, Any]:
    return msgspec.json.decode(text, type=dict[str, Any])
