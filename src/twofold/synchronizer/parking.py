"""Parked and skipped events of a read model: what operators see of them and decide about them.

*Parked* is an event that failed, and each later one of its row, which waits behind it. A *retry* folds them in order.
*Skipped* is an event that an operator leaves out for ever, with a reason; rebuilds leave it out, too.

Each decision is one transaction. It raises the epochs of the segments first (`fence`), so that it sees all that steps
have done, and that no step which was begun before is committed after it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from twofold.messages.event import EPOCH
from twofold.messages.mark import Mark
from twofold.ports.checkpoints import SQL, Checkpoint, Generation, checkpoints_of
from twofold.ports.read_database import ReadDatabase, ReadTransaction
from twofold.ports.segments import slot_of
from twofold.synchronizer.generations import change, locked_generations, serving_now, serving_of
from twofold.synchronizer.rebuild_checks import Report, store_report

ALL_KEYS = ""


@dataclass(frozen=True, kw_only=True)
class ParkedEvent:
    """An event that is parked."""

    position: int
    event_id: UUID
    key: str
    """The key of its row, as JSON."""
    cause: str
    """What its projection raised; empty if it only waits behind an earlier one of its row."""
    traceback: str
    parked_at: datetime


@dataclass(frozen=True, kw_only=True)
class SkippedEvent:
    """An event that an operator has skipped, for ever."""

    position: int
    event_id: UUID
    """Another event that stands at the position, as after a restore of the log, is not skipped."""
    key: str
    cause: str
    reason: str
    skipped_at: datetime


class _Skip(NamedTuple):
    """An event to be skipped for one row; for all without a key."""

    position: int
    key: str
    cause: str
    event_id: str


async def parked(database: ReadDatabase, name: str, *, limit: int = 1000) -> Sequence[ParkedEvent]:
    """Return the parked events, in order. It takes no lock, so that no append and no worker waits for it.

    Raises:
        UnknownProjectionError: there is none of this name.
        StorageError: the database failed.
    """
    serving = await serving_now(database, name)
    rows = await database.query(SQL["parked"], name=name, generation=serving.number, limit=limit)
    return [
        ParkedEvent(
            position=position, event_id=UUID(hex=event_id), key=key, cause=cause, traceback=traceback,
            parked_at=_moment(parked_at),
        )
        for position, event_id, _, key, cause, traceback, parked_at, _ in rows
    ]  # fmt: skip


async def skipped(database: ReadDatabase, name: str) -> Sequence[SkippedEvent]:
    """Return the skipped events, in order.

    Raises:
        StorageError: the database failed.
    """
    rows = await database.query(SQL["decisions"], name=name)
    return [
        SkippedEvent(
            position=position, event_id=UUID(hex=event_id), key=key, cause=cause, reason=reason,
            skipped_at=_moment(skipped_at),
        )
        for position, event_id, key, cause, reason, skipped_at in rows
    ]  # fmt: skip


async def retry(database: ReadDatabase, name: str, key: str = ALL_KEYS) -> int:
    """Have parked events tried again, in order: those of one row, or all; return how many there are.

    The worker of the segment does it. Those that fail again, and the later ones of their rows, stay parked.

    Raises:
        UnknownProjectionError: there is none of this name.
        StorageError: the database failed.
    """
    asked = 0
    async with database.transaction() as transaction:
        for generation in await _fenced(transaction, name):  # the previous one may have to serve again
            found = await transaction.run(SQL["ask_retry"], name=name, generation=generation.number, key=key)
            asked += len(found) if generation.role == "serving" else 0
    return asked


async def retrying(database: ReadDatabase, name: str) -> int:
    """Return how many parked events wait for their worker to try them again.

    Raises:
        UnknownProjectionError: there is none of this name.
        StorageError: the database failed.
    """
    async with database.transaction() as transaction:
        serving = serving_of(await locked_generations(transaction, name))
        [[waiting]] = await transaction.run(SQL["retrying"], name=name, generation=serving.number)
    return int(waiting)


async def skip(
    database: ReadDatabase,
    name: str,
    event: Mark,
    reason: str,
    *,
    slots: Collection[int] | None = None,
    tenant: str = "",
) -> None:
    """Skip an event that is parked or not yet reached, and have the later ones of its rows tried again.

    One that is parked is skipped for the rows for which it is parked, also by rebuilds; for others it has come in.

    Args:
        database: where the read model is.
        name: its name.
        event: where it stands, and which one it is; the id may be unknown if it is parked.
        reason: why.
        slots: of the event's keys, if these are known.
        tenant: whose event it is, if it is a tenant's.

    Raises:
        UnknownProjectionError: there is none of this name.
        StorageError: the database failed.
        ValueError: there is no reason, the event has come in already, or it is not known which one is meant.
    """
    async with database.transaction() as transaction:
        generations = await _fenced(transaction, name)
        serving = serving_of(generations)
        found = await transaction.run(SQL["parked_at"], name=name, generation=serving.number, position=event.position)
        events = [_Skip(event.position, *row) for row in found] or [_Skip(event.position, "", "", event.text)]
        await _skip(transaction, generations, events, reason, slots, tenant)


async def skip_row(database: ReadDatabase, name: str, key: str, reason: str) -> int:
    """Skip all parked events of a row, and let its later events in; return how many there were.

    Raises:
        UnknownProjectionError: there is none of this name.
        StorageError: the database failed.
        ValueError: there is no reason.
    """
    async with database.transaction() as transaction:
        generations = await _fenced(transaction, name)
        serving = serving_of(generations)
        found = await transaction.run(SQL["parked_of"], name=name, generation=serving.number, key=key)
        events = [_Skip(position, key, cause, event_id) for position, cause, event_id in found]
        await _skip(transaction, generations, events, reason, None)
    return len(found)


async def _skip(
    transaction: ReadTransaction,
    generations: Sequence[Generation],
    events: Sequence[_Skip],
    reason: str,
    slots: Collection[int] | None,
    tenant: str = "",
) -> None:
    if not reason.strip():
        raise ValueError("say why: the reason is recorded for those who ask later")
    for each in events:
        if not each.event_id:
            raise ValueError(
                f"event {each.position} is not parked, and the log does not hold it: there is nothing to skip"
            )
        await transaction.run(SQL["skip"], name=generations[0].name, reason=reason, **each._asdict())
    for generation in generations:
        for each in events:
            its_slots = [slot_of(each.key)] if each.key else slots
            await _leave_out(transaction, generation, each.position, each.key, its_slots, tenant)


async def _leave_out(
    transaction: ReadTransaction,
    generation: Generation,
    position: int,
    key: str,
    slots: Collection[int] | None,
    tenant: str,
) -> None:
    """Let the later events of a row, or of all that the event is about, in; what has it in it must not serve."""
    place = {"name": generation.name, "generation": generation.number}
    found = [row[0] for row in await transaction.run(SQL["parked_at"], **place, position=position)]
    parked = [each for each in found if key in ("", each)]
    for each in parked:
        await transaction.run(SQL["release"], **place, position=position, key=each)
        await transaction.run(SQL["ask_retry"], **place, key=each)
    if parked:
        return
    if _has_come_in(await checkpoints_of(transaction, generation), position, slots, tenant):
        if generation.role == "serving":
            raise ValueError(
                f"event {position} is in the read model {generation.name} already, or is none that it handles; to have "
                f"it out, let the projection's code leave it out, raise its version, and it is built again"
            )
        reason = f"event {position} was skipped after it had come in; build it again"
        await store_report(transaction, generation, Report(reason=reason))
        await change(transaction, generation, "refuse")


def _has_come_in(rows: Sequence[Checkpoint], position: int, slots: Collection[int] | None, tenant: str) -> bool:
    """Return whether an event that is not parked was handled for any row; one without known keys holds all up."""
    came = [(row, (held.of(tenant).position if (held := row.held) else row.position) >= position) for row in rows]
    if slots is None:
        return all(has_come for _, has_come in came)
    return any(has_come for row, has_come in came for slot in slots if row.first <= slot < row.end)


async def _fenced(transaction: ReadTransaction, name: str) -> list[Generation]:
    """Return the generations as the last steps have left them; what was begun before this is committed no more.

    To be called before anything is read that a step may change: one that is under way is waited for here.
    """
    generations = await locked_generations(transaction, name)
    for each in generations:
        await transaction.run(SQL["fence"], name=name, generation=each.number)
    return generations


def _moment(microseconds: int) -> datetime:
    return (EPOCH + timedelta(microseconds=microseconds)).astimezone(UTC)
