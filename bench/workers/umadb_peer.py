"""The peer `umadb`: its server, which the wheel brings, and its client over gRPC on loopback."""

from __future__ import annotations

import itertools
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import msgspec
import umadb

from bench import workload
from bench.worker import median_ms, per_second, serve, write_in_threads


@dataclass(frozen=True)
class ItemAdded:
    basket_id: str
    product_id: str
    description: str
    quantity: int
    unit_price: str
    currency: str
    country: str
    warehouse: str
    campaign: str


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(ItemAdded).decode


POOL = [ItemAdded(**workload.fields(number)) for number in range(workload.BULK)]
"""Made in advance: what it costs to make an event is the application's."""


def event(stream: str, number: int, *tags: str) -> umadb.Event:
    payload = encode(POOL[number % workload.BULK])
    return umadb.Event("ItemAdded", payload, [stream, *tags], uuid4(), metadata=workload.METADATA)


def of_stream(stream: str) -> umadb.Query:
    return umadb.Query([umadb.QueryItem(tags=[stream])])


class UmadbPeer:
    """A stream is a tag; what an expected version is elsewhere is an append condition here."""

    def __init__(self, client: umadb.Client, place: Path) -> None:
        self._client, self._place = client, place
        self._runs = itertools.count()

    def append(self, writers: int, batch: int, seconds: float) -> float:
        run = next(self._runs)
        streams = [f"{run}-{n}" for n in range(writers)]
        seen: list[int | None] = [None] * writers

        def write(writer: int, turn: int) -> int:
            condition = umadb.AppendCondition(of_stream(streams[writer]), seen[writer])
            events = [event(streams[writer], turn * batch + n) for n in range(batch)]
            seen[writer] = self._client.append(events, condition)
            return batch

        return write_in_threads(writers, seconds, write)

    def append_tagged(self, batch: int, seconds: float) -> float:
        stream, seen = f"tagged-{next(self._runs)}", None

        def write(_: int, turn: int) -> int:
            nonlocal seen
            condition = umadb.AppendCondition(of_stream(stream), seen)
            numbers = range(turn * batch, (turn + 1) * batch)
            seen = self._client.append([event(stream, n, *workload.tags(n)) for n in numbers], condition)
            return batch

        return write_in_threads(1, seconds, write)

    def fill(self, events: int) -> None:
        pending: list[umadb.Event] = []
        for name, count in workload.streams(events):
            pending += [event(name, n) for n in range(count)]
            if len(pending) >= workload.BULK:
                self._client.append(pending)
                pending = []
        if pending:
            self._client.append(pending)

    def load(self, events: int, times: int) -> float:
        stream = of_stream("long" if events == workload.BULK else "short-7")
        return median_ms(times, lambda: sum(decode(e.event.data).quantity for e in self._client.read(stream)))

    def read(self, events: int) -> float:
        def everything() -> int:
            response, seen = self._client.read(), 0
            while found := response.next_batch():
                seen += len([decode(each.event.data) for each in found])
            return seen

        return per_second(events, everything)

    def latency(self, commits: int) -> float:
        arrivals: list[float] = []
        arrived = threading.Semaphore(0)
        subscription = self._client.subscribe(after=self._client.head())

        def follow() -> None:
            for each in itertools.islice(subscription, commits):
                decode(each.event.data)
                arrivals.append(time.perf_counter())
                arrived.release()

        handler = threading.Thread(target=follow)
        handler.start()
        acknowledged = []
        for number in range(commits):
            self._client.append([event("latency", number)])
            acknowledged.append(time.perf_counter())
            arrived.acquire()
        handler.join()
        return statistics.median(max(a - b, 0) for a, b in zip(arrivals, acknowledged, strict=True)) * 1000

    def size(self, events: int) -> float:
        """Count the pages that hold anything: the file is allocated in advance, filled with zeros."""
        zeros, used = bytes(4096), 0
        with self._place.open("rb") as file:
            while page := file.read(4096):
                used += len(page) if page != zeros[: len(page)] else 0
        return used / events


@contextmanager
def opened(path: str) -> Iterator[UmadbPeer]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [str(Path(sys.executable).with_name("umadb")), "--listen", address, "--db-path", path]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield UmadbPeer(_connect(address, deadline=time.monotonic() + 20), Path(path))
    finally:
        server.terminate()
        server.wait()


def _connect(address: str, deadline: float) -> umadb.Client:
    while True:
        try:
            client = umadb.Client(f"http://{address}")
            client.head()
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return client


if __name__ == "__main__":
    serve(opened(sys.argv[1]))
