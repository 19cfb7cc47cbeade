"""A takeover: lets one generation of a read model serve in the place of another, at one and the same position.

1. Seize the segments of the new generation, and renew those leases as long as the work goes on: its workers commit
   nothing more.
2. Catch the new generation up to the head of the log, and verify a sample of its rows against the log.
3. Seize the segments of the generation that serves; catch both up to one position, and verify the rows of one against
   those of the other. Until here, whatever fails gives the segments back, and all goes on as it was.
4. Decide in one transaction, which finds both generations still seized and at that position: the new one serves, the
   other one becomes the previous one. Or the report says why not, and the one that served serves on.
5. The previous generation stands still for as long as a reader may still ask it, and then follows the log.

A roll-back is the same from 3 on, with the previous generation as the new one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from twofold.errors import (
    CheckpointMovedError,
    HistoryChangedError,
    InvalidProjectionError,
    LeaseLostError,
    RebuildFailedError,
    TimeLimitError,
)
from twofold.ports.checkpoints import (
    GRACE_OF_PREVIOUS,
    LEASE_TABLE,
    SQL,
    Generation,
    GenerationState,
    checkpoints_of,
    generations_now,
    generations_of,
)
from twofold.ports.read_database import ReadTransaction
from twofold.projections.runner import ProjectionRunner
from twofold.synchronizer.generations import change, divide, forget
from twofold.synchronizer.leases import CHANGING_OVER, TAKEOVER, Held, LeaseTable, segment_of
from twofold.synchronizer.rebuild_checks import (
    Report,
    read_report,
    store_report,
    verify_nothing_parked,
    verify_rows,
    verify_same,
    verify_sample,
)
from twofold.synchronizer.segments.factory import RunnerFactory
from twofold.tasks import JITTER, is_failure, supervise
from twofold.tasks import end as end_task

log = logging.getLogger(__name__)


class Takeover:
    """Lets one generation of a read model serve in the place of another; see the flow at the top.

    Args:
        factory: makes the runners that catch segments up.
        runner: the code of both generations, or of the new one only if they differ in version.
        worker: the name of the worker that does it.
    """

    def __init__(self, factory: RunnerFactory, runner: ProjectionRunner, worker: str) -> None:
        self._factory = factory
        self._store = factory.store
        self._database = factory.database
        self._lease = factory.options.lease
        self._runner = runner
        self._owner = TAKEOVER + worker
        self._other_history = ""
        """Why the generation that serves is not of the history of the log; empty if it is."""

    async def finish(self, name: str, number: int) -> Report:
        """Verify a new generation and let it serve, if it passes; the other one becomes the previous one, or serves on.

        Raises:
            LeaseLostError, CheckpointMovedError: another takeover or an operator was faster; it is tried again later.
            TimeLimitError: a part of it took too long; it is tried again later.
            Exception: any error that holds a segment up; it is tried again later.
        """
        known = await generations_now(self._database, name)
        new = next(each for each in known if each.number == number)
        serving = next(each for each in known if each.role == "serving")
        async with self._keeping_leases():
            try:
                report = await self._finish(new, serving)
            except HistoryChangedError as error:  # that of the new one, as it was built before the log was restored
                report = await self._refuse(new, str(error))
        if report.reason:
            log.error("the new read model %s does not serve: %s", name, report.reason)
        return report

    async def _finish(self, new: Generation, serving: Generation) -> Report:
        await self._seize(new)
        end = await self._store.head()
        await self._catch_up_to(new, end)
        async with self._limit("the verification", self._factory.options.verification_limit):
            report = await verify_sample(
                self._store, self._database, self._runner, new, end, read_report(new), self._factory.options
            )
        if not report.reason:
            await self._catch_up_to(new, await self._store.head())  # the verification has taken its time
            await self._seize(serving)
            end = await self._catch_up_to_one_position(new, serving)
            async with self._limit("the comparison of all rows", self._factory.options.verification_limit):
                if not self._other_history:
                    report = await verify_rows(self._database, self._runner, serving, new, report)
            end = await self._catch_up_closer(new, end)
        try:
            return await self._decide(new, serving, end, report)
        except InvalidProjectionError as error:  # something stands in the way of its tables or views
            return await self._decide(new, serving, end, msgspec.structs.replace(report, reason=str(error)))

    async def _refuse(self, new: Generation, reason: str) -> Report:
        """Let a new generation never serve: it cannot go on. The next rebuild builds another one."""
        async with self._database.transaction(self._runner.style) as transaction:
            await transaction.lock(new.name)
            await self._check_hold(transaction, new, None)
            report = msgspec.structs.replace(read_report(new), reason=reason)
            await store_report(transaction, new, report)
            await change(transaction, new, "refuse")
        return report

    async def roll_back(self, name: str) -> None:
        """Let the previous generation serve again, as complete as the present one.

        Another takeover, or an operator, may take the segments at the same time: then it is tried again.

        Raises:
            RebuildFailedError: none was kept, or it is of another version.
            InvalidProjectionError: something stands in the way of its tables or views.
            LeaseLostError, CheckpointMovedError: others were faster each time.
            TimeLimitError: a part of it took too long.
            ProjectionFailedError: an event holds a segment up.
            StorageError: a database failed.
        """
        wanted = self._previous(name, await generations_now(self._database, name)).number
        for attempt in range(1, self._factory.options.roll_backs + 1):
            began = time.monotonic()
            try:
                await self._roll_back(name, wanted)
            except (LeaseLostError, CheckpointMovedError) as lost:
                if attempt == self._factory.options.roll_backs:
                    raise
                log.info("the roll-back of %s is tried again: %s", name, lost)
                # Two that take the segments from each other need time in which one of them rests while the other ends.
                pause = max(self._factory.options.backoff.pause(attempt), (time.monotonic() - began) * 2**attempt)
                await asyncio.sleep(pause * JITTER.uniform(0.5, 1.0))
            else:
                return

    async def _roll_back(self, name: str, wanted: int) -> None:
        known = await generations_now(self._database, name)
        serving = next(each for each in known if each.role == "serving")
        if serving.number == wanted:  # another roll-back was faster
            return
        previous = self._previous(name, known)
        async with self._keeping_leases():
            await self._seize(previous)
            await self._seize(serving)
            end = await self._catch_up_to_one_position(previous, serving)
            report = await self._decide(previous, serving, end, read_report(previous))
        if report.reason:
            raise RebuildFailedError(name, report.reason)

    def _previous(self, name: str, known: Sequence[Generation]) -> Generation:
        previous = next((each for each in known if each.role == "previous"), None)
        if previous is None or previous.version != self._runner.version:
            raise RebuildFailedError(name, "no earlier generation of this version was kept")
        if previous.refused:
            raise RebuildFailedError(name, previous.refused)
        return previous

    @asynccontextmanager
    async def _keeping_leases(self) -> AsyncIterator[None]:
        """Renew the leases of what is seized while the block runs, whose parts have time limits, and give them back."""
        backoff = self._factory.options.backoff
        keeper = asyncio.create_task(
            supervise("the leases of a takeover", self._renew, backoff), name="twofold-takeover-leases"
        )
        try:
            yield
        finally:
            await end_task(keeper)
            try:
                await self._run_alone("give_back_all", owner=self._owner)
            except BaseException as error:
                if not is_failure(error):
                    raise
                log.info("the leases of the takeover %s will run out: %r", self._owner, error)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._lease / 3)
            await self._run_alone("renew_all", owner=self._owner, lease=int(self._lease * 1e6))

    @asynccontextmanager
    async def _limit(self, what: str, seconds: float) -> AsyncIterator[None]:
        """Give up what takes longer: its leases are renewed all the time, so that nothing else would notice."""
        timeout = asyncio.timeout(seconds)
        try:
            async with timeout:
                yield
        except TimeoutError as error:
            if not timeout.expired():
                raise
            remedy = "it is tried again; see `SynchronizerOptions.verification_limit` and `time_limit`"
            raise TimeLimitError(self._runner.name, what, seconds, remedy) from error

    async def _run_alone(self, statement: str, **values: Any) -> None:
        limit = self._factory.options.time_limit
        async with self._limit("a transaction", limit), self._database.transaction() as transaction:
            await transaction.lock(LEASE_TABLE)
            await transaction.run(SQL[statement], **values)

    async def _seize(self, generation: Generation) -> None:
        """Take all segments from their workers, which then commit nothing more."""
        await self._run_alone(
            "seize", name=generation.name, generation=generation.number, owner=self._owner,
            lease=int(self._lease * 1e6),
        )  # fmt: skip

    async def _catch_up_to_one_position(self, new: Generation, serving: Generation) -> int:
        """Catch two generations up to the same position; one of an older version of the code only stands still.

        So does one of another history: the new one was built to replace it. The one that serves goes first: of two
        readers, one may ask the other one yet, which served until just now.
        """
        end = await self._store.head()
        if serving.version == self._runner.version:
            try:
                await self._catch_up_to(serving, end)
            except HistoryChangedError as error:
                self._other_history = str(error)
        await self._catch_up_to(new, end)
        return end

    async def _catch_up_closer(self, new: Generation, end: int) -> int:
        """Bring an inline one closer to the head, before the appends have to wait for the rest of the way."""
        if self._runner.drive.by_appends:
            end = await self._store.head()
            await self._catch_up_to(new, end)
        return end

    async def _catch_up_to(self, generation: Generation, end: int) -> None:
        async with self._database.transaction() as transaction:
            rows = await checkpoints_of(transaction, generation)
        for row in rows:
            held = Held(segment_of(row), row.epoch, generation.suffix, generation.version)
            await self._factory.make(held, self._owner).catch_up(end)

    async def _decide(self, new: Generation, serving: Generation, end: int, report: Report) -> Report:
        async with self._limit("the decision", self._factory.options.verification_limit):
            return await self._decide_in_one_transaction(new, serving, end, report)

    async def _decide_in_one_transaction(
        self, new: Generation, serving: Generation, end: int, report: Report
    ) -> Report:
        """Let the new generation serve in the transaction that finds both still seized, or say why not."""
        async with self._database.transaction(self._runner.style) as transaction:
            await transaction.lock(new.name)
            known = await generations_of(transaction, new.name)
            await self._check_hold(transaction, new, end)
            if refused := next((each.refused for each in known if each.number == new.number), ""):
                return msgspec.structs.replace(report, reason=refused)  # an event in it was skipped since
            if new.role == "building" and not report.reason:  # it has gone on since its rows were compared
                report = await verify_nothing_parked(transaction.run, new, report)
            report = await self._complete(transaction, new, serving, report)
            await store_report(transaction, new, report)
            if report.reason:
                await change(transaction, new, "refuse")
                return report
            await self._runner.expose(transaction, new.suffix)
            for other in known:
                if other.role == "previous" and other.number != new.number:
                    await forget(transaction, self._runner, other)
            await transaction.lock(LEASE_TABLE)  # no worker takes a segment from here on, should our lease have run out
            has_caught_up = serving.version == self._runner.version and not self._other_history
            is_exact = has_caught_up and not self._runner.drive.by_appends
            await self._check_hold(transaction, serving, end if is_exact else None)
            await self._hand_over(transaction, next(each for each in known if each.number == serving.number), new)
            if self._other_history:  # it can never go on, and must never serve again
                await store_report(transaction, serving, Report(reason=self._other_history))
                await change(transaction, serving._replace(state=GenerationState.PREVIOUS), "refuse")
        return report

    async def _complete(
        self, transaction: ReadTransaction, new: Generation, serving: Generation, report: Report
    ) -> Report:
        """Bring an inline one to the very head of the log; appends wait from here on until it serves."""
        runner = self._runner
        if report.reason or not runner.drive.by_appends:
            return report
        await runner.drive.complete(runner, self._store.events, transaction, new.number)
        if report.expect_same and new.role == "building" and new.version == serving.version and runner.rows:
            report = await verify_same(transaction.run, runner.rows, serving, new, report)
        return report

    async def _check_hold(self, transaction: ReadTransaction, generation: Generation, end: int | None) -> None:
        rows = await checkpoints_of(transaction, generation)
        if not rows or any(row.owner != self._owner or (end is not None and row.position != end) for row in rows):
            raise LeaseLostError(generation.name)

    async def _hand_over(self, transaction: ReadTransaction, serving: Generation, new: Generation) -> None:
        """Exchange the roles, with what operators have set; no reader that looks up late sees the rows go back."""
        place, old = {"name": new.name, "generation": new.number}, {"name": serving.name, "generation": serving.number}
        await change(transaction, serving, "step back")
        await change(transaction, new, "take over")
        if serving.state == GenerationState.PAUSED:
            await change(transaction, new._replace(state=GenerationState.SERVING), "pause")
        await transaction.run(SQL["set_segments"], **place, segments=serving.segments)
        await divide(transaction, new, serving.segments)
        await transaction.run(SQL["seize"], **old, owner=CHANGING_OVER, lease=int(GRACE_OF_PREVIOUS * 1e6))


def due(table: LeaseTable, head: int, within: int) -> list[Generation]:
    """Return the new generations that are close enough to the head to take over, unless what serves is paused."""

    def position(generation: Generation) -> int:
        of = (generation.name, generation.number)
        return min((row.position for row in table.checkpoints if (row.name, row.generation) == of), default=0)

    paused = {each.name for each in table.generations if each.state == GenerationState.PAUSED}
    building = [each for each in table.generations if each.state == GenerationState.BUILDING]
    return [each for each in building if each.name not in paused and position(each) >= head - within]
