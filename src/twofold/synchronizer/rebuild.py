"""Rebuilds: a new generation is built beside the one that serves, verified, and takes over in one transaction.

What is not finished when a process dies goes on with the next one: all that must be known stands in the database.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec

from twofold.errors import InvalidProjectionError, RebuildFailedError, StorageError, UnknownProjectionError
from twofold.log.event_store import EventStore
from twofold.ports.checkpoints import LEDGER, SQL, Generation, checkpoints_of, generations_of
from twofold.ports.read_database import ReadDatabase, ReadTransaction
from twofold.projections.failure import INFRASTRUCTURE
from twofold.projections.runner import ProjectionRunner
from twofold.queries.serving import HELD
from twofold.synchronizer.generations import build, forget
from twofold.synchronizer.leases import CHANGING_OVER, REBUILDING, Held, Ledger, read_ledger, segment_of
from twofold.synchronizer.rebuild_checks import Report, verify_nothing_parked, verify_rows, verify_same, verify_sample
from twofold.synchronizer.segment_runner import SegmentRunner

log = logging.getLogger(__name__)

NEAR = 5000
"""Positions behind the head from which on a new generation is taken to be complete, and is finished."""
MAX_SEGMENTS = 8
"""A new generation is built in so many segments at most, if there are as many workers."""

MakeSegmentRunner = Callable[[Held, str], SegmentRunner]


async def begin(database: ReadDatabase, runner: ProjectionRunner, *, expect_same: bool) -> Generation:
    """Make an empty generation beside the one that serves, or return the one that is being built already.

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
        for shadow in (each for each in known if each.role == "shadow"):
            if shadow.version == runner.version and not shadow.refused:
                return shadow
            await forget(transaction, runner, shadow)
        workers = (await read_ledger(transaction)).workers.values()
        able = sum((runner.name, runner.version) in codes for codes in workers)
        live = next(each for each in known if each.role == "live")
        segments = max(live.segments, min(able, MAX_SEGMENTS))
        generation = await build(transaction, runner, "shadow", segments=segments)
        await _report(transaction, generation, Report(expect_same=expect_same))
        return generation


async def reset(database: ReadDatabase, runner: ProjectionRunner) -> None:
    """Empty a read model in place and let it begin again.

    Raises:
        UnknownProjectionError: there is none of this name.
        StorageError: the database failed.
    """
    async with database.transaction(runner.style) as transaction:
        await transaction.lock(runner.name)
        known = await generations_of(transaction, runner.name)
        live = next((each for each in known if each.role == "live"), None)
        if live is None:
            raise UnknownProjectionError(runner.name, ())
        of = {"name": live.name, "generation": live.number}
        await transaction.lock(LEDGER)
        beginning = {"position": 0, "event_id": ""}
        await transaction.run(SQL["set_position"], **of, **beginning)  # before the rows, as appends lock them
        await runner.clear(transaction, live.suffix)
        await transaction.run(SQL["forget_parked"], **of)


async def cancel(database: ReadDatabase, runner: ProjectionRunner) -> bool:
    """Drop the generation that is being built; return whether there was one."""
    return await _forget_all(database, runner, "shadow")


async def drop_warm(database: ReadDatabase, runner: ProjectionRunner) -> bool:
    """Drop the generation that served before; return whether there was one."""
    return await _forget_all(database, runner, "warm")


async def report_of(database: ReadDatabase, name: str, number: int) -> tuple[str, Report]:
    """Return the role of a generation, empty if it is gone, and what came of the attempt to let it serve."""
    rows = await database.query(SQL["generations_of"], name=name)
    found = next((each for row in rows if (each := Generation(*row)).number == number), None)
    return (found.role, _read(found)) if found else ("", Report())


