"""Stores the rows of another log, chunk after chunk: while one is being stored, the next can be prepared."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from twofold import tasks
from twofold.errors import LogsDifferError
from twofold.messages.stored_event import StoredEvent
from twofold.ports.maintenance import Fork, PortableLog, StoredCommand


class Restoring:
    """Stores one chunk at a time; leave its block to wait for the last one.

    Args:
        target: where to.
        stored: called with the position up to which the events are stored.
    """

    def __init__(self, target: PortableLog, stored: Callable[[int], None]) -> None:
        self._target = target
        self._stored = stored
        self._storing: asyncio.Task[None] | None = None
        self._last = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            await self.finish()
        elif self._storing is not None:
            await tasks.end(self._storing)

    async def store(self, rows: Sequence[StoredEvent]) -> None:
        """Begin to store rows, at least one, once those before them are stored.

        Raises:
            LogsDifferError: another program changes the target.
            StorageError: the database failed.
        """
        await self.finish()
        self._last = rows[-1].position
        work = restore(self._target, rows, (), rows[0].position)
        self._storing = asyncio.create_task(work, name="twofold-restore")
        await asyncio.sleep(0)  # let it begin

    async def finish(self) -> None:
        """Wait until all rows are stored; raises what `store` raises."""
        if self._storing is not None:
            try:
                await self._storing
            except BaseException:
                await tasks.end(self._storing)  # if it is the caller who was cancelled
                raise
            self._storing = None
            self._stored(self._last)


async def mark_as_fork(target: PortableLog, fork: Fork | None) -> None:
    """Mark a log, before it holds events, as the fork that the one is that it becomes a copy of.

    Raises:
        LogsDifferError: it holds events, and is another fork, or one where the other is none.
        StorageError: the database failed.
    """
    if fork is None:
        if found := await target.fork():
            raise LogsDifferError(found.position, f"the target is {found}")
    elif not await target.mark_fork(fork):
        found = await target.fork()
        raise LogsDifferError(fork.position, f"the target is {found or 'no fork'}, and would be {fork}")


async def restore(
    target: PortableLog, rows: Sequence[StoredEvent], commands: Sequence[StoredCommand], position: int
) -> None:
    """Store rows and commands of another log.

    Raises:
        LogsDifferError: another program changes the target.
        StorageError: the database failed; nothing was stored.
    """
    try:
        await target.restore(rows, commands)
    except ValueError as error:
        raise LogsDifferError(position, f"another program changes the target ({error})") from error


async def restore_commands(target: PortableLog, commands: Sequence[StoredCommand], after: bytes, end: int) -> None:
    """Store those commands, given in the order of their ids behind another one, that the target does not have yet."""
    missing, last = {each.command_id: each for each in commands}, commands[-1].command_id
    while after < last and (there := await target.read_commands(after=after, limit=len(commands))):
        for each in there:  # among them those of other files, whose ids may lie between
            missing.pop(each.command_id, None)
        after = there[-1].command_id
    if missing:
        await restore(target, (), list(missing.values()), end)
