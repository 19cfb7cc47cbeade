"""The sweep of a segment: sends the commands of its instances, and fires their timers.

1. It takes up what the feed of events tells it, what came of commands, and whatever a look at the rows shows to be due.
2. Timers that are due and outcomes that came are inputs: the instances take them in, many in one transaction.
3. What failed is written to the row of its instance, with the time of the next try.
4. Of each instance whose next command waits, it carries that command out, in a task of its own, one at a time.
5. It rests until something comes, the next timer is due, or it is time to look again.

It stands as long as the worker holds the segment: nothing depends on a recovery at the start. Every write is fenced
by the segment's epoch.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Sequence

from twofold.commands.bus import CommandBus
from twofold.errors import CheckpointMovedError
from twofold.options import ProcessOptions
from twofold.ports.checkpoints import SQL
from twofold.ports.segments import Segment
from twofold.processes.instance import Failure, Instance, WaitingCommand
from twofold.processes.ledger import Fence, Ledger, StreamMovedError, Written
from twofold.processes.outbox import carry_out
from twofold.processes.rows import dump_failures, statement
from twofold.processes.taking import Came, DueRow, Taking
from twofold.projections.failure import described
from twofold.tasks import end, end_if_cancelled, is_failure

log = logging.getLogger(__name__)


class Sweep:
    """Sends the commands and fires the timers of the instances in one segment.

    Args:
        ledger: the instances.
        bus: carries out the commands.
        segment: whose instances.
        suffix: of the names of the generation's tables.
        epoch: returns that of the lease under which the segment is held.
        options: sizes and pauses.
        lease: seconds for which a write keeps the segment.
    """

    def __init__(
        self,
        ledger: Ledger,
        bus: CommandBus,
        segment: Segment,
        suffix: str,
        epoch: Callable[[], int],
        options: ProcessOptions,
        lease: float,
    ) -> None:
        self._ledger = ledger
        self._bus = bus
        self._segment = segment
        self._suffix = suffix
        self._epoch = epoch
        self._options = options
        self._lease = lease
        self._table = ledger.table(suffix)
        self._slots = {"first": segment.first, "end": segment.end}
        self._sending: dict[str, asyncio.Task[None]] = {}
        """By instance: what is being carried out, or whose outcome is not yet taken in."""
        self._running = 0
        """How many of them are being carried out."""
        self._ready: dict[str, WaitingCommand] = {}
        """By instance: what waits for its turn; never for one of `_sending`."""
        self._came: list[Came] = []
        self._woken = asyncio.Event()
        self._look_at = 0.0

    def note(self, instances: Collection[Instance]) -> None:
        """Take up instances as the feed of events has written them."""
        now = time.time_ns() // 1000  # of this host: it only says when to look; what is due, the database says
        for each in instances:
            if each.commands and self._may_send(each):
                self._ready[each.id] = each.commands[0]
            if each.timers and (due := each.next_at) is not None:
                self._look_within(max(due - now, 0) / 1e6)
        self._woken.set()

    def _may_send(self, instance: Instance) -> bool:
        """Return whether a command of an instance waits here for its turn; the look at the rows finds the others."""
        fails = instance.commands[0].key in instance.failures
        return not fails and instance.id not in self._sending and len(self._ready) < self._options.ready

    async def run(self) -> None:
        """Send and fire, until cancelled. What was under way when it failed or ended is found again in the rows."""
        self._ready, self._came, self._look_at, self._running = {}, [], 0.0, 0
        try:
            while True:
                self._woken.clear()
                await self._turn()
                end_if_cancelled()
                await self._rest()
        finally:
            await end(*self._sending.values())
            self._sending.clear()

    async def _turn(self) -> None:
        due = await self._look() if self._may_look() else []
        came, self._came = self._came[: self._options.batch], self._came[self._options.batch :]
        if (due or came) and not await self._take(due, came):
            self._came = came + self._came
            self._look_at = 0.0
            pause = min(self._options.poll / 10, self._options.backoff.first)
            await asyncio.sleep(pause)  # the feed learns of another epoch in its own time
        self._send_ready()

    def _may_look(self) -> bool:
        return asyncio.get_running_loop().time() >= self._look_at and len(self._ready) < self._options.batch

    async def _look(self) -> list[DueRow]:
        """Return the instances that have something to do, and note when the next one has."""
        limit = self._options.batch + len(self._sending) + len(self._ready)
        values = {**self._slots, "limit": limit, "soon": int(self._options.poll * 1e6)}
        # What the feed tells while the rows are read, they may not show: from here on the next look only comes nearer.
        self._look_at = asyncio.get_running_loop().time() + self._options.poll
        found = await self._ledger.database.query(statement("due", self._table), **values)
        rows = [DueRow(*row) for row in found]
        later = next((row.wait for row in rows if row.wait > 0), 0)
        if later or len(rows) == limit:
            self._look_within(later / 1e6)
        return [row for row in rows if row.wait <= 0 and row.id not in self._ready]

    def _look_within(self, seconds: float) -> None:
        self._look_at = min(self._look_at, asyncio.get_running_loop().time() + seconds)

    async def _take(self, due: Sequence[DueRow], came: Sequence[Came]) -> bool:
        """Let instances take in what is due and what came, in one transaction; return whether that came off."""
        ids = [*(each.id for each in due), *(each.process_id for each in came)]
        async with self._ledger.lock:
            self._ledger.forget_others(due)
            loaded = await self._ledger.load(self._suffix, ids)
            [[now]] = await self._ledger.database.query(SQL["now"])
            taking = self._taken(Taking(self._ledger.folding, self._options, loaded, now), due, came)
            written = Written([taking.instances[each] for each in taking.changed], taking.taken)
            if written.instances:
                try:
                    await self._ledger.write(self._suffix, written, Fence(self._segment, self._epoch(), self._lease))
                except (StreamMovedError, CheckpointMovedError) as moved:
                    log.info("%s takes in again what is due: %s", self._segment.projection, moved)
                    self._ledger.forget(ids)
                    return False
        for process_id, error in taking.broken.items():
            await self._mark(process_id, error)
        for each in came:
            self._sending.pop(each.process_id, None)
        for process_id in ids:
            if process_id not in self._sending and (waiting := taking.ready(process_id)):
                self._ready[process_id] = waiting
        if (seconds := taking.seconds_until_next()) is not None:
            self._look_within(seconds)
        return True

    def _taken(self, taking: Taking, due: Sequence[DueRow], came: Sequence[Came]) -> Taking:
        for row in due:
            taking.believe(row)
        for each in came:
            taking.outcome(each)
        for row in due:
            taking.timers(row.id)
        return taking

    async def _mark(self, process_id: str, error: BaseException) -> None:
        """Show of an instance that cannot be folded why; an operator retries it once the code is mended."""
        log.error("%s %r cannot be folded", self._segment.projection, process_id, exc_info=error)
        failures = dump_failures({"": Failure(described(error)[0], 1, None)})
        async with self._ledger.database.transaction() as transaction:
            await transaction.run(statement("fail", self._table), id=process_id, failures=failures)

    def _send_ready(self) -> None:
        """Begin to carry out the next command of each instance that has one."""
        while self._ready and self._running < self._options.commands_at_once:
            process_id = next(iter(self._ready))
            waiting = self._ready.pop(process_id)
            task = asyncio.create_task(self._send(process_id, waiting), name=f"twofold-command-{process_id}")
            self._sending[process_id] = task
            self._running += 1

    async def _send(self, process_id: str, waiting: WaitingCommand) -> None:
        """Carry out a command; whatever comes of it, the next turn takes in."""
        try:
            outcome: object = await carry_out(
                self._bus, self._ledger.folding.process, waiting, self._options.time_limit
            )
        except BaseException as error:
            if not is_failure(error):
                raise
            outcome = error
        self._came.append(Came(process_id, waiting, outcome))  # type: ignore[arg-type]
        self._running -= 1
        self._woken.set()
        self._send_ready()  # others go on while the next turn takes in what came

    async def _rest(self) -> None:
        if self._came:
            await asyncio.sleep(0)
            return
        try:
            async with asyncio.timeout(max(self._look_at - asyncio.get_running_loop().time(), 0)):
                await self._woken.wait()
        except TimeoutError:
            pass
