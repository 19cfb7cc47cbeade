"""Responses that never end by themselves must end with the server, which waits for them."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def ending(closing: asyncio.Event) -> Iterator[None]:
    """Set an event when the process is told to end, or at the latest when the block ends.

    A server tells the application that it shuts down only when all responses have ended. So its signal handlers are
    wrapped for the time; they are called as before.
    """
    loop = asyncio.get_running_loop()
    wrapped: dict[signal.Signals, object] = {}

    def wrap(number: signal.Signals) -> None:
        before = signal.getsignal(number)
        if not callable(before):
            return  # the process just dies of it

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
