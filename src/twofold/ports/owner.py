"""Who may use what was opened: one event loop, in one thread of one process; and what is not open yet."""

from __future__ import annotations

import os
import threading
from asyncio import get_running_loop

from twofold.errors import OwnershipError

_process = [os.getpid()]  # `os.getpid` at every check would cost as much as all else of it
if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=lambda: _process.__setitem__(0, os.getpid()))


class Owner:
    """The process, the thread and the event loop that have opened something; made in them, by the one who opens.

    Connections, locks and futures belong to these three. A child that was forked off, a second event loop or a foreign
    thread would wait for ever, or take another one's answer: `check` refuses them by name, for some 0.2 microseconds.

    Args:
        what: names what was opened, as the subject of a sentence: `"the database orders.db"`.

    Raises:
        RuntimeError: no event loop is running.
    """

    __slots__ = ("_loop", "_process", "_thread", "_what")

    def __init__(self, what: str) -> None:
        self._what = what
        self._process = _process[0]
        self._thread = threading.current_thread()
        self._loop = get_running_loop()

    def check(self) -> None:
        """Make sure that the caller runs in the process and in the event loop of the owner.

        Raises:
            OwnershipError: it does not; the text names what differs, and what to do.
        """
        try:
            if get_running_loop() is self._loop and _process[0] == self._process:
                return
        except RuntimeError:
            pass  # no loop runs here
        raise OwnershipError(f"{self._what} {self._difference()}")

    def _difference(self) -> str:
        if _process[0] != self._process:
            return (
                f"was opened in process {self._process}, and this is process {_process[0]}, which was forked off "
                f"afterwards; open it in each process, after the fork"
            )
        if threading.current_thread() is not self._thread:
            return (
                f"was opened in the event loop of thread {self._thread.name!r}, and this is thread "
                f"{threading.current_thread().name!r}; call it by `asyncio.run_coroutine_threadsafe`, or open one here"
            )
        return "was opened in another event loop; close it there before it is opened here, or open one for each loop"


def not_open(what: str) -> RuntimeError:
    """Return what is raised where something, the subject of a sentence, is used before it was opened."""
    return RuntimeError(
        f"{what} is not open; use `async with`, or await open() first; a web application opens it with "
        f"lifespan=app.lifespan"
    )
