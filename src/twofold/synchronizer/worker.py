"""A worker: runs its share of the segments of one database.

A worker takes rounds, each of which

1. shows in the database that the worker is there, and renews the leases of the segments whose work goes on;
2. takes and gives back segments, until the worker holds its share;
3. ends the runners of segments that it lost, and starts one for each segment that it gained;
4. makes one segment of two neighbours that shall be one;
5. lets a new generation take over that is complete.

A round that fails is told and tried again; the runners go on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from twofold.errors import SegmentsApartError
from twofold.ports.checkpoints import GenerationState
from twofold.ports.segments import Segment
from twofold.projections.failure import described
from twofold.synchronizer.leases import Held, LeaseRound, Leases, LeaseTable, merge, new_worker
from twofold.synchronizer.segments.factory import RunnerFactory
from twofold.synchronizer.segments.runner import SegmentRunner
from twofold.synchronizer.takeover import Takeover, due
from twofold.tasks import JITTER, Supervisor, end, end_if_cancelled, is_failure

log = logging.getLogger(__name__)


class _Running(NamedTuple):
    segment_runner: SegmentRunner
    task: asyncio.Task[None]


class Worker:
    """Works on the read models of one database together with all other workers that there are.

    Args:
        factory: makes the runners of segments.
    """

    def __init__(self, factory: RunnerFactory) -> None:
        self.name = new_worker()
        self._factory = factory
        self._options = factory.options
        self._lease = factory.options.lease
        codes = [(each.name, each.version) for each in factory.runners.values()]
        self._leases = Leases(factory.database, self.name, codes, self._lease, factory.options)
        backoff = factory.options.backoff
        self._often = replace(backoff, last=min(backoff.last, self._lease / 3))
        self._rounds = Supervisor(f"worker {self.name}", self._often)
        self._running: dict[Segment, _Running] = {}
        self._takeovers: dict[str, Supervisor] = {}
        """How the takeovers go that are due, by the names of the projections."""
        self._rests_until: dict[str, float] = {}
        """When those are tried again that failed, by the clock of the event loop."""
        self._finishing: asyncio.Task[None] | None = None
        self._poked = asyncio.Event()

    @property
    def faults(self) -> Mapping[str, str]:
        """What fails at present in this worker, by the names of the projections that it concerns."""
        found = {segment.projection: running.segment_runner.fault for segment, running in self._running.items()}
        for name, takeover in self._takeovers.items():
            if takeover.error is not None:
                found[name] = f"the new generation cannot take over: {described(takeover.error)[0]}"
        if self._rounds.error is not None:
            found |= dict.fromkeys(self._factory.runners, described(self._rounds.error)[0])
        return {name: fault for name, fault in found.items() if fault}

    def poke(self) -> None:
        """Take the next round at once: something was changed."""
        self._poked.set()

    async def run(self) -> None:
        """Work until cancelled; what is held is then given back."""
        try:
            await self._rounds.run(self._take_rounds)
        finally:
            await self._leave()

    async def _take_rounds(self) -> None:
        while True:
            self._poked.clear()
            taken = await self._leases.take_round(self._working())
            await self._bring_in_line(taken)
            await self._finish_rebuilds(taken)
            self._rounds.went_well()
            end_if_cancelled()
            await self._until_next_round(soon=any(each.role == "building" for each in taken.table.generations))

    async def _leave(self) -> None:
        if self._finishing is not None:
            await end(self._finishing)
        await self._let_go(list(self._running))
        try:
            await asyncio.wait_for(self._leases.leave(), self._lease)
        except BaseException as error:
            if not is_failure(error):
                raise
            log.info("the leases of worker %s will run out: %r", self.name, error)

    async def _finish_rebuilds(self, taken: LeaseRound) -> None:
        """Let a new generation take over that is complete; the worker that holds its first segment does it.

        One takes over at a time, first those that have failed least: one that always fails holds up no other.
        """
        building = {each.name for each in taken.table.generations if each.state == GenerationState.BUILDING}
        # A takeover that is done, by whichever worker, or cancelled fails no more, whatever came of the last attempt.
        self._takeovers = {name: each for name, each in self._takeovers.items() if name in building}
        self._rests_until = {name: until for name, until in self._rests_until.items() if name in building}
        if not building or self._finishing is not None:
            return
        first = {each.segment[:2] for each in taken.held if each.segment.first == 0}
        head = await self._factory.store.head()
        complete = due(taken.table, head, self._options.finished_within)
        now = asyncio.get_running_loop().time()
        ready = [each for each in complete if self._rests_until.get(each.name, 0) <= now]
        if own := first.intersection((each.name, each.number) for each in ready):
            name, number = min(own, key=self._rank)
            finishing = self._finish(name, number, self._takeover_of(name))
            self._finishing = asyncio.create_task(finishing, name="twofold-takeover")

    async def _finish(self, name: str, number: int, takeover: Supervisor) -> None:
        """Let a generation take over; what fails is tried again in a later round."""
        try:
            await Takeover(self._factory, self._factory.runners[name], self.name).finish(name, number)
            takeover.went_well()
            self.poke()
        except BaseException as error:
            if not is_failure(error):
                raise
            self._rests_until[name] = asyncio.get_running_loop().time() + await takeover.tell(error)
        finally:
            self._finishing = None

    def _takeover_of(self, name: str) -> Supervisor:
        """Return what tells of the takeovers of a read model; it holds no lease while it rests, and may rest longer."""
        what = f"the takeover of {name}, by worker {self.name},"
        return self._takeovers.setdefault(name, Supervisor(what, self._options.backoff))

    def _rank(self, generation: tuple[str, int]) -> tuple[int, str]:
        return self._takeover_of(generation[0]).failures, generation[0]

    def _working(self) -> list[Segment]:
        """Return the segments whose work went on since the last round."""
        return [segment for segment, running in self._running.items() if running.segment_runner.has_moved()]

    async def _bring_in_line(self, taken: LeaseRound) -> None:
        held = {each.segment: each for each in taken.held}
        changed = [
            segment for segment, (segment_runner, task) in self._running.items()
            if segment not in held or task.done() or segment_runner.epoch not in (0, held[segment].epoch)
        ]  # fmt: skip
        await self._let_go(changed)
        for left, right in taken.to_merge:
            if not _are_near(taken.table, left.segment, right.segment, self._options.merged_within):
                continue  # both go on until they are; a segment that is held up does not hold up its neighbour
            await self._let_go([left.segment, right.segment])
            if await self._merge(left, right):
                del held[left.segment], held[right.segment]
                self.poke()
            break  # the others follow in later rounds
        for segment, each in held.items():
            if segment not in self._running:
                runner = self._factory.make(each, self.name)
                task = asyncio.create_task(runner.run(), name=f"twofold-projection-{segment.projection}")
                self._running[segment] = _Running(runner, task)

    async def _let_go(self, segments: list[Segment]) -> None:
        gone = [self._running.pop(segment) for segment in segments if segment in self._running]
        await end(*(task for _, task in gone))

    async def _merge(self, left: Held, right: Held) -> bool:
        """Bring two neighbours to one position, if they are not, and make one of them; return whether that came off."""
        try:
            try:
                await self._merge_where_they_stand(left, right)
            except SegmentsApartError:
                await self._catch_up_to_one_position(left, right)
                await self._merge_where_they_stand(left, right)
        except Exception as error:  # each goes on by itself, and it is tried again
            cause, _ = described(error)
            log.warning("the segments %s and %s could not be made one: %s", left.segment, right.segment, cause)
            return False
        return True

    async def _merge_where_they_stand(self, left: Held, right: Held) -> None:
        async with self._factory.database.transaction() as transaction:
            await merge(transaction, left, right)

    async def _catch_up_to_one_position(self, left: Held, right: Held) -> None:
        both = [self._factory.make(left, self.name), self._factory.make(right, self.name)]
        async with asyncio.timeout(self._lease / 3):  # what else this worker holds wants to be kept
            for each in both:
                await each.catch_up(0)
            position = max(each.position for each in both)
            for each in both:
                await each.catch_up(position)

    async def _until_next_round(self, *, soon: bool) -> None:
        pause = self._lease / 3 * JITTER.uniform(0.7, 1.0)
        try:
            async with asyncio.timeout(min(pause, self._options.turn_while_building) if soon else pause):
                await self._poked.wait()
        except TimeoutError:
            pass


def _are_near(table: LeaseTable, left: Segment, right: Segment, within: int) -> bool:
    firsts = {(*each[:2], each.first) for each in (left, right)}
    positions = [row.position for row in table.checkpoints if (row.name, row.generation, row.first) in firsts]
    return max(positions, default=0) - min(positions, default=0) <= within
