"""Forgetting: a key is destroyed, and what was made of what it encrypted is made again.

1. The key store destroys the key and records that, in one transaction. This is the forgetting: from here on nothing
   that is encrypted with it can be read, whatever fails afterwards.
2. The log gets a `SubjectForgotten`, whose id follows from the record, so that it is appended once.
3. Other processes learn it, at their next look at the key store; `settling` waits for what they have read before.
4. The read models that handle types of events which hold data of the subject are built again, and their earlier
   generations dropped. Texts of errors of parked events are removed, and stored snapshots deleted.
5. The record is settled. One that is not, because a process died, goes on when an application starts.

All records that are not settled are worked on together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence, Set
from typing import NamedTuple, cast
from uuid import UUID, uuid5

from twofold.errors import RebuildFailedError
from twofold.log.codec.event_types import encode_metadata
from twofold.log.event_store import EventStore
from twofold.log.keys.keyring import KeyRing
from twofold.messages.event import Metadata, RawEvent
from twofold.messages.personal import SubjectForgotten
from twofold.ports.checkpoints import SQL
from twofold.ports.event_log import Append
from twofold.ports.keys import Forgotten
from twofold.ports.snapshots import SnapshotLog
from twofold.privacy.subject_events import Found, find
from twofold.projections.runner import ProjectionRunner
from twofold.synchronizer.synchronizer import ReadModelSynchronizer
from twofold.tasks import run_in_thread
from twofold.tenants import all_tenants

_EVENTS = UUID("3b0f6f0e-8c1b-5f0e-9d53-6d6b5d6f7f21")
"""stored: the namespace of the ids of the events."""
_ATTEMPTS = 3
"""Attempts to build a read model again that another process cancels."""


class Removed(NamedTuple):
    """What was made again, or removed."""

    found: Found
    read_models: tuple[str, ...] = ()
    snapshots: int = 0
    parked: int = 0


class Forgetting:
    """Completes what the destruction of keys begins.

    Args:
        store: where the events are.
        keys: of the persons.
        projections: what is made of the events.
    """

    def __init__(self, store: EventStore, keys: KeyRing, projections: ReadModelSynchronizer) -> None:
        self._store = store._of_all
        self._keys = keys
        self._projections = projections

    async def pending(self) -> Sequence[Forgotten]:
        """Return the records that are not settled."""
        found, after = list[Forgotten](), 0
        while page := await run_in_thread(self._keys.store.forgotten, after=after):
            found += [each for each in page if each.state == "begun"]
            after = page[-1].number
        return found

    async def complete(self, records: Sequence[Forgotten]) -> Removed:
        """Remove everywhere what is forgotten; a repeat does what is left to be done.

        Raises:
            NoWorkerError: no worker builds the read models; the forgetting goes on when one runs.
            RebuildFailedError: a read model could not be built again.
            StorageError: a database failed.
        """
        for record in records:
            await self._tell(record)
        options = self._keys.options
        await asyncio.sleep(2 * options.recheck + options.settling)
        found = await find(self._store, {record.id for record in records})
        parked = await self._mask_parked(found.positions)
        read_models = await self._build_again(found.types)
        snapshots = await self._delete_snapshots()
        for record in records:
            await run_in_thread(self._keys.store.settle, record.id)
        await run_in_thread(self._keys.store.purge)
        return Removed(found, read_models, snapshots, parked)

    async def _tell(self, record: Forgotten) -> None:
        event_id = uuid5(_EVENTS, f"{record.number} {record.id}")
        event = SubjectForgotten(record.id, record.number)
        encoded = self._store.events.encode(event, event_id, "", "", encode_metadata(Metadata()))
        await self._store._log.append(Append((encoded,)))

    async def _build_again(self, types: Set[str]) -> tuple[str, ...]:
        """Build the read models again that may hold what was in events of some types; return their names."""
        concerned = [each for each in self._projections.runners if each.has_read_model and self._takes(each, types)]
        stored = [each.name for each in concerned if each.drive.is_stored]
        with all_tenants():
            for name in stored:
                await self._rebuild(name)
        for database in self._projections._databases:
            forget_copies = getattr(database, "forget_copies", None)
            if forget_copies is not None:  # such as Parquet snapshots, which hold what was there before
                await forget_copies()
        return tuple(sorted(each.name for each in concerned))

    async def _rebuild(self, name: str) -> None:
        """Build a read model from the log; one that is being built may have read what is forgotten now."""
        control = self._projections.control(name)
        for remaining in reversed(range(_ATTEMPTS)):
            await control.cancel_rebuild()
            try:
                await control.rebuild()
                break
            except RebuildFailedError:
                if not remaining:
                    raise
        await control.drop_previous()

    def _takes(self, runner: ProjectionRunner, types: Set[str]) -> bool:
        if not types.isdisjoint(self._store.events.sources):  # upcasters make events of other classes of them
            return True
        classes = {self._store.events.class_of(name) for name in types}
        handled = set(runner.projection.handles())
        return bool(types) and (RawEvent in handled or bool(handled & classes))

    async def _mask_parked(self, positions: Sequence[int]) -> int:
        """Remove the texts of errors about events, which may quote them."""
        count = 0
        for database in self._projections._databases:
            async with database.transaction() as transaction:
                for position in positions:
                    for statement in ("mask_parked", "mask_skipped"):
                        count += len(await transaction.run(SQL[statement], position=position))
        return count

    async def _delete_snapshots(self) -> int:
        log = self._store._log
        return await cast(SnapshotLog, log).delete_snapshots() if hasattr(log, "delete_snapshots") else 0
