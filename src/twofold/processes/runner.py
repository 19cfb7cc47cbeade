"""Runs a process: the strategy by which the synchronizer's segments feed events to it.

A segment of a process works as that of a projection does, with two differences: what it writes are steps in the streams
of instances, and as long as it has its lease, a `Sweep` stands beside it that sends commands and fires timers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from twofold.commands.bus import CommandBus
from twofold.errors import CheckpointMovedError, ProcessNotStartedError
from twofold.log.event_store import EventStore
from twofold.messages.event import RecordedEvent
from twofold.messages.tenant_names import own_name
from twofold.options import ProcessOptions
from twofold.ports.read_database import ReadDatabase, ReadTransaction, Style
from twofold.ports.segments import Segment
from twofold.processes.control import ProcessControl, problems_of
from twofold.processes.inputs import Taken, event_given, refuse_unstarted, take
from twofold.processes.instance import Folding, Instance
from twofold.processes.ledger import Ledger, StreamMovedError, Written
from twofold.processes.process import Process
from twofold.processes.retention import InstanceRetention
from twofold.processes.sweep import Sweep
from twofold.projections.failure import INFRASTRUCTURE
from twofold.projections.keys.keyed_event import FailedEvent, KeyedEvent
from twofold.projections.kinds import ASYNCHRONOUS
from twofold.projections.runner import Drive, Projected, ProjectionBatch, Start
from twofold.tasks import end, is_failure

LOADS = 10
"""How often the instances of a batch are loaded again, as others wrote to them, before the segment is loaded again."""


class ProcessRunner:
    """Feeds the events of segments to the instances of one process.

    Args:
        store: where events and streams are.
        database: where rows and checkpoints are.
        bus: carries out what the process sends.
        process: the code.
        options: sizes and pauses.
        lease: seconds for which a segment stays with a worker.
    """

    start: Start = "now"
    has_read_model = False
    max_wait: float | None = None
    rows = None
    style: Style = "driver"
    version = 1
    drive: Drive = ASYNCHRONOUS

    def __init__(
        self,
        store: EventStore,
        database: ReadDatabase,
        bus: CommandBus,
        process: Process[Any],
        options: ProcessOptions,
        lease: float,
    ) -> None:
        self.projection = process
        self.name = process.name
        self.batch_size = options.batch
        self._folding = Folding(process, store.events, bus.types)
        self._ledger = Ledger(store, database, self._folding, options)
        self._store = store
        self._database = database
        self._bus = bus
        self._options = options
        self._lease = lease
        self._sweeps: dict[Segment, Sweep] = {}

    def fingerprint(self) -> Mapping[str, str]:
        """Return what tells a process from a reaction: nothing that was built depends on its code."""
        return {"row": "", "process": "1"}

    async def make(self, transaction: ReadTransaction, suffix: str) -> None:
        await transaction.create(self._ledger.table(suffix))

    async def check(self, transaction: ReadTransaction, suffix: str) -> None:
        await transaction.check(self._ledger.table(suffix))

    async def clear(self, transaction: ReadTransaction, suffix: str) -> None:
        await transaction.empty(self._ledger.table(suffix).name)

    async def drop(self, transaction: ReadTransaction, suffix: str) -> None:
        await transaction.drop(self._ledger.table(suffix).name)

    async def expose(self, transaction: ReadTransaction, suffix: str) -> None:
        """Do nothing: the rows are for the command line and `app.processes`, which know where they are."""

    def keyed(self, events: Sequence[RecordedEvent[Any]]) -> list[KeyedEvent]:
        ids = self._folding.methods.ids
        return [KeyedEvent(recorded, (_own(recorded, each),)) for recorded in events for each in ids(recorded.event)]

    async def trouble(self) -> Sequence[str]:
        """Return what is wrong with the instances."""
        delays = await ProcessControl(self._store.log, self._database, self.name, self._options).delays()
        return problems_of(delays, self.projection.max_lag, self._options)

    def beside(self, segment: Segment, suffix: str, epoch: Callable[[], int]) -> Callable[[], Awaitable[None]]:
        """Return what sends the commands and fires the timers of a segment, to be run while it is held."""
        sweep = Sweep(self._ledger, self._bus, segment, suffix, epoch, self._options, self._lease)

        async def run() -> None:
            self._ledger.forget_all()
            self._sweeps[segment] = sweep
            pruning = self._begin_pruning(suffix) if segment.first == 0 else ()
            try:
                await sweep.run()
            finally:
                self._sweeps.pop(segment, None)
                await end(*pruning)

        return run

    def _begin_pruning(self, suffix: str) -> Sequence[asyncio.Task[None]]:
        """Begin to remove the rows of instances that ended long ago, unless that is off."""
        if self._options.prunes_ended == "off":
            return ()
        retention = InstanceRetention(self._database, self._ledger.table(suffix), self.name, self._options)
        return (asyncio.create_task(retention.run(), name=f"twofold-retention-{self.name}"),)

    async def project(self, batch: ProjectionBatch) -> Projected:
        """Let instances take events in: their steps, their rows and the checkpoint are one transaction."""
        without_rows: set[str] = set()
        for _ in range(LOADS):
            async with self._ledger.lock:
                ids = [each.key[0] for each in batch.events]
                loaded = await self._ledger.load(batch.suffix, ids, without_rows=without_rows)
                came = await self._take_all(batch, loaded)
                if not came.unstarted <= without_rows:  # or it ended so long ago that it has no row: the stream tells
                    without_rows |= came.unstarted
                    continue
                if came.failures and not batch.last_try:
                    return Projected(batch.step, came.failures)
                changes = batch.with_parked(came.failures)
                written = Written([came.instances[each] for each in came.changed], came.taken)
                try:
                    await self._ledger.write(batch.suffix, written, batch.step, changes)
                except StreamMovedError:
                    continue
            if sweep := self._sweeps.get(batch.step.segment):
                sweep.note(written.instances)
            return Projected(batch.step, came.failures)
        raise CheckpointMovedError(self.name)

    async def _take_all(self, batch: ProjectionBatch, loaded: Mapping[str, Instance | BaseException]) -> _Came:
        came = _Came(dict(loaded), {}, [], [])
        failed: set[str] = set()
        until = time.perf_counter() + self._options.folding.slice
        for each in batch.events:
            process_id = each.key[0]
            if process_id in failed:
                came.failures.append(FailedEvent(each))
                continue
            try:
                self._take_one(came, process_id, each)
            except BaseException as error:
                if not is_failure(error) or isinstance(error, INFRASTRUCTURE):
                    raise
                came.failures.append(FailedEvent(each, error))
                failed.add(process_id)
            if time.perf_counter() > until:
                batch.moving()
                await asyncio.sleep(self._options.folding.pause)
                until = time.perf_counter() + self._options.folding.slice
        return came

    def _take_one(self, came: _Came, process_id: str, each: KeyedEvent) -> None:
        instance = came.instances[process_id]
        if isinstance(instance, BaseException):
            raise instance
        recorded = each.recorded
        if (recorded.position, recorded.part) <= (instance.position, instance.part):
            return  # it was taken in before the checkpoint was set back
        given = event_given(each.recorded)
        if refuse_unstarted(self._folding, instance, given):
            return
        if instance.ending:
            after = instance.replace(ignored=instance.ignored + 1, position=recorded.position, part=recorded.part)
        else:
            taken = take(self._folding, instance, given)
            came.taken.append(taken)
            after = taken.instance
        came.instances[process_id] = after
        came.changed[process_id] = None


class _Came(NamedTuple):
    """What came of a batch."""

    instances: dict[str, Any]
    changed: dict[str, None]
    taken: list[Taken]
    failures: list[FailedEvent]

    @property
    def unstarted(self) -> set[str]:
        """The instances that must have started, and of which no start is known."""
        return {each.keyed.key[0] for each in self.failures if isinstance(each.error, ProcessNotStartedError)}


def _own(recorded: RecordedEvent[Any], process_id: str) -> str:
    """Return the id of an instance: with tenants, it says whose it is."""
    tenant = recorded.tenant
    return own_name(tenant, process_id) if tenant else process_id
