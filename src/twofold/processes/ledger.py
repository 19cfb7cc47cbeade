"""The instances of one process: loaded from their streams, and written with what they took in.

One write is one transaction: the rows of instances, the checkpoint if events were taken in, then the append of all
steps, each at the version to which its instance was folded. Two hands that take in something for one instance at the
same time therefore cannot both succeed; the one that comes second loads the instance again.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from twofold.errors import CheckpointMovedError
from twofold.log.event_store import EventStore
from twofold.options import ProcessOptions
from twofold.ports.checkpoints import SQL
from twofold.ports.event_log import Append, Rejected
from twofold.ports.inline import AppendEvents, Ask, Steps, WriteRows, WriteStep
from twofold.ports.read_database import Changes, ReadDatabase
from twofold.ports.segments import Segment, Step
from twofold.ports.table import Table
from twofold.processes.inputs import Taken
from twofold.processes.instance import Folding, Instance, InstanceFold
from twofold.processes.rows import InstanceRow, row_of, table_of, with_row
from twofold.processes.steps import ProcessStep, stream_of
from twofold.projections.failure import INFRASTRUCTURE
from twofold.tasks import is_failure


class StreamMovedError(Exception):
    """Another hand has appended to the stream of an instance since it was loaded. Nothing was written."""


class Fence(NamedTuple):
    """Who may write without moving a checkpoint: the holder of a segment's epoch."""

    segment: Segment
    epoch: int
    lease: float
    """Seconds for which the holder keeps the segment from here on."""


class Written(NamedTuple):
    """What one transaction writes."""

    instances: Collection[Instance]
    """As they are afterwards."""
    taken: Sequence[Taken] = ()
    """The steps to be appended, in order."""


class Ledger:
    """Loads and writes the instances of one process; remembers those that it wrote last.

    Args:
        store: where their streams are.
        database: where their rows are, which one transaction spans with the streams.
        folding: folds their steps.
        options: how many are remembered.
    """

    def __init__(self, store: EventStore, database: ReadDatabase, folding: Folding, options: ProcessOptions) -> None:
        self.lock = asyncio.Lock()
        """Held from loading to writing: the feed and the sweep of a segment take turns."""
        self.folding = folding
        self.database = database
        self._store = store
        self._name = folding.process.name
        self._most = options.instances_kept
        self._known: OrderedDict[str, Instance] = OrderedDict()
        self._doubted: set[str] = set()
        """Ids of which the stream had more than the row said: the stream is read, also without a row."""
        store.events.register(ProcessStep)

    def table(self, suffix: str) -> Table:
        """Return the table of a generation's instances."""
        return table_of(self._name, suffix)

    def forget(self, ids: Iterable[str]) -> None:
        """Load instances again when they are asked for next."""
        for each in ids:
            self._known.pop(each, None)

    def forget_others(self, rows: Iterable[Any]) -> None:
        """Load instances again to which other hands have written, as their rows' versions tell."""
        self.forget([row.id for row in rows if row.id in self._known and self._known[row.id].version != row.version])

    def forget_all(self) -> None:
        """Load all instances again when they are asked for next: other hands had them."""
        self._known.clear()

    async def load(
        self, suffix: str, ids: Iterable[str], *, without_rows: Collection[str] = ()
    ) -> dict[str, Instance | BaseException]:
        """Return instances as they stand; in place of one that cannot be folded, the error.

        Args:
            suffix: of the names of the generation's tables.
            ids: which.
            without_rows: those of which the stream is read also without a row, to see whether they have ended. One that
                has not, and has no row, is of a copied log, and does not go on by itself.

        Raises:
            StorageError: the database failed.
        """
        wanted = list(dict.fromkeys(ids))
        found: dict[str, Instance | BaseException] = {each: self._known[each] for each in wanted if each in self._known}
        if missing := [each for each in wanted if each not in found]:
            rows = await self.database.load(self.table(suffix), [(each,) for each in missing])
            stored = {row.id: row for row in map(InstanceRow._make, rows)}
            found |= {each: self.folding.new(each) for each in missing if each not in stored}
            to_fold = [each for each in missing if each in stored or each in self._doubted or each in without_rows]
            folded = await asyncio.gather(*(self._folded(each, stored.get(each)) for each in to_fold))
            for each, instance in zip(to_fold, folded, strict=True):
                if each in stored or each in self._doubted or (isinstance(instance, Instance) and instance.ending):
                    found[each] = instance
        return found

    async def write(self, suffix: str, written: Written, by: Fence | Step, changes: Changes = Changes()) -> None:  # noqa: B008 - it is immutable
        """Write instances and append their steps, in one transaction.

        Args:
            suffix: of the names of the generation's tables.
            written: what.
            by: the step of the checkpoint, or who else may write.
            changes: what is parked and released with a step.

        Raises:
            StreamMovedError: an instance was not the newest; all of them are to be loaded again.
            CheckpointMovedError: another worker has the segment, or an operator changed something of it.
            StorageError: nothing was written, or it cannot be said: load again what is to be written.
        """
        rows = [row_of(each) for each in written.instances]
        append = self._append(written.taken) if written.taken else None
        ids = [each.id for each in written.instances]
        idle = by.lease or 10.0
        try:
            async with self.database.transaction(idle=idle) as transaction:
                await transaction.carry_out(_write(self.table(suffix), changes._replace(upserts=rows), append, by))
        except BaseException as error:
            self.forget(ids)
            if isinstance(error, CheckpointMovedError):
                self.forget_all()  # the database may have been restored, to versions that come again
            if isinstance(error, StreamMovedError):
                self._doubted.update(ids)
            raise
        self._doubted.difference_update(ids)
        for each in written.instances:
            self._known[each.id] = each
            self._known.move_to_end(each.id)
        while len(self._known) > self._most:
            self._known.popitem(last=False)

    def _append(self, taken: Sequence[Taken]) -> Append:
        expected: dict[str, int] = {}
        for each in taken:
            expected.setdefault(stream_of(self._name, each.instance.id), each.instance.version - 1)
        return Append(tuple(each.encoded for each in taken), tuple(expected.items()))

    async def _folded(self, process_id: str, row: InstanceRow | None) -> Instance | BaseException:
        try:
            fold = InstanceFold(self.folding, process_id)
            instance, _ = await self._store._fold(stream_of(self._name, process_id), fold)
            return with_row(instance, row) if row else instance
        except BaseException as error:
            if not is_failure(error) or isinstance(error, INFRASTRUCTURE):
                raise
            return error


def instances_of(loaded: Mapping[str, Instance | BaseException]) -> dict[str, Instance]:
    """Return those that could be folded."""
    return {each: instance for each, instance in loaded.items() if isinstance(instance, Instance)}


def _write(table: Table, changes: Changes, append: Append | None, by: Fence | Step) -> Steps[Any]:
    if isinstance(by, Step):
        yield WriteStep(table, changes, by)
    else:
        name, generation, first, _ = by.segment
        values = {"name": name, "generation": generation, "first": first, "epoch": by.epoch}
        if not (yield Ask(SQL["renew"], {**values, "lease": int(by.lease * 1e6)})):
            raise CheckpointMovedError(name)
        yield WriteRows(table, changes)
    if append is not None:
        outcome = yield AppendEvents(append)
        if isinstance(outcome, Rejected):
            raise StreamMovedError(outcome.reason)
