"""The end of a server: streams that never end by themselves, and requests whose clients do not let them end."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

GRACE = 10.0
"""Seconds that requests get to end once a server is told to. Raised, a client that sends no more of its body, or reads
no more of its answer, keeps the process for longer; lowered, requests that are only slow are cut off."""


@contextmanager
def ending(closing: asyncio.Event, grace: float | None = GRACE) -> Iterator[None]:
    """Set an event when the process is told to end, or at the latest when the block ends.

    A server tells the application that it shuts down only when all responses have ended. So its signal handlers are
    wrapped for the time; they are called as before.

    Args:
        closing: the event.
        grace: seconds that uvicorn lets requests take then, if it was given no limit and would wait for ever; None to
            leave it so.
    """
    loop = asyncio.get_running_loop()
    wrapped: dict[signal.Signals, object] = {}

    def wrap(number: signal.Signals) -> None:
        before = signal.getsignal(number)
        if not callable(before):
            return  # the process just dies of it
        if grace is not None:
            _limit(before, grace)

        def handle(sent: int, frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(closing.set)
            before(sent, frame)

        wrapped[number] = before
        signal.signal(number, handle)

    closing.clear()
    if threading.current_thread() is threading.main_thread():
        wrap(signal.SIGINT)
        wrap(signal.SIGTERM)
    try:
        yield
    finally:
        closing.set()
        for number, before in wrapped.items():
            signal.signal(number, before)  # type: ignore[arg-type]


def _limit(handler: object, grace: float) -> None:
    """Give uvicorn a graceful time-out, if the handler is a method of its server, and it has none."""
    config = getattr(getattr(handler, "__self__", None), "config", None)
    if getattr(config, "timeout_graceful_shutdown", 0) is None:
        config.timeout_graceful_shutdown = grace  # type: ignore[union-attr]
