"""Background tasks: supervised while they run, ended for certain.

A supervised task:

1. runs its work, which goes on for ever or returns when it is done;
2. when the work raises, tells who looks after it (`tell`), and keeps the error until the work goes well again;
3. pauses, longer after each failure in a row and not as long as other processes, and runs the work again;
4. ends when it is cancelled or the process exits, and for no other reason.

`asyncio.wait_for` of Python 3.11, which drivers use, may swallow a cancellation: `end` cancels a task until it has
ended. See https://github.com/python/cpython/issues/86296.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from random import SystemRandom
from typing import Any, ParamSpec, TypeVar

from twofold.errors import StorageUnavailableError
from twofold.options import Backoff

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

JITTER = SystemRandom()
"""Random numbers that leave the `random` module alone: an application may have seeded that.

They differ from process to process, also if one was forked from the other.
"""

PROCESS_EXITS = (KeyboardInterrupt, SystemExit)
"""What ends the process, whichever code raises it. Everything else that a task's work raises is a failure of it."""

Tell = Callable[[BaseException, float], Awaitable[object]]
"""Is told of a failure and of the seconds until the work is tried again."""


def is_failure(error: BaseException) -> bool:
    """Return whether what was awaited has failed; not so if the current task is to end, or the process is.

    A `CancelledError` that comes although the current task was not cancelled is a failure: a driver's own task, or the
    user's code, let it out.
    """
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and not task.cancelling()
    return not isinstance(error, (*PROCESS_EXITS, GeneratorExit))


class Supervisor:
    """Runs work until it returns; see the flow at the top of this module.

    Args:
        name: of the work, for the log.
        backoff: the pauses after failures.
        tell: told of each failure; by default the log is.
        refusals: errors that trying again cannot mend; they end the work.
    """

    def __init__(
        self,
        name: str,
        backoff: Backoff,
        tell: Tell | None = None,
        refusals: tuple[type[Exception], ...] = (),
    ) -> None:
        self.error: BaseException | None = None
        """What the work raised last; None when it goes well."""
        self.failures = 0
        """Failures in a row."""
        self.is_news = True
        """Whether the last failure differs from the one before it: the log then gets all that is known of it."""
        self._told = ""
        self._name = name
        self._backoff = backoff
        self._tell = tell or self._log
        self._refusals = refusals

    def went_well(self) -> None:
        """Forget the failures. The work calls this when it has got anywhere, as only the work can know."""
        self.error, self.failures, self._told = None, 0, ""

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run the work until it returns, or this task is cancelled.

        Raises:
            Exception: one of the refusals.
        """
        while True:
            try:
                await work()
            except BaseException as error:
                if not is_failure(error) or isinstance(error, self._refusals):
                    raise
                await self.failed(error)
            else:
                self.went_well()
                return
            end_if_cancelled()

    async def failed(self, error: BaseException) -> None:
        """Tell of a failure, and pause."""
        await _rest(await self.tell(error))

    async def tell(self, error: BaseException) -> float:
        """Tell of a failure, and return the seconds until the work is to be tried again."""
        self.error, self.failures, told = error, self.failures + 1, repr(error)
        self.is_news, self._told = told != self._told, told
        pause = self._backoff.pause(self.failures) * JITTER.uniform(0.5, 1.0)
        for tell in (self._tell, self._log):
            try:
                await tell(error, pause)
                break
            except BaseException as also:  # what failed may be what it would be told to
                if not is_failure(also):
                    raise
                log.warning("%s could not tell why it fails: %r", self._name, also)
        return pause

    async def _log(self, error: BaseException, pause: float) -> None:
        if isinstance(error, StorageUnavailableError):  # it says all that is to be known
            log.warning("%s failed, and is tried again in %.1f s: %s", self._name, pause, error)
        elif not self.is_news:
            log.warning("%s failed again, and is tried again in %.1f s: %r", self._name, pause, error)
        else:
            log.error("%s failed, and is tried again in %.1f s", self._name, pause, exc_info=error)


async def supervise(name: str, work: Callable[[], Awaitable[None]], backoff: Backoff, tell: Tell | None = None) -> None:
    """Run work as a supervised task: `create_task(supervise("listener", self._listen, options.backoff))`."""
    await Supervisor(name, backoff, tell).run(work)


async def keep_running(works: Mapping[str, Callable[[], Coroutine[Any, Any, None]]], backoff: Backoff) -> None:
    """Run works side by side, each in a task of its own, until cancelled; a task that ends in any way begins again."""
    running: dict[str, asyncio.Task[None]] = {}
    failures = 0
    try:
        while True:
            for name in works.keys() - {name for name, task in running.items() if not task.done()}:
                if name in running:
                    log.error("the task %r ended although it should not, and begins again: %r", name, running[name])
                    failures += 1
                    await _rest(backoff.pause(failures))
                running[name] = asyncio.create_task(works[name](), name=name)
            await asyncio.wait(running.values(), return_when=asyncio.FIRST_COMPLETED)
            end_if_cancelled()
    finally:
        await end(*running.values())


def end_if_cancelled() -> None:
    """Raise `CancelledError` if the current task was cancelled, and what it awaited has swallowed that."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def end(*tasks: asyncio.Task[Any], patience: float = 0.5) -> None:
    """Cancel tasks until they have ended, in whatever way they end.

    Args:
        tasks: to be ended.
        patience: seconds after which a task that goes on is cancelled again.
    """
    going_on = set(tasks)
    while going_on:
        for task in going_on:
            task.cancel()
        _, going_on = await asyncio.wait(going_on, timeout=patience)
    await asyncio.gather(*tasks, return_exceptions=True)


async def run_in_thread(work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Run work in a thread and return its result. A caller who is cancelled comes back only when it is done.

    Otherwise what the thread uses, such as a connection of SQLite, could be closed under it.

    Raises:
        Exception: whatever the work raises.
    """
    running = asyncio.ensure_future(asyncio.to_thread(work, *arguments, **named))
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait({running})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        running.exception()  # it is seen
        raise cancelled
    return running.result()


async def _rest(seconds: float) -> None:
    """Sleep, also through a stray cancellation."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while (remaining := until - loop.time()) > 0:
        try:
            await asyncio.sleep(remaining)
        except asyncio.CancelledError as error:
            if not is_failure(error):
                raise
