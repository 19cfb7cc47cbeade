"""A connection on which nothing waits for longer than it says: a server that is silent for too long is hung up on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import selectors
import socket
import time
from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus
from psycopg.waiting import Ready, Wait, wait_async

from twofold.tasks import is_failure

T = TypeVar("T")

Connection = AsyncConnection[tuple[Any, ...]]
"""Twofold's own, or the user's that is joined."""


class BoundedConnection(AsyncConnection[tuple[Any, ...]]):
    """Twofold's own connections: each wait for the server has a bound, also that of the user's SQL.

    1. The server is silent for `suspicion` seconds while an answer is due: it is asked on another connection.
    2. It does not know of the statement, or does not answer: this connection is hung up.
    3. It is at work: it has until `silence` seconds, and then it is hung up on as well.

    TCP's own time-outs notice neither a server that is frozen behind a proxy, nor a firewall that has forgotten the
    connection.
    """

    silence = 5.0
    """Seconds for which an answer may be due and nothing come; set by the lender. A slow answer is no silence."""
    suspicion = 1.5
    """Seconds of silence after which `probe` is asked."""
    probe: Callable[[], Awaitable[bool]] | None = None
    """Tells whether the server is at work on this connection's statement."""
    read_turn = 0.0
    """Seconds for which an answer that is there already is read without a turn of the event loop for others."""
    cancel_timeout = 0.0
    """Seconds that the server has to end a statement whose caller was cancelled; with 0, the connection is closed."""
    foreign = False
    """Whether the user's code has run on it, which may have changed the settings of the session."""

    async def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Wait for the server as the driver does, but not beyond the bounds."""
        bounded = {} if timeout is None else {"timeout": timeout}  # psycopg 3.2 has no `timeout` here, and needs none
        watch = Watch(self)
        try:
            return await wait_async(watch.listening(gen), self.pgconn.socket, interval, **bounded)
        except (asyncio.CancelledError, KeyboardInterrupt):
            if not self.cancel_timeout:
                self.pgconn.finish()
            elif self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                await self._abandon(gen, interval)
            raise
        finally:
            watch.end()

    async def _abandon(self, gen: Any, interval: float) -> None:
        """Have the server end the statement, so that the connection can be used again; close it if that takes long."""
        late = asyncio.get_running_loop().call_later(self.cancel_timeout, hang_up, self)
        try:
            await self.cancel_safe(timeout=self.cancel_timeout)
            await wait_async(gen, self.pgconn.socket, interval)
        except psycopg.errors.QueryCanceled:
            pass
        except BaseException as error:
            self.pgconn.finish()
            if not isinstance(error, Exception):
                raise
        finally:
            late.cancel()


class Watch:
    """Looks after one wait for the server, from now until `end`."""

    __slots__ = ("_at_work", "_connection", "_loop", "_probing", "_timer", "heard")

    def __init__(self, connection: BoundedConnection) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._probing: asyncio.Task[None] | None = None
        self._at_work = connection.probe is None
        self.heard = time.monotonic()
        """When something came last."""
        self._timer = self._loop.call_later(self._patience(), self._look)

    def listening(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        """Pass a generator of the driver's on, and note when something came."""
        try:
            state = next(gen)
            while True:
                ready = yield state
                if ready:
                    self.heard = time.monotonic()
                state = gen.send(ready)
                if state == Wait.R and ready:
                    state = self._read_on(gen)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    def _read_on(self, gen: Generator[Any, Any, Any]) -> Any:
        """Read on while more of the answer is there: libpq takes some 16 kB at once, and a turn of the loop costs more.

        Measured with 2 500 events, this process spends 28 % less time on an answer.
        """
        state: Any = Wait.R
        socket = select.poll()
        socket.register(self._connection.pgconn.socket, select.POLLIN)
        end = self.heard + self._connection.read_turn
        while state == Wait.R and time.monotonic() < end and socket.poll(0):
            state = gen.send(Ready.R)
        return state

    def end(self) -> None:
        """Let the connection alone."""
        self._timer.cancel()
        if self._probing is not None:
            self._probing.cancel()

    def _patience(self) -> float:
        silence = self._connection.silence
        return silence if self._at_work else min(self._connection.suspicion, silence)

    def _look(self) -> None:
        if _has_answered(self._connection):  # it is this process that was busy
            self.heard = time.monotonic()
        silent = time.monotonic() - self.heard
        if silent < self._patience():
            self._timer = self._loop.call_later(self._patience() - silent, self._look)
        elif silent < self._connection.silence:
            self._probing = self._loop.create_task(self._probe(), name="twofold-postgres-probe")
        else:
            hang_up(self._connection)

    async def _probe(self) -> None:
        assert self._connection.probe is not None  # noqa: S101
        try:
            self._at_work = await self._connection.probe()
        except BaseException as error:  # the server does not answer on another connection either
            if not is_failure(error):
                raise
            self._at_work = False
        if self._at_work or _has_answered(self._connection):
            self._look()
        else:
            hang_up(self._connection)


def hang_up(connection: Connection) -> None:
    """Cut a connection whose server does not answer; what waits for the answer gets an error."""
    if not connection.closed:
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)


def _has_answered(connection: Connection) -> bool:
    """Return whether something has come that this process has not read yet."""
    if connection.closed:
        return False
    with selectors.DefaultSelector() as selector:
        selector.register(connection.fileno(), selectors.EVENT_READ)
        return bool(selector.select(0))
