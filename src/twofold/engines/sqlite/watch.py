"""Learning that another process has written to a SQLite file, without looking at it all the time.

1. The watch looks every `brisk` seconds for as long as one change follows the other, and for `settling` seconds after
   that.
2. Then, where the platform tells of writes to files (Linux: inotify), it sleeps until the write-ahead log is written.
   The platform is asked only now: to take that back costs a third of a millisecond, more than all that a short watch
   does.
3. A write is not yet a commit, which is visible only after the sync. So the watch looks a little later, and then less
   and less often, until the commit is found. A single one, such as the renewal of this process's own leases, is all
   that there is to find: the watch sleeps again. If the next write comes within `settling` seconds, it goes on at 1.
4. It also looks without being told, less and less often, down to once in `rest` seconds: the way out where a sync took
   very long. Where the platform tells of no writes, it is all that there is, and goes down to once in `blind` seconds.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
from pathlib import Path

IN_MODIFY = 0x02
"""See inotify(7)."""


class Watch:
    """Tells when to look at a file for what other processes have written.

    Args:
        path: the file that they write to; where it is missing, only time tells.
        brisk: seconds between two looks while something happens.
        settling: seconds for which it is looked at briskly after the last write.
        rest: seconds between two looks while nothing happens.
        blind: the same where the platform does not tell of writes.
        slowing: how many times as long each pause between two looks in vain is as the one before.
    """

    def __init__(self, path: Path, *, brisk: float, settling: float, rest: float, blind: float, slowing: float) -> None:
        self._slowing = slowing
        self._brisk, self._settling, self._rest, self._blind = brisk, settling, rest, blind
        self._loop = asyncio.get_running_loop()
        self._written = asyncio.Event()
        self._path = path
        self._is_told = False
        self._descriptor: int | None = None
        self._pause = brisk
        self._busy_until = 0.0
        self._told_at = 0.0
        self._is_expecting = False
        """Whether the platform has told of a write whose commit was not found yet."""

    def close(self) -> None:
        """Stop watching; may be repeated."""
        if self._descriptor is not None:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None

    def note_change(self) -> None:
        """Take note that a change was found: if it was the one that the platform has told of, others may not follow."""
        now = self._loop.time()
        if self._is_expecting and now >= self._busy_until:
            self._pause = self._settling
        else:
            self._busy_until, self._pause = now + self._settling, self._brisk
        self._is_expecting = False

    async def wait(self) -> None:
        """Return when it is time to look again."""
        if self._loop.time() < self._busy_until:
            await asyncio.sleep(self._brisk)
            if self._drain():
                self._busy_until = self._loop.time() + self._settling
            return
        if not self._is_told:  # what was written before this is found by the next look, a brisk pause from now
            self._is_told, self._descriptor = True, _watch(self._path)
        if self._drain() or await self._told(self._pause):
            await self._expect_commit()
        else:
            self._pause = min(self._slowing * self._pause, self._blind if self._descriptor is None else self._rest)

    async def _expect_commit(self) -> None:
        """Give the commit a moment whose first write the platform has told of."""
        now = self._loop.time()
        if now < self._told_at + self._settling:
            self._busy_until = now + self._settling
        self._told_at, self._pause, self._is_expecting = now, self._brisk, True
        await asyncio.sleep(self._brisk)
        self._drain()  # the other pages of this commit

    async def _told(self, seconds: float) -> bool:
        """Wait for a write, at most some seconds; return whether the platform told of one."""
        if self._descriptor is None:
            await asyncio.sleep(seconds)
            return False
        self._written.clear()
        self._loop.add_reader(self._descriptor, self._written.set)
        try:
            async with asyncio.timeout(seconds):
                await self._written.wait()
        except TimeoutError:
            return False
        finally:
            if self._descriptor is not None:
                self._loop.remove_reader(self._descriptor)
        return self._drain()

    def _drain(self) -> bool:
        """Take what was told since; return whether that was anything."""
        if self._descriptor is None:
            return False
        try:
            return bool(os.read(self._descriptor, 1 << 16))
        except BlockingIOError:
            return False


def _watch(path: Path) -> int | None:
    """Return a descriptor that becomes readable whenever a file is written to; None where there is no such thing."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor < 0:  # the user has as many as the system allows
        return None
    if libc.inotify_add_watch(descriptor, os.fsencode(path), IN_MODIFY) < 0:
        os.close(descriptor)
        return None
    return descriptor
