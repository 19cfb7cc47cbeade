"""Makes a fork of a log, to try things on: `twofold fork`."""

from __future__ import annotations

from twofold.arguments import check_function, check_instance, check_whole
from twofold.log.copy import Copied, copy_log
from twofold.log.event_store import EventStore
from twofold.log.transfer.formats import portable
from twofold.log.verify import Progress, no_progress
from twofold.ports.maintenance import Fork, PortableLog


async def fork_log(
    source: EventStore, target: EventStore, *, at: int | None = None, progress: Progress = no_progress
) -> Copied:
    """Copy a log up to a position into another one, which is marked as a fork, and compare both.

    Events, versions, times, checksums and the records of commands are those of the source up to there; what either gets
    later, the other does not. The fork has an id of its own. An application that starts on it builds its read models
    and takes commands; its reactions and processes stand still, until an operator resumes them by name.

    Interrupted, also by a crash, it goes on when it is run again. Applications may go on writing to the source.

    Args:
        source: an open store.
        target: an open store whose log is empty, or the same fork, which was interrupted.
        at: the last position that both have in common; by default the head of now, or what the interrupted one had.
        progress: told how far it has come.

    Raises:
        TypeError, ValueError: an argument cannot work, or the log ends before the position.
        LogsDifferError: the target holds something else, such as events that the fork has got since.
        CorruptEventError: an event of the source does not match its checksum.
        StorageError: a database failed, or an event of the source is missing; run it again to go on.
    """
    check_instance("source", source, EventStore)
    check_instance("target", target, EventStore)
    if at is not None:
        check_whole("at", at)
    check_function("progress", progress)
    fork = await _fork(portable(source), portable(target), at)
    return await copy_log(portable(source), portable(target), fork=fork, progress=progress, options=source.options)


async def _fork(source: PortableLog, target: PortableLog, at: int | None) -> Fork:
    """Return what the target becomes a fork of.

    Raises:
        ValueError: the log ends before it.
    """
    head, beginning, begun = await source.head(), await source.mark(0), await target.fork()
    log = beginning.event_id if beginning else b""
    if at is None:
        at = begun.position if begun and begun.log == log else head
    if at > head:
        raise ValueError(f"the log ends at position {head}; `at` is {at}")
    return Fork(log, at)
