"""The processes of an application: added before it starts, looked after while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from twofold.commands.bus import CommandBus
from twofold.errors import InvalidProcessError, UnknownProcessError
from twofold.log.event_store import EventStore
from twofold.options import Options
from twofold.ports.read_database import ReadDatabase
from twofold.processes.control import (
    ProcessControl,
    ProcessCounts,
    problems_of,
    processes_of,
)
from twofold.processes.process import Process
from twofold.processes.runner import ProcessRunner
from twofold.processes.scheduled_commands import CommandScheduler, ScheduledCommands
from twofold.projections.runner import Start
from twofold.synchronizer.status import ProjectionStatus
from twofold.synchronizer.synchronizer import ReadModelSynchronizer
from twofold.tenants import require_all_tenants


@dataclass(frozen=True, kw_only=True)
class ProcessStatus:
    """How a process stands: its instances, and the feed of its events."""

    name: str
    counts: ProcessCounts
    feed: ProjectionStatus | None
    """How far it has taken the events of the log in, and what is parked; None if it was never prepared."""
    problems: Sequence[str]
    """What is wrong; a process without problems is healthy."""


class Processes:
    """Takes processes on, and looks after their instances.

    Args:
        store: where the events are.
        database: where the rows of instances are, in the same database.
        synchronizer: feeds the events.
        commands: carries out what processes send.
        options: sizes and pauses.
    """

    def __init__(
        self,
        store: EventStore,
        database: ReadDatabase,
        synchronizer: ReadModelSynchronizer,
        commands: CommandBus,
        options: Options,
    ) -> None:
        self._own_store = store
        self._store, self._has_tenants = store._of_all, store._has_tenants
        self._database = database
        self._synchronizer = synchronizer
        self._commands = commands
        self._options = options
        self._added: dict[str, Process[Any]] = {}

    def add(self, process: Process[Any], *, start: Start | None = None) -> None:
        """Take on a process, before the application starts.

        Args:
            process: an instance of its class.
            start: whether it begins with what comes after it was first added, as by default, or with the first event of
                the log.

        Raises:
            InvalidProcessError: it is no process, or its rows would not be in the database of the log.
            InvalidProjectionError: its name is taken.
            InvalidMessageTypeError: an event that it takes cannot be stored as declared.
        """
        if isinstance(process, type) and issubclass(process, Process):
            raise InvalidProcessError(
                f"the process {process.__name__} is a class; add an instance: {process.__name__}()"
            )
        if not isinstance(process, Process) or not process.handles():
            raise InvalidProcessError(f"{process!r} is no process; add an instance of a subclass of Process")
        is_with = getattr(self._store.log, "is_with", None)
        if is_with is None or not is_with(self._database):
            raise InvalidProcessError(
                f"{process.name} cannot be added, as the read models are in another database than the log, and no "
                f"transaction spans both; leave out `read_url`, and give single projections a database of their own"
            )
        lease = self._options.synchronizer.lease
        runner = ProcessRunner(self._store, self._database, self._commands, process, self._options.processes, lease)
        self._synchronizer.add_runner(runner, start=start)
        self._added[process.name] = process
        if isinstance(process, ScheduledCommands):
            control = self._control(process.name)
            self._commands.scheduler = CommandScheduler(self._own_store, control, self._commands)

    def control(self, name: str) -> ProcessControl:
        """Return what looks after the instances of a process: list, get, steps, retry, cancel.

        Raises:
            TenantMissingError: there are tenants, and this code does not run on behalf of all.
        """
        if self._has_tenants:
            require_all_tenants(f"looking after {name}")
        return self._control(name)

    def _control(self, name: str) -> ProcessControl:
        return ProcessControl(self._store.log, self._database, name, self._options.processes)

    async def status(self) -> Sequence[ProcessStatus]:
        """Return how all processes stand, also those whose code is not here.

        Raises:
            StorageError: the database failed.
        """
        return await self._status_beside(await self._synchronizer.status())

    async def _status_beside(self, projections: Sequence[ProjectionStatus]) -> Sequence[ProcessStatus]:
        """Return how all processes stand, for one who has asked how all projections do."""
        feeds = {each.name: each for each in projections}
        known = await processes_of(self._database)
        return [await self._status(name, feeds.get(name), is_made=name in known) for name in {**self._added, **known}]

    async def _status(self, name: str, feed: ProjectionStatus | None, *, is_made: bool) -> ProcessStatus:
        try:
            counts = await self._control(name).counts() if is_made else ProcessCounts()
        except UnknownProcessError:  # it was dropped at this moment
            counts = ProcessCounts()
        problems = list(feed.problems) if feed else []
        if name not in self._added:  # the feed of what is here tells of its instances, too
            problems += problems_of(counts, None, self._options.processes)
        return ProcessStatus(name=name, counts=counts, feed=feed, problems=problems)
