"""A NATS server with JetStream, and as much of its protocol as publishing and reading a stream take."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.debian import find_program

PATIENCE = 30.0
STREAM, SUBJECTS = "ACCOUNTS", "accounts.>"


class Message(NamedTuple):
    """What the stream holds."""

    subject: str
    data: str


class NatsServer:
    """A server that can be killed and started again with what it has stored."""

    def __init__(self, folder: Path) -> None:
        self._program = find_program("nats-server")
        self._folder = folder
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [self._program.path, "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", str(self._folder)]
        environment = dict(self._program.environment)
        self._process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                assert self._process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)  # a foreign process starts
            else:
                return

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextmanager
def nats_server(folder: Path) -> Iterator[NatsServer]:
    """Run a server for as long as the block lasts."""
    server = NatsServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()


class Connection:
    """A connection to a server; what is lost with it raises ConnectionError."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._waiting: dict[str, asyncio.Future[bytes]] = {}
        self._number = 0
        self._listening = asyncio.create_task(self._listen(), name="test-nats")
        writer.write(b'CONNECT {"verbose":false,"headers":true,"no_responders":false}\r\nSUB inbox.* 1\r\n')

    async def request(self, subject: str, payload: dict[str, Any]) -> dict[str, Any]:
        """Ask the server, and return what it answers."""
        return await self._answer(self._send(subject, "", json.dumps(payload)))

    async def publish(self, messages: Sequence[tuple[str, str, str]]) -> None:
        """Publish subjects, ids and data in order, and wait until the stream has all of them."""
        answers = [
            self._send(subject, f"NATS/1.0\r\nNats-Msg-Id: {each}\r\n\r\n", data) for subject, each, data in messages
        ]
        for answer in answers:
            await self._answer(answer)

    async def close(self) -> None:
        self._writer.close()
        await asyncio.gather(self._listening, return_exceptions=True)

    def _send(self, subject: str, header: str, data: str) -> asyncio.Future[bytes]:
        if self._listening.done():
            raise ConnectionResetError("the broker is away")
        self._number += 1
        reply, body = f"inbox.{self._number}", data.encode()
        sizes = f"{len(header)} {len(header) + len(body)}" if header else f"{len(body)}"
        verb = "HPUB" if header else "PUB"
        self._writer.write(f"{verb} {subject} {reply} {sizes}\r\n{header}".encode() + body + b"\r\n")
        self._waiting[reply] = asyncio.get_running_loop().create_future()
        return self._waiting[reply]

    async def _answer(self, answer: asyncio.Future[bytes]) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE):
            found: dict[str, Any] = json.loads(await answer)
        if "error" in found:
            raise ConnectionError(found["error"]["description"])
        return found

    async def _listen(self) -> None:
        try:
            while line := await self._reader.readline():
                match line.split():
                    case [b"PING"]:
                        self._writer.write(b"PONG\r\n")
                    case [b"MSG", subject, _, size] | [b"MSG", subject, _, _, size]:
                        data = (await self._reader.readexactly(int(size) + 2))[:-2]
                        self._waiting.pop(subject.decode()).set_result(data)
        finally:
            for each in self._waiting.values():
                if not each.done():
                    each.set_exception(ConnectionResetError("the broker is away"))


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Connection]:
    """Connect for as long as the block lasts."""
    connection = Connection(*await asyncio.open_connection("127.0.0.1", port))
    try:
        yield connection
    finally:
        await connection.close()


async def create_stream(connection: Connection) -> None:
    """Make a stream that knows a message by its id for an hour."""
    config = {"name": STREAM, "subjects": [SUBJECTS], "storage": "file", "duplicate_window": 3600 * 10**9}
    await connection.request(f"$JS.API.STREAM.CREATE.{STREAM}", config)


async def read_stream(connection: Connection) -> list[Message]:
    """Return what the stream holds, in order."""
    state = (await connection.request(f"$JS.API.STREAM.INFO.{STREAM}", {}))["state"]
    found = []
    for number in range(1, state["last_seq"] + 1):
        answer = await connection.request(f"$JS.API.STREAM.MSG.GET.{STREAM}", {"seq": number})
        message = answer["message"]
        found.append(Message(message["subject"], base64.b64decode(message.get("data", "")).decode()))
    return found
