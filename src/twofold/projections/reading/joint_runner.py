"""Runs projections that read others: the rows of all of them are written in one transaction.

1. The rows that the events of a batch are about are loaded: its own, and its copies of those of the others.
2. The events are folded, each into all of them before the next. Rows that a method asked for and that are not there yet
   are loaded, and the batch is folded again, until nothing is missing.
3. The changed rows of all of them, and the step, are written in one transaction.

All events depend on each other, so that one segment takes all of them, and a failure stops the projection: its key is
empty, as that of an `SqlProjection` without keys.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from twofold.errors import CheckpointMovedError
from twofold.messages.event import RecordedEvent
from twofold.options import FoldOptions
from twofold.ports.inline import Steps, WriteRows, WriteStep
from twofold.ports.read_database import IDLE, ReadDatabase, ReadTransaction
from twofold.ports.segments import SLOTS
from twofold.projections.failure import INFRASTRUCTURE
from twofold.projections.fingerprint import name_of_copy, with_copies
from twofold.projections.keyed_runner import KeyedRunner
from twofold.projections.keys.keyed_event import FailedEvent, KeyedEvent, is_divided
from twofold.projections.projection import KeyValues, Projection
from twofold.projections.reading.joint_fold import JointFold, Moment, joined, moment
from twofold.projections.runner import Drive, Projected, ProjectionBatch
from twofold.tasks import is_failure


class JointRunner(KeyedRunner):
    """Runs a `Projection` that reads others, with its own copies of their rows."""

    folds_single_rows = False
    reads_others = True

    def __init__(
        self,
        database: ReadDatabase,
        projection: Projection[Any],
        batch_size: int,
        drive: Drive,
        folding: FoldOptions = FoldOptions(),  # noqa: B008 - it is immutable
    ) -> None:
        super().__init__(database, projection, batch_size, drive, folding)
        self._joined = joined(projection)
        self._copies = [_Copy(database, part, batch_size, drive, folding) for part in self._joined[:-1]]
        for each in self._copies:
            each.belong_to(projection)
        self._parts: Sequence[KeyedRunner] = (*self._copies, self)

    def fingerprint(self) -> Mapping[str, str]:
        return with_copies(super().fingerprint(), {each.name: each.fingerprint() for each in self._copies})

    async def make(self, transaction: ReadTransaction, suffix: str) -> None:
        for each in self._copies:
            await each.make(transaction, suffix)
        await super().make(transaction, suffix)

    async def check(self, transaction: ReadTransaction, suffix: str) -> None:
        for each in self._copies:
            await each.check(transaction, suffix)
        await super().check(transaction, suffix)

    async def clear(self, transaction: ReadTransaction, suffix: str) -> None:
        await transaction.empty(*(each.table(suffix).name for each in self._parts))

    async def drop(self, transaction: ReadTransaction, suffix: str) -> None:
        await transaction.drop(*(each.table(suffix).name for each in self._parts))

    def keyed(self, events: Sequence[RecordedEvent[Any]]) -> list[KeyedEvent]:
        return [KeyedEvent(each, ()) for each in events]

    async def project(self, batch: ProjectionBatch) -> Projected:
        moments = list[Moment]()
        for each in batch.events:
            try:
                moments.append(moment(self._joined, each.recorded))
            except BaseException as error:  # the user's code
                if not is_failure(error):
                    raise
                return Projected(batch.step, [FailedEvent(each, error)])
        try:
            stored = await self._load(batch, moments)
            fold, count = await self._fold(batch, stored, moments)
            batch = batch.first(count)
            if fold.failures:
                return Projected(batch.step, fold.failures)
            async with self._database.transaction(idle=batch.step.lease or IDLE) as transaction:
                await transaction.carry_out(self._written(batch, stored, fold))
        except (CheckpointMovedError, *INFRASTRUCTURE):
            raise
        except Exception as error:  # a key or a row that cannot be stored; which it is, shows event by event
            return Projected(batch.step, [FailedEvent(batch.events[0], error)])
        return Projected(batch.step)

    async def _load(self, batch: ProjectionBatch, moments: Sequence[Moment]) -> Sequence[dict[KeyValues, Any]]:
        """Return for each projection the rows that the events are about, by key."""
        whole = batch.step._replace(segment=batch.step.segment._replace(first=0, end=SLOTS))
        found = list[dict[KeyValues, Any]]()
        for place, part in enumerate(self._parts):
            events = [each for its in moments for each in its[place]]
            rows = dict[KeyValues, Any]()
            await part._loaded(
                part.table(batch.suffix), batch._replace(events=events, step=whole, is_divisible=False), rows
            )
            found.append(rows)
        return found

    async def _fold(
        self, batch: ProjectionBatch, stored: Sequence[dict[KeyValues, Any]], moments: Sequence[Moment]
    ) -> tuple[JointFold, int]:
        """Fold until no row is missing; return the fold, and how many events it took."""
        while True:
            fold = JointFold(self._joined, stored, moments)
            count = await self._take(batch, fold, len(moments))
            if not any(fold.missing):
                return fold, count
            for part, rows, keys in zip(self._parts, stored, fold.missing, strict=True):
                rows.update(dict.fromkeys(keys))  # what is not in the table is known not to be there
                wanted = set(map(part._rows.dump_key, keys))
                loaded = (
                    part._rows.load_all(await self._database.load(part.table(batch.suffix), wanted)) if keys else ()
                )
                rows.update(zip(part._rows.keys_of(loaded), loaded, strict=True))

    async def _take(self, batch: ProjectionBatch, fold: JointFold, end: int) -> int:
        """Fold events, and let other tasks run now and then; of a divisible batch, only some if they take long."""
        began = paused = time.perf_counter()
        for count in range(end):
            fold.take(count)
            now = time.perf_counter()
            if (
                batch.is_divisible
                and now - began > self.folding.commit_after
                and not is_divided(batch.events, count + 1)
            ):
                return count + 1
            if now - paused > self.folding.slice:
                batch.moving()
                await asyncio.sleep(self.folding.pause)
                paused = time.perf_counter()
        return end

    def _written(
        self, batch: ProjectionBatch, stored: Sequence[Mapping[KeyValues, Any]], fold: JointFold
    ) -> Steps[None]:
        """Write the rows of all projections, and take the step."""
        for part, before, folded in zip(self._parts, stored, fold.folded, strict=True):
            if folded.rows:
                yield WriteRows(part.table(batch.suffix), part._changes(before, folded))
        yield WriteStep(self.table(batch.suffix), batch.changes, batch.step)


class _Copy(KeyedRunner):
    """The rows of a projection that another one reads, as that one keeps them: in tables of its own generations."""

    def belong_to(self, reader: Projection[Any]) -> None:
        """Keep the rows in a table that is named after both."""
        self._table = self._table._replace(name=name_of_copy(reader.name, self.name))
