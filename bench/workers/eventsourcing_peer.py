"""The peer `eventsourcing` on SQLite (synchronous = FULL) and on PostgreSQL (default: safe order)."""

from __future__ import annotations

import itertools
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4, uuid5

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate
from eventsourcing.sqlite import SQLiteConnectionPool

from bench import workload
from bench.worker import another_process, median_ms, per_second, serve, write_in_threads
from bench.workers import eventsourcing_accounts as accounts

NAMES = UUID(int=7)


class Basket(Aggregate):  # type: ignore[misc]  # comes from the peers' environment
    def __init__(self) -> None:
        self.quantity = 0

    class ItemAdded(Aggregate.Event):  # type: ignore[misc]
        basket_id: str
        product_id: str
        description: str
        quantity: int
        unit_price: str
        currency: str
        country: str
        warehouse: str
        campaign: str
        correlation_id: str
        user: str

        def apply(self, aggregate: Any) -> None:
            aggregate.quantity += self.quantity


def event(stream: UUID, version: int) -> Any:
    if version == 1:
        return next(iter(Basket._create(Basket.Created, id=stream).collect_events()))
    return Basket.ItemAdded(
        originator_id=stream,
        originator_version=version,
        timestamp=Basket.ItemAdded.create_timestamp(),
        **workload.fields(version),
        **workload.METADATA,
    )


class EventsourcingPeer:
    """Events through the mapper and the recorder, as an application's `save` does it."""

    def __init__(self, application: Application[UUID], place: str) -> None:
        self._place, self._numbers = place, itertools.count()
        self._store, self._recorder = application.events, application.recorder
        self._mapper = application.mapper
        self._repository = application.repository

    def append(self, writers: int, batch: int, seconds: float) -> float:
        streams = [uuid4() for _ in range(writers)]

        def write(writer: int, turn: int) -> int:
            first = turn * batch + 1
            self._store.put([event(streams[writer], version) for version in range(first, first + batch)])
            return batch

        return write_in_threads(writers, seconds, write)

    def fill(self, events: int) -> None:
        pending: list[Any] = []
        for name, count in workload.streams(events):
            pending += [event(uuid5(NAMES, name), n + 1) for n in range(count)]
            if len(pending) >= 100:  # with 1000 events of many streams, it sometimes hangs on PostgreSQL
                self._store.put(pending)
                pending = []
        if pending:
            self._store.put(pending)

    def load(self, events: int, times: int) -> float:
        stream = uuid5(NAMES, "long" if events == workload.BULK else "short-7")
        return median_ms(times, lambda: self._repository.get(stream))

    def read(self, events: int) -> float:
        def everything() -> int:
            after = seen = 0
            while found := self._recorder.select_notifications(start=after + 1, limit=workload.BULK):
                seen += len([self._mapper.to_domain_event(each) for each in found])
                after = found[-1].id
            return seen

        return per_second(events, everything)

    def latency(self, commits: int) -> float | None:
        try:
            subscription = self._recorder.subscribe(gt=self._recorder.max_notification_id())
        except NotImplementedError:  # SQLite
            return None
        arrivals: list[float] = []
        arrived = threading.Semaphore(0)

        def follow() -> None:
            for notification in subscription:
                self._mapper.to_domain_event(notification)
                arrivals.append(time.perf_counter())
                arrived.release()
                if len(arrivals) == commits:
                    return

        with subscription:
            handler = threading.Thread(target=follow)
            handler.start()
            stream, acknowledged = uuid4(), []
            for version in range(1, commits + 1):
                self._store.put([event(stream, version)])
                acknowledged.append(time.perf_counter())
                arrived.acquire()
            handler.join()
        return statistics.median(max(a - b, 0) for a, b in zip(arrivals, acknowledged, strict=True)) * 1000

    def fill_accounts(self, events: int) -> None:
        moved = list(accounts.movements(workload.accounts(min(events, accounts.PROJECTED))))
        for first in range(0, len(moved), 100):
            self._store.put(moved[first : first + 100])

    def project(self, kind: str, workers: int) -> float | None:
        """Project by SQL, as it has no other way; one worker, as each tracks for itself; not on SQLite."""
        if workers > 1 or kind == "slow" or "postgresql" not in self._place:
            return None
        head = self._recorder.max_notification_id() or 0
        return accounts.measure(environment_of(self._place), f"accounts_{next(self._numbers)}", head)

    def consistency(self, commits: int, processes: int) -> float | None:
        if "postgresql" not in self._place:
            return None
        from bench.workers import eventsourcing_projection as projection

        environment, stream = environment_of(self._place), uuid4()

        def put(version: int) -> int:
            return int(self._store.put([event(stream, version)])[-1].notification.id)

        if processes == 1:
            with projection.run(environment) as runner:
                return projection.measure(runner.view, commits, put)
        view = projection.view_of(environment)
        with another_process("bench.workers.eventsourcing_projection", self._place):
            return projection.measure(view, commits, put)

    def size(self, events: int) -> float:
        datastore: Any = self._recorder.datastore
        with datastore.transaction(commit=False) as cursor:
            if "sqlite" in type(datastore).__module__:
                cursor.execute("SELECT page_count * page_size AS size FROM pragma_page_count, pragma_page_size")
            else:
                cursor.execute(
                    "SELECT sum(pg_total_relation_size(oid)) AS size FROM pg_class "
                    "WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
                )
            return float(cursor.fetchone()["size"]) / events


def environment_of(url: str) -> dict[str, str]:
    if "postgresql" not in url:
        return {"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": url, "SQLITE_LOCK_TIMEOUT": "30"}
    parts = urlsplit(url)
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": parts.path.lstrip("/"),
        "POSTGRES_HOST": parse_qs(parts.query).get("host", [parts.hostname or ""])[0],
        "POSTGRES_PORT": str(parts.port or 5432),
        "POSTGRES_USER": parts.username or "postgres",
        "POSTGRES_PASSWORD": parts.password or "",
    }


def synchronise_fully() -> None:
    """Let it sync at each commit on SQLite, as all others here do."""
    create = SQLiteConnectionPool._create_connection

    def create_durable(pool: SQLiteConnectionPool) -> Any:
        connection = create(pool)
        connection.cursor().execute("PRAGMA synchronous = FULL")
        return connection

    SQLiteConnectionPool._create_connection = create_durable


@contextmanager
def opened(url: str) -> Iterator[EventsourcingPeer]:
    synchronise_fully()
    application = Application[UUID](env=environment_of(url))
    yield EventsourcingPeer(application, url)
    application.close()


if __name__ == "__main__":
    serve(opened(sys.argv[1]))
