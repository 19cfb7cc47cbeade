"""Where all read models of an application stand: those of every database, and those that are folded on demand.

1. Each database is asked what stands in it, also of read models whose code is not here.
2. A database that cannot be asked shows its read models as faulted, and hides no other one.
3. What is wrong beside the feed of events is added, and what fails in this process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from twofold.errors import StorageError
from twofold.log.event_store import EventStore
from twofold.options import SynchronizerOptions
from twofold.ports.read_database import ReadDatabase
from twofold.projections.runner import ProjectionRunner
from twofold.synchronizer.registry import Registry
from twofold.synchronizer.status import (
    ProjectionStatus,
    on_demand_status,
    read_status,
    unknown_status,
    unreadable_status,
)


class Overview:
    """Gathers the status of all read models; see the flow at the top.

    Args:
        store: where the events are.
        registry: the read models that this process has the code of.
        options: from when on it is a fault that no worker works on a segment.
    """

    def __init__(self, store: EventStore, registry: Registry, options: SynchronizerOptions) -> None:
        self._store = store
        self._registry = registry
        self._options = options

    async def read(self, faults: Mapping[str, str]) -> Sequence[ProjectionStatus]:
        """Return where they stand.

        Args:
            faults: what fails in this process, by the names of projections.

        Raises:
            StorageError: the log's database failed.
        """
        head, on_demand = await self._store.head(), self._registry.on_demand
        found = [await self._of_database(*each, head) for each in self._registry.by_database()]
        by_name = {status.name: status for statuses in found for status in statuses}
        own = [
            by_name.pop(name) if name in by_name else unknown_status(registered.runner, head)
            for name, registered in self._registry.stored.items()
        ]
        folded = [on_demand_status(rows.runner, head) for rows in on_demand.values()]
        stored = [status for name, status in by_name.items() if name not in on_demand]
        statuses = [await self._with_troubles(each) for each in (*own, *folded, *stored)]
        return [_with_fault(each, faults.get(each.name, "")) for each in statuses]

    async def _of_database(
        self, database: ReadDatabase, runners: Mapping[str, ProjectionRunner], head: int
    ) -> Sequence[ProjectionStatus]:
        """Return where the read models of one database stand."""
        try:
            return await read_status(self._store, database, runners, self._options)
        except StorageError as error:
            return [unreadable_status(runner, head, str(error)) for runner in runners.values()]

    async def _with_troubles(self, status: ProjectionStatus) -> ProjectionStatus:
        """Return a status with what is wrong beside the feed of events."""
        registered = self._registry.stored.get(status.name)
        if registered is None or registered.runner.trouble is None or not status.is_made:
            return status
        try:
            return replace(status, troubles=await registered.runner.trouble())
        except StorageError as error:
            return replace(status, error=status.error or str(error))


def _with_fault(status: ProjectionStatus, fault: str) -> ProjectionStatus:
    """Return a status with what fails in this process, unless the database says the same."""
    return replace(status, fault=fault) if fault != (status.error or "") else status
