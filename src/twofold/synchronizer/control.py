"""What operators do with read models while they run: pause, set back, divide, and decide on parked events.

Each is one transaction, which raises the epochs of the segments concerned: whoever works on them commits nothing that
it began before, and goes on from what stands there then. None needs the code of the projection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec

from twofold.errors import InvalidProjectionError, UnknownProjectionError
from twofold.messages.event import EPOCH
from twofold.ports.checkpoints import LEASE_TABLE, SQL, Checkpoint, Generation, checkpoints_of, generations_of
from twofold.ports.read_database import ReadDatabase, ReadTransaction
from twofold.ports.segments import SLOTS, slot_of
from twofold.projections.fingerprint import has_row_type
from twofold.synchronizer.generations import Change, change, forget_records
from twofold.synchronizer.rebuild_checks import Report, store_report

ALL_KEYS = ""


@dataclass(frozen=True, kw_only=True)
class ParkedEvent:
    """An event that is set aside."""

    position: int
    key: str
    """The key of its row, as JSON."""
    cause: str
    """What its projection raised; empty if it only waits behind an earlier one of its row."""
    traceback: str
    parked_at: datetime


@dataclass(frozen=True, kw_only=True)
class PassedOver:
    """An event that somebody decided to leave out, for ever."""

    position: int
    key: str
    cause: str
    reason: str
    passed_at: datetime


async def pause(database: ReadDatabase, name: str) -> None:
    """Let a read model stand still from now on, until it is resumed.

    Raises:
        UnknownProjectionError: there is none of this name.
        StorageError: the database failed.
    """
    await _change(database, name, "pause")


async def resume(database: ReadDatabase, name: str) -> None:
    """Let a read model go on that was paused.

    Raises:
        UnknownProjectionError, StorageError: as for `pause`.
    """
    await _change(database, name, "resume")


async def set_position(database: ReadDatabase, name: str, position: int) -> None:
    """Let a read model go on behind a position, whatever it has handled before; its rows stay as they are.

    Raises:
        UnknownProjectionError, StorageError: as for `pause`.
        ValueError: the position is below zero.
    """
    if position < 0:
        raise ValueError(f"positions begin at 1, and 0 stands before all; got {position}")
    async with database.transaction() as transaction:
        live = await _live(transaction, name)
        place = {"name": name, "generation": live.number}
        await transaction.run(SQL["set_position"], **place, position=position, event_id="")
        await transaction.run(SQL["forget_parked"], **place)


async def scale(database: ReadDatabase, name: str, segments: int) -> None:
    """Divide a read model into so many segments, on which as many workers can work; they do so while it runs.

    Raises:
        UnknownProjectionError, StorageError: as for `pause`.
        ValueError: the number is not between 1 and 256.
    """
    if not 1 <= segments <= SLOTS:
        raise ValueError(f"a read model has 1 to {SLOTS} segments, got {segments}")
    async with database.transaction() as transaction:
        live = await _live(transaction, name)
        await transaction.run(SQL["set_segments"], name=name, generation=live.number, segments=segments)


async def parked(database: ReadDatabase, name: str, *, limit: int = 1000) -> Sequence[ParkedEvent]:
    """Return the events that are set aside, in order.

    Raises:
        UnknownProjectionError, StorageError: as for `pause`.
    """
    async with database.transaction() as transaction:
        live = await _live(transaction, name)
        rows = await transaction.run(SQL["parked"], name=name, generation=live.number, limit=limit)
    return [
        ParkedEvent(position=position, key=key, cause=cause, traceback=traceback, parked_at=_moment(parked_at))
        for position, _, key, cause, traceback, parked_at, _ in rows
    ]


async def passed_over(database: ReadDatabase, name: str) -> Sequence[PassedOver]:
    """Return the events that somebody decided to leave out, in order.

    Raises:
        StorageError: the database failed.
    """
    rows = await database.query(SQL["decisions"], name=name)
    return [
        PassedOver(position=position, key=key, cause=cause, reason=reason, passed_at=_moment(passed_at))
        for position, key, cause, reason, passed_at in rows
    ]


async def retry(database: ReadDatabase, name: str, key: str = ALL_KEYS) -> int:
    """Have parked events tried again, in order: those of one row, or all; return how many there are.

    Whoever works on the segment does it. Those that fail again, and the later ones of their rows, stay parked.

    Raises:
        UnknownProjectionError, StorageError: as for `pause`.
    """
    asked = 0
    async with database.transaction() as transaction:
        for generation in await _disturbed(transaction, name):  # one that is kept warm may have to serve again
            found = await transaction.run(SQL["ask_retry"], name=name, generation=generation.number, key=key)
            asked += len(found) if generation.role == "serving" else 0
    return asked


async def skip(database: ReadDatabase, name: str, position: int, reason: str, *, slot: int | None = None) -> None:
    """Leave an event out for ever, parked or not yet reached, and have the later ones of its row tried again.

    Rebuilds leave it out as well. The decision is recorded with its reason.

    Args:
        database: where the read model is.
        name: its name.
        position: the event's.
        reason: why.
        slot: of the event's key, if that is known.

    Raises:
        UnknownProjectionError, StorageError: as for `pause`.
        ValueError: there is no reason, or the event has come in already.
    """
    async with database.transaction() as transaction:
        generations = await _disturbed(transaction, name)
        live = _serving(generations)
        found = await transaction.run(SQL["parked_at"], name=name, generation=live.number, position=position)
        key, cause = found[0] if found else ("", "")
        slot = slot_of(key) if key else slot
        await _pass_over(transaction, generations, [(position, cause)], key, reason, slot)


async def discard(database: ReadDatabase, name: str, key: str, reason: str) -> int:
    """Leave all parked events of a row out for ever, and let its later events in; return how many there were.

    Raises:
        UnknownProjectionError, StorageError: as for `pause`.
        ValueError: there is no reason.
    """
    async with database.transaction() as transaction:
        generations = await _disturbed(transaction, name)
        live = _serving(generations)
        found = await transaction.run(SQL["parked_of"], name=name, generation=live.number, key=key)
        await _pass_over(transaction, generations, found, key, reason, slot_of(key))
    return len(found)


async def drop_warm(database: ReadDatabase, name: str) -> bool:
    """Drop the generation that is kept for a roll-back; return whether there was one.

    Raises:
        UnknownProjectionError, StorageError: as for `pause`.
        InvalidProjectionError: it is a projection by SQL, whose tables only its code knows.
    """
    async with database.transaction() as transaction:
        await _live(transaction, name)
        warm = next((each for each in await generations_of(transaction, name) if each.role == "previous"), None)
        if warm is None:
            return False
        if not has_row_type(msgspec.json.decode(warm.fingerprint, type=dict[str, str])):
            raise InvalidProjectionError(
                f"the tables of {name} are known to its code only; call drop_warm({name!r}) there, on the "
                f"application's projections"
            )
        await transaction.drop(name + warm.suffix)
        await forget_records(transaction, warm)
    return True


async def _pass_over(
    transaction: ReadTransaction,
    generations: Sequence[Generation],
    events: Sequence[tuple[int, str]],
    key: str,
    reason: str,
    slot: int | None,
) -> None:
    if not reason.strip():
        raise ValueError("say why: the reason is recorded for those who ask later")
    decision = {"name": generations[0].name, "key": key, "reason": reason}
    for position, cause in events:
        await transaction.run(SQL["pass_over"], **decision, position=position, cause=cause)
    for generation in generations:
        for position, _ in events:
            await _leave_out(transaction, generation, position, slot)


async def _leave_out(transaction: ReadTransaction, generation: Generation, position: int, slot: int | None) -> None:
    """Let the later events of the row in; what has the event in it must not serve."""
    place = {"name": generation.name, "generation": generation.number}
    if found := await transaction.run(SQL["parked_at"], **place, position=position):
        await transaction.run(SQL["release"], **place, position=position)
        await transaction.run(SQL["ask_retry"], **place, key=found[0][0])
    elif _has_come_in(await checkpoints_of(transaction, generation), position, slot):
        if generation.role == "serving":
            raise ValueError(
                f"event {position} is in the read model {generation.name} already, or is none that it handles; to have "
                f"it out, let the projection's code leave it out, raise its version, and it is built again"
            )
        reason = f"event {position} was skipped after it had come in; build it again"
        await store_report(transaction, generation, Report(reason=reason))
        await change(transaction, generation, "refuse")


def _has_come_in(rows: Sequence[Checkpoint], position: int, slot: int | None) -> bool:
    """Return whether an event that is not parked was handled; one without a known key holds every segment up."""
    return min(row.position for row in rows if slot is None or row.first <= slot < row.end) >= position


async def _change(database: ReadDatabase, name: str, how: Change) -> None:
    async with database.transaction() as transaction:
        serving = await _live(transaction, name)
        await change(transaction, serving, how)
        place = {"name": name, "generation": serving.number}
        await transaction.run(SQL["seize"], **place, owner="", lease=0)  # its workers let go at once


async def _disturbed(transaction: ReadTransaction, name: str) -> list[Generation]:
    """Return the generations as the last steps have left them; what was begun before this is committed no more.

    To be called before anything is read that a step may change: one that is under way is waited for here.
    """
    generations = await _generations(transaction, name)
    for each in generations:
        await transaction.run(SQL["fence"], name=name, generation=each.number)
    return generations


async def _live(transaction: ReadTransaction, name: str) -> Generation:
    return _serving(await _generations(transaction, name))


async def _generations(transaction: ReadTransaction, name: str) -> list[Generation]:
    await transaction.lock(name)
    await transaction.lock(LEASE_TABLE)
    generations = await generations_of(transaction, name)
    if not generations:
        raise UnknownProjectionError(name, {row[0] for row in await transaction.run(SQL["generations"])})
    return generations


def _serving(generations: Sequence[Generation]) -> Generation:
    return next(each for each in generations if each.role == "serving")


def _moment(microseconds: int) -> datetime:
    return (EPOCH + timedelta(microseconds=microseconds)).astimezone(UTC)
