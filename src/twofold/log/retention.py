"""Removing what is kept for repeats of commands and has become old: their records, and never an event.

The ids of a command's events follow from its own id. So a command that is sent again after its record was removed takes
no effect a second time: if its handler makes the same events, it is a repeat, and its value is what the handler returns
this time; if it makes others, `DuplicateEventIdError` refuses it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

from twofold.arguments import check_flag, check_instance, check_port
from twofold.messages.tenant_names import tenant_tag
from twofold.options import LogOptions
from twofold.ports.maintenance import PortableLog
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
    age = timedelta(seconds=options.commands_kept) if older_than is None else older_than
    check_instance("older_than", age, timedelta, "such as timedelta(days=90)")
    if age < timedelta():
        raise ValueError(f"`older_than` is an age, and not negative; got {age}")
    before = time.time_ns() // 1000 - age // timedelta(microseconds=1)
    tag, limit = tenant_tag(checked_tenant(tenant)) if tenant else "", options.pruned_at_once
    count, after = 0, b""
    while pruned := await log.prune_commands(before=before, tag=tag, after=after, limit=limit, write=write):
        count, after = count + pruned.found, pruned.last
        progress(count)
    return count