class Takeover:
    """Lets one generation of a read model take over from another, at one and the same position.

    Args:
        store: where the events are.
        database: where the read model is.
        runner: the code of both generations, or of the new one only if they differ in version.
        make_segment_runner: makes what runs a segment, under the name of an owner.
        worker: the worker that does it.
        lease: seconds for which the segments are kept if the worker dies over it.
    """

    def __init__(
        self,
        store: EventStore,
        database: ReadDatabase,
        runner: ProjectionRunner,
        make_segment_runner: MakeSegmentRunner,
        worker: str,
        lease: float,
    ) -> None:
        self._store = store
        self._database = database
        self._runner = runner
        self._make_segment_runner = make_segment_runner
        self._owner = REBUILDING + worker
        self._lease = lease

    async def finish(self, name: str, number: int) -> Report:
        """Verify a new generation and let it serve, if it passes; the earlier one is kept warm, or serves on.

        Raises:
            Exception: whatever holds a segment up; it is tried again later.
        """
        new, live = await self._pair(name, number)
        async with self._keeping():
            await self._take_out(new)
            end = await self._store.head()
            await self._bring_to(new, end)
            report = await verify_sample(self._store, self._database, self._runner, new, end, _read(new))
            if not report.reason:
                await self._bring_to(new, await self._store.head())  # the verification has taken its time
                await self._take_out(live)
                end = await self._bring_together(new, live)
                report = await verify_rows(self._database, self._runner, live, new, report)
                end = await self._bring_nearer(new, end)
            try:
                report = await self._decide(new, live, end, report)
            except InvalidProjectionError as error:  # something stands in the way of its tables or views
                report = await self._decide(new, live, end, msgspec.structs.replace(report, reason=str(error)))
        if report.reason:
            log.error("the new read model %s does not serve: %s", name, report.reason)
        return report

    async def roll_back(self, name: str) -> None:
        """Let the generation that served before serve again, as complete as the present one.

        Raises:
            RebuildFailedError: none was kept, or it is of another version.
            InvalidProjectionError: something stands in the way of its tables or views.
            Exception: whatever holds a segment up.
        """
        known = [Generation(*row) for row in await self._database.query(SQL["generations_of"], name=name)]
        warm = next((each for each in known if each.role == "warm"), None)
        live = next(each for each in known if each.role == "live")
        if warm is None or warm.version != self._runner.version:
            raise RebuildFailedError(name, "no earlier generation of this version was kept")
        if warm.refused:
            raise RebuildFailedError(name, warm.refused)
        async with self._keeping():
            await self._take_out(warm)
            await self._take_out(live)
            end = await self._bring_together(warm, live)
            report = await self._decide(warm, live, end, _read(warm))
        if report.reason:
            raise RebuildFailedError(name, report.reason)

    async def _pair(self, name: str, number: int) -> tuple[Generation, Generation]:
        known = [Generation(*row) for row in await self._database.query(SQL["generations_of"], name=name)]
        return (
            next(each for each in known if each.number == number),
            next(each for each in known if each.role == "live"),
        )

    @asynccontextmanager
    async def _keeping(self) -> AsyncIterator[None]:
        """Keep what is taken out for as long as the block runs, then give it back."""
        keeper = asyncio.create_task(self._keep(), name="twofold-takeover")
        try:
            yield
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
            with suppress(*INFRASTRUCTURE):  # then the leases run out
                await self._run_alone("give_back_all", owner=self._owner)

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._lease / 3)
            with suppress(*INFRASTRUCTURE):
                await self._run_alone("renew_all", owner=self._owner, lease=int(self._lease * 1e6))

    async def _run_alone(self, statement: str, **values: Any) -> None:
        async with self._database.transaction() as transaction:
            await transaction.lock(LEDGER)
            await transaction.run(SQL[statement], **values)

    async def _take_out(self, generation: Generation) -> None:
        """Take all segments from whoever works on them, who then commits nothing more."""
        await self._run_alone(
            "take_out", name=generation.name, generation=generation.number, owner=self._owner,
            lease=int(self._lease * 1e6),
        )  # fmt: skip

    async def _bring_together(self, new: Generation, live: Generation) -> int:
        """Bring two generations to the same position; an older version of the code's only stands still meanwhile.

        The one that serves goes first: of two readers, one may ask the other one yet, which served until just now.
        """
        end = await self._store.head()
        if live.version == self._runner.version:
            await self._bring_to(live, end)
        await self._bring_to(new, end)
        return end

    async def _bring_nearer(self, new: Generation, end: int) -> int:
        """Bring an inline one nearer to the head, before the appends have to wait for the rest of the way."""
        if self._runner.drive.by_appends:
            end = await self._store.head()
            await self._bring_to(new, end)
        return end

    async def _bring_to(self, generation: Generation, end: int) -> None:
        async with self._database.transaction() as transaction:
            rows = await checkpoints_of(transaction, generation)
        for row in rows:
            held = Held(segment_of(row), row.epoch, generation.suffix, generation.version)
            await self._make_segment_runner(held, self._owner).catch_up(end)

    async def _decide(self, new: Generation, live: Generation, end: int, report: Report) -> Report:
        """Let the new generation serve in the transaction that finds both still in our hands, or say why not."""
        async with self._database.transaction(self._runner.style) as transaction:
            await transaction.lock(new.name)
            known = await generations_of(transaction, new.name)
            await self._check_hold(transaction, new, end)
            if refused := next((each.refused for each in known if each.number == new.number), ""):
                return msgspec.structs.replace(report, reason=refused)  # an event in it was left out meanwhile
            if new.role == "shadow" and not report.reason:  # it has gone on since its rows were compared
                report = await verify_nothing_parked(transaction.run, new, report)
            report = await self._complete(transaction, new, live, report)
            await _report(transaction, new, report)
            if report.reason:
                await transaction.run(SQL["set_paused"], name=new.name, generation=new.number, paused=1)
                return report
            await self._runner.expose(transaction, new.suffix)
            for other in known:
                if other.role == "warm" and other.number != new.number:
                    await forget(transaction, self._runner, other)
            await transaction.lock(LEDGER)  # nobody takes a segment from here on, should our lease have run out
            stands_still = live.version == self._runner.version and not self._runner.drive.by_appends
            await self._check_hold(transaction, live, end if stands_still else None)
            await self._hand_over(transaction, next(each for each in known if each.number == live.number), new)
        return report

    async def _complete(
        self, transaction: ReadTransaction, new: Generation, live: Generation, report: Report
    ) -> Report:
        """Bring an inline one to the very head of the log; appends wait from here on until it serves."""
        runner = self._runner
        if report.reason or not runner.drive.by_appends:
            return report
        await runner.drive.complete(runner, self._store.events, transaction, new.number)
        if runner.rows and report.expect_same and new.role == "shadow" and new.version == live.version:
            report = await verify_same(transaction.run, runner.rows, live, new, report)
        return report

    async def _check_hold(self, transaction: ReadTransaction, generation: Generation, end: int | None) -> None:
        rows = await checkpoints_of(transaction, generation)
        if not rows or any(row.owner != self._owner or (end is not None and row.position != end) for row in rows):
            raise StorageError(f"somebody took the read model {generation.name} over meanwhile; it is tried again")

    async def _hand_over(self, transaction: ReadTransaction, live: Generation, new: Generation) -> None:
        """Exchange the roles, with what operators have set; nobody who looks up late sees the rows go back."""
        place, old = {"name": new.name, "generation": new.number}, {"name": live.name, "generation": live.number}
        await transaction.run(SQL["set_role"], **old, role="warm")
        await transaction.run(SQL["set_role"], **place, role="live")
        await transaction.run(SQL["set_segments"], **place, segments=live.segments)
        await transaction.run(SQL["set_paused"], **place, paused=live.paused)
        await transaction.run(SQL["set_paused"], **old, paused=0)
        await transaction.run(SQL["take_out"], **old, owner=CHANGING_OVER, lease=int(HELD * 1e6))


