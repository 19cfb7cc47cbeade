"""A synchronous face: the same application from Django, Flask, Celery, scripts and notebooks.

1. The first call in a process starts an event loop in a thread of its own, makes the application there, and starts it.
2. Each call runs in that loop, with the caller's context variables (`session`, `metadata`), while its thread waits.
3. At the end of the process the application is stopped.
4. A child that is forked off begins again with the first step: neither loop nor application comes with it.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import weakref
from collections.abc import AsyncIterable, Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, Self, TypeVar, cast

from twofold.application import Application
from twofold.errors import OwnershipError

__all__ = ["SyncApplication"]

A = TypeVar("A", bound=Application)
T = TypeVar("T")
P = ParamSpec("P")
_END = object()
_STOPPING = 30.0
"""Seconds for the application to stop. More: a process with a stuck one ends later. Less: leases are left to expire."""


class SyncApplication(Generic[A]):
    """Lets threads call an application that runs in an event loop of its own; any number of threads at once.

    ```python
    shop = SyncApplication(application)
    receipt = shop.call(shop.app.commands.execute, PlaceOrder(article="book"))
    ```

    Args:
        make: returns the application, with its handlers and projections, not started; it is called in each process
            once, when that is needed first.
    """

    def __init__(self, make: Callable[[], A]) -> None:
        self._make = make
        self._running: _Running[A] | None = None
        self._lock = threading.Lock()
        _all.add(self)

    @property
    def app(self) -> A:
        """The application of this process, which is started when that is needed first.

        Raises:
            OwnershipError: an event loop runs in this thread.
            StorageError: a database cannot be opened; the next use tries again.
            Exception: whatever `make` raises.
        """
        return self._start().app

    def call(self, function: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an asynchronous function of the application, and return what it returns.

        When the waiting thread is interrupted, as by Ctrl-C, the function is cancelled.

        Raises:
            OwnershipError: an event loop runs in this thread: await the function there instead.
            Exception: whatever the function raises.
        """
        loop = self._start().loop

        async def run() -> T:
            return await function(*args, **kwargs)

        future = asyncio.run_coroutine_threadsafe(run(), loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # does nothing, unless it was the waiting that was interrupted
            raise

    def iterate(self, items: AsyncIterable[T], /) -> Iterator[T]:
        """Iterate over what an application yields, such as `store.read(...)` or a subscription.

        Raises:
            OwnershipError: an event loop runs in this thread.
            Exception: whatever the iterator raises.
        """
        iterator = aiter(items)

        async def following() -> Any:
            return await anext(iterator, _END)

        try:
            while (item := self.call(following)) is not _END:
                yield cast("T", item)
        finally:
            if close := getattr(iterator, "aclose", None):
                self.call(close)

    def close(self) -> None:
        """Stop the application of this process and its event loop; may be repeated. The next call starts them again.

        A process that ends does this by itself, unless it is killed; other processes then take over the work on its
        read models after the lease, instead of at once. What was acknowledged is stored either way.

        Raises:
            OwnershipError: an event loop runs in this thread.
            TimeoutError: the application did not stop within 30 s; its thread goes on until the process ends.
        """
        _refuse_loop()
        with self._lock:
            running, self._running = self._running, None
        if running is not None:
            running.stop()

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> _Running[A]:
        _refuse_loop()
        running = self._running
        if running is not None:
            return running
        with self._lock:
            running = self._running = self._running or _Running.start(self._make)
            return running

    def _forget(self) -> None:
        self._running = None
        self._lock = threading.Lock()  # another thread may have held the one of the parent when the process was forked


_all: weakref.WeakSet[SyncApplication[Any]] = weakref.WeakSet()


def _forget_all() -> None:
    for each in list(_all):
        each._forget()


def _close_all() -> None:
    for each in list(_all):
        with suppress(Exception):  # what was acknowledged is stored, and the process ends
            each.close()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_forget_all)
# `atexit` comes too late: the executors of `concurrent.futures`, which databases need to close, end before it, by this.
getattr(threading, "_register_atexit", atexit.register)(_close_all)


@dataclass(frozen=True)
class _Running(Generic[A]):
    """An application that is started, and the loop and the thread in which it runs."""

    app: A
    loop: asyncio.AbstractEventLoop
    thread: threading.Thread

    @classmethod
    def start(cls, make: Callable[[], A]) -> Self:
        """Start a loop in a thread, and an application in it; leave neither behind if that fails."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=_run, args=(loop,), name="twofold-sync", daemon=True)
        thread.start()

        async def begin() -> A:
            app = make()
            await app.start()
            return app

        try:
            return cls(asyncio.run_coroutine_threadsafe(begin(), loop).result(), loop, thread)
        except BaseException:
            _end(loop, thread)
            raise

    def stop(self) -> None:
        """Stop the application, then the loop."""
        try:
            asyncio.run_coroutine_threadsafe(self.app.stop(), self.loop).result(_STOPPING)
        finally:
            _end(self.loop, self.thread)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.get_loop().run_forever()


def _end(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


def _refuse_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise OwnershipError(
        "an event loop runs in this thread, and would stand still while the thread waits; await the application's own "
        "methods here, or call the synchronous face from another thread (`asyncio.to_thread`)"
    )
