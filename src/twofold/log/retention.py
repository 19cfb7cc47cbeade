"""Removing what is kept for repeats of commands and has become old: their records, and never an event.

The ids of a command's events follow from its own id. So a command that is sent again after its record was removed takes
no effect a second time: if its handler makes the same events, it is a repeat, and its value is what the handler returns
this time; if it makes others, `DuplicateEventIdError` refuses it.

`Retention` does it by itself, in passes of each process that runs the projections; see `pruning`. If the first event
of the log is younger than `LogOptions.commands_kept`, nothing can be old, and the pass ends. Each slice is a
transaction of its own.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from datetime import timedelta
from typing import cast

from twofold.arguments import check_flag, check_port
from twofold.messages.event_query import EventQuery
from twofold.messages.tenant_names import tenant_tag
from twofold.options import Backoff, LogOptions
from twofold.ports.event_log import EventLog
from twofold.ports.maintenance import PortableLog
from twofold.pruning import checked_age, counted, make_passes, paced
from twofold.tenants import checked_tenant


async def prune_commands(
    log: PortableLog,
    *,
    older_than: timedelta | None = None,
    tenant: str = "",
    write: bool = True,
    progress: Callable[[int], object] = lambda _: None,
    options: LogOptions | None = None,
) -> int:
    """Remove the records of commands that took effect long ago, slice by slice, and return how many those were.

    Applications may write on. Each slice is a transaction of its own: interrupted, it is run again.

    Args:
        log: an open log.
        older_than: how long ago, by the times of the events and the clock of this process; by default
            `LogOptions.commands_kept`.
        tenant: only the records of this tenant; empty: all.
        write: whether they are removed; else they are only counted.
        progress: told how many were found so far.
        options: the default age, and how much is looked at in one transaction.

    Raises:
        TypeError, ValueError: an argument cannot work, such as a negative age.
        InvalidTenantError: no tenant can have this name.
        StorageError: the database failed; run it again to go on.
    """
    check_port("log", log, "event log", "prune_commands")
    check_flag("write", write)
    options = options or LogOptions()
    age = checked_age(older_than, options.commands_kept)
    tag = tenant_tag(checked_tenant(tenant)) if tenant else ""
    return await counted(_slices(log, _before(age), tag, options.pruned_at_once, write=write), progress)


class Retention:
    """Removes the old records of commands by itself; see the flow at the top of this module.

    Args:
        log: of which commands. One that cannot remove them is left alone.
        options: their age, and how often and how busily they are looked for.
    """

    def __init__(self, log: EventLog, options: LogOptions) -> None:
        self._log = cast(PortableLog, log)
        self._options = options
        self.is_on = options.prunes_commands == "on" and hasattr(log, "prune_commands")
        """Whether there is anything to run."""

    async def run(self, backoff: Backoff) -> None:
        """Remove what becomes old, until cancelled; see `make_passes`."""
        what, off = "old records of commands", 'LogOptions(prunes_commands="off")'
        await make_passes(self.make_pass, self._options.pruned_every, backoff, what=what, off=off)

    async def make_pass(self) -> int:
        """Remove what is old now; return how many records those were.

        Raises:
            StorageError: the database failed; the slices before stay removed.
        """
        before = _before(timedelta(seconds=self._options.commands_kept))
        oldest = await self._log.read(EventQuery.all(), limit=1)
        if not oldest or oldest[0].recorded_at >= before:
            return 0
        slices = _slices(self._log, before, "", self._options.pruned_at_once, write=True)
        return await paced(slices, self._options.pruning_share)


def _before(age: timedelta) -> int:
    """Return the time before which what is so old took effect, in microseconds by the clock of this process."""
    return time.time_ns() // 1000 - age // timedelta(microseconds=1)


async def _slices(log: PortableLog, before: int, tag: str, limit: int, *, write: bool) -> AsyncGenerator[int]:
    """Go through the records of commands, and tell of each slice how many were old."""
    after = b""
    while pruned := await log.prune_commands(before=before, tag=tag, after=after, limit=limit, write=write):
        after = pruned.last
        yield pruned.found
