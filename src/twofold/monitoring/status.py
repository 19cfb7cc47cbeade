"""Where everything stands, looked up once for all who ask at about the same time: pages, probes, monitors."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass

from twofold.errors import TwofoldError
from twofold.log.event_store import EventStore
from twofold.processes.processes import Processes, ProcessStatus
from twofold.synchronizer.status import ProjectionStatus
from twofold.synchronizer.synchronizer import ReadModelSynchronizer
from twofold.tenants import all_tenants

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ApplicationStatus:
    """Where the log, the read models and the processes of an application stand."""

    head: int
    """The position at which the log ends."""
    projections: list[ProjectionStatus]
    processes: list[ProcessStatus]


class SharedStatus:
    """Looks the status of an application up, on behalf of all tenants, once at a time for all who ask.

    1. A status that is younger than `age` answers at once.
    2. Else the first who asks begins a look, and all who ask while it goes on wait for the same one.
    3. One who stops waiting does not end the look: a driver whose query is cancelled takes seconds to give a silent
       connection up, and the next one who asks would begin another.

    Args:
        store: the log.
        projections: the read models.
        processes: the processes.
        age: seconds for which a status answers. More: a fault is seen later. Less: the databases are asked more often.
    """

    def __init__(
        self, store: EventStore, projections: ReadModelSynchronizer, processes: Processes, *, age: float = 1.0
    ) -> None:
        self._store = store
        self._projections = projections
        self._processes = processes
        self._age = age
        self._last: tuple[float, ApplicationStatus] | None = None
        self._look: asyncio.Task[ApplicationStatus] | None = None

    async def ask(self) -> ApplicationStatus:
        """Return the status, as of at most `age` seconds ago.

        Raises:
            StorageError: a database cannot be read.
        """
        if self._last is not None and time.monotonic() < self._last[0] + self._age:
            return self._last[1]
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(self._ask())
            self._look.add_done_callback(_retrieve)
        return await asyncio.shield(self._look)

    async def _ask(self) -> ApplicationStatus:
        with all_tenants():
            projections = list(await self._projections.status())
            found = ApplicationStatus(
                projections=projections,
                processes=list(await self._processes._status_beside(projections)),
                head=await self._store.head(),
            )
        self._last = time.monotonic(), found
        return found


async def ask_within(status: SharedStatus, seconds: float, asker: str) -> ApplicationStatus | None:
    """Return the status; None if the databases do not answer in time, which the log then tells.

    Args:
        status: whose.
        seconds: in which they must answer.
        asker: who asks, for the log.
    """
    try:
        async with asyncio.timeout(seconds):
            return await status.ask()
    except (TwofoldError, OSError) as error:  # `TimeoutError` is one of the latter
        log.warning("the databases do not answer %s: %s: %s", asker, type(error).__name__, error)
        return None


def _retrieve(look: asyncio.Task[ApplicationStatus]) -> None:
    """Mark the error of a look as seen, as all who asked may have left; those who wait get it."""
    if not look.cancelled():
        look.exception()