def due(ledger: Ledger, head: int) -> list[Generation]:
    """Return the generations that are complete enough to take over, unless what serves is paused."""

    def position(generation: Generation) -> int:
        of = (generation.name, generation.number)
        return min((row.position for row in ledger.checkpoints if (row.name, row.generation) == of), default=0)

    paused = {each.name for each in ledger.generations if each.role == "live" and each.paused}
    shadows = [each for each in ledger.generations if each.role == "shadow" and not each.paused]
    waiting = [each for each in shadows if each.name not in paused]
    return [each for each in waiting if position(each) >= head - NEAR]


async def _forget_all(database: ReadDatabase, runner: ProjectionRunner, role: str) -> bool:
    async with database.transaction(runner.style) as transaction:
        await transaction.lock(runner.name)
        found = [each for each in await generations_of(transaction, runner.name) if each.role == role]
        for generation in found:
            await forget(transaction, runner, generation)
        live = [each for each in await generations_of(transaction, runner.name) if each.role == "live"]
        if found and live and live[0].version == runner.version:
            await runner.expose(transaction, live[0].suffix)
    return bool(found)


async def _report(transaction: ReadTransaction, generation: Generation, report: Report) -> None:
    text = msgspec.json.encode(report).decode()
    await transaction.run(SQL["set_report"], name=generation.name, generation=generation.number, report=text)


def _read(generation: Generation) -> Report:
    return msgspec.json.decode(generation.report, type=Report) if generation.report else Report()
