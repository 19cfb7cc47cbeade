"""A client with few connections and little work of its own, so that the server is what is measured."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable

CONNECTIONS = 16
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Connection(asyncio.Protocol):
    """Sends one request after the other over one connection, each once the answer before it is complete."""

    def __init__(self, requests: Callable[[], bytes], expected: bytes) -> None:
        self.answers: list[bytes] = []
        self.done = 0
        self.ended = asyncio.get_running_loop().create_future()
        self.deadline = 0.0
        self.keep = False
        self._requests = requests
        self._expected = expected
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def send_until(self, deadline: float) -> None:
        """Send requests until a time of `time.perf_counter`."""
        self.deadline, self.ended = deadline, asyncio.get_running_loop().create_future()
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        length = _LENGTH.search(self._received, 0, end + 2)
        if length is None or len(self._received) < end + 4 + int(length[1]):
            return
        answer, self._received = self._received, b""
        if not answer.startswith(self._expected):
            if not self.ended.done():
                self.ended.set_exception(AssertionError(f"the server answered {answer[:300]!r}"))
            return
        self.done += 1
        if self.keep:
            self.answers.append(answer[end + 4 :])
        if time.perf_counter() < self.deadline:
            self._send()
        elif not self.ended.done():
            self.ended.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(ConnectionError(f"the server hung up: {error!r}"))

    def _send(self) -> None:
        self._transport.write(self._requests())  # type: ignore[attr-defined]


def post(path: str, body: object) -> bytes:
    """Return a POST request."""
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {len(content)}"
    )
    return head.encode() + b"\r\n\r\n" + content


def get(path: str) -> bytes:
    """Return a GET request."""
    return f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode()


async def rate(port: int, requests: Callable[[], bytes], expected: bytes, seconds: float) -> float:
    """Return the requests per second that a server answers as expected, over `CONNECTIONS` connections."""
    loop = asyncio.get_running_loop()
    connections = [
        (await loop.create_connection(lambda: Connection(requests, expected), "127.0.0.1", port))[1]
        for _ in range(CONNECTIONS)
    ]
    start = time.perf_counter()
    for each in connections:
        each.send_until(start + seconds)
    await asyncio.gather(*(each.ended for each in connections))
    taken = time.perf_counter() - start
    for each in connections:
        each._transport.close()
    return sum(each.done for each in connections) / taken


async def ask(port: int, request: bytes) -> tuple[int, bytes]:
    """Return the status and the body of one answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        return int(head.split()[1]), await reader.readexactly(int(length[1]) if length else 0)
    finally:
        writer.close()
