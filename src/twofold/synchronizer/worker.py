"""A worker: runs its share of the segments of one database, and lets go of what is no longer its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from twofold.log.event_store import EventStore
from twofold.ports.checkpoints import Generation
from twofold.ports.positions import Positions
from twofold.ports.read_database import ReadDatabase
from twofold.ports.segments import Segment
from twofold.projections.failure import INFRASTRUCTURE, described
from twofold.projections.runner import ProjectionRunner
from twofold.synchronizer.leases import ApartError, Held, Leases, Ledger, Turn, merge, new_worker
from twofold.synchronizer.rebuild import Takeover, due
from twofold.synchronizer.segment_runner import SegmentRunner
from twofold.tasks import JITTER, end, end_if_cancelled

log = logging.getLogger(__name__)

LEASE = 10.0
"""Seconds for which a segment stays with a worker that shows no sign of life."""

WHILE_REBUILDING = 0.25
"""Seconds between two turns while a new generation is being built, at most."""

NEAR = 1000
"""Positions that two segments may be apart to be made one: the work of both rests while the one comes to the other."""

Ceiling = Callable[[ProjectionRunner, int, float], Awaitable[int]]
"""Waits until a projection may go beyond a position, at most some seconds, and returns how far it may go."""


class _Running(NamedTuple):
    segment_runner: SegmentRunner
    task: asyncio.Task[None]


class Worker:
    """Works on the read models of one database, in turns, together with all other workers that there are.

    Args:
        store: where the events are.
        database: where the read models are.
        runners: the code that it has, by name.
        positions: told how far the segments have come.
        ceiling: see `Ceiling`.
        lease: seconds for which a segment stays with a worker that shows no sign of life.
    """

    def __init__(
        self,
        store: EventStore,
        database: ReadDatabase,
        runners: Mapping[str, ProjectionRunner],
        positions: Positions,
        ceiling: Ceiling,
        lease: float,
    ) -> None:
        self.name = new_worker()
        self._store = store
        self._database = database
        self._runners = runners
        self._positions = positions
        self._ceiling = ceiling
        self._lease = lease
        self._running: dict[Segment, _Running] = {}
        self._finishing: asyncio.Task[None] | None = None
        self._poked = asyncio.Event()

    def poke(self) -> None:
        """Take the next turn at once: something was changed."""
        self._poked.set()

    async def run(self) -> None:
        """Work until cancelled; what is held is then given back."""
        codes = [(each.name, each.version) for each in self._runners.values()]
        leases = Leases(self._database, self.name, codes, self._lease)
        try:
            while True:
                self._poked.clear()
                rebuilding = False
                try:
                    turn = await leases.take_turn(self._working())
                    await self._bring_in_line(turn)
                    await self._finish_rebuilds(turn)
                    rebuilding = any(each.role == "shadow" for each in turn.ledger.generations)
                except INFRASTRUCTURE as error:
                    log.warning("worker %s cannot take its turn: %s", self.name, error)
                end_if_cancelled()
                await self._until_next_turn(soon=rebuilding)
        finally:
            if self._finishing is not None:
                await end(self._finishing)
            await self._let_go(list(self._running))
            try:
                await asyncio.wait_for(leases.leave(), self._lease)
            except (*INFRASTRUCTURE, TimeoutError) as error:
                log.info("the leases of worker %s will run out: %s", self.name, error)

    def segment_runner(self, held: Held, owner: str = "") -> SegmentRunner:
        """Return what runs a segment."""
        runner = self._runners[held.segment.projection]

        async def head(after: int, timeout: float) -> int:
            return await self._ceiling(runner, after, timeout)

        return SegmentRunner(
            self._store, self._database, runner, held.suffix, held.segment, owner or self.name, self._lease,
            self._positions.reached, head,
        )  # fmt: skip

    def takeover(self, runner: ProjectionRunner) -> Takeover:
        """Return what lets one generation take over from another."""
        return Takeover(self._store, self._database, runner, self.segment_runner, self.name, self._lease)

    async def _finish_rebuilds(self, turn: Turn) -> None:
        """Let a new generation take over that is complete; who holds its first segment does it."""
        first = {each.segment[:2] for each in turn.held if each.segment.first == 0}
        head = await self._store.head() if any(each.role == "shadow" for each in turn.ledger.generations) else 0
        for generation in due(turn.ledger, head):
            if (generation.name, generation.number) in first and self._finishing is None:
                self._finishing = asyncio.create_task(self._finish(generation), name="twofold-takeover")

    async def _finish(self, generation: Generation) -> None:
        try:
            await self.takeover(self._runners[generation.name]).finish(generation.name, generation.number)
            self.poke()
        except Exception as error:  # it is tried again in the next turn
            log.warning("the new read model %s is not complete yet: %s", generation.name, described(error)[0])
        finally:
            self._finishing = None

    def _working(self) -> list[Segment]:
        """Return the segments whose work went on since the last turn."""
        working = [segment for segment, running in self._running.items() if running.segment_runner.is_moving]
        for running in self._running.values():
            running.segment_runner.is_moving = False
        return working

    async def _bring_in_line(self, turn: Turn) -> None:
        held = {each.segment: each for each in turn.held}
        changed = [
            segment for segment, (segment_runner, task) in self._running.items()
            if segment not in held or task.done() or segment_runner.epoch not in (0, held[segment].epoch)
        ]  # fmt: skip
        await self._let_go(changed)
        for left, right in turn.to_merge:
            if not _are_near(turn.ledger, left.segment, right.segment):
                continue  # both go on until they are; whoever is held up does not hold up its neighbour
            await self._let_go([left.segment, right.segment])
            if await self._merge(left, right):
                del held[left.segment], held[right.segment]
                self.poke()
            break  # the others have their turn after this one
        for segment, each in held.items():
            if segment not in self._running:
                segment_runner = self.segment_runner(each)
                task = asyncio.create_task(segment_runner.run(), name=f"twofold-projection-{segment.projection}")
                self._running[segment] = _Running(segment_runner, task)

    async def _let_go(self, segments: list[Segment]) -> None:
        gone = [self._running.pop(segment) for segment in segments if segment in self._running]
        await end(*(task for _, task in gone))

    async def _merge(self, left: Held, right: Held) -> bool:
        """Bring two neighbours to one position, if they are not, and make one of them; return whether that came off."""
        try:
            try:
                await self._merge_as_they_are(left, right)
            except ApartError:
                await self._bring_together(left, right)
                await self._merge_as_they_are(left, right)
        except Exception as error:  # each goes on by itself, and it is tried again
            cause, _ = described(error)
            log.warning("the segments %s and %s could not be made one: %s", left.segment, right.segment, cause)
            return False
        return True

    async def _merge_as_they_are(self, left: Held, right: Held) -> None:
        async with self._database.transaction() as transaction:
            await merge(transaction, left, right)

    async def _bring_together(self, left: Held, right: Held) -> None:
        both = [self.segment_runner(left), self.segment_runner(right)]
        async with asyncio.timeout(self._lease / 3):  # what else this worker holds wants to be kept
            for each in both:
                await each.catch_up(0)
            position = max(each.position for each in both)
            for each in both:
                await each.catch_up(position)

    async def _until_next_turn(self, *, soon: bool) -> None:
        pause = self._lease / 3 * JITTER.uniform(0.7, 1.0)
        try:
            async with asyncio.timeout(min(pause, WHILE_REBUILDING) if soon else pause):
                await self._poked.wait()
        except TimeoutError:
            pass


def _are_near(ledger: Ledger, left: Segment, right: Segment) -> bool:
    firsts = {(*each[:2], each.first) for each in (left, right)}
    positions = [row.position for row in ledger.checkpoints if (row.name, row.generation, row.first) in firsts]
    return max(positions, default=0) - min(positions, default=0) <= NEAR
