"""The peer's read model of baskets on PostgreSQL, and its `wait`; on SQLite it has no projections."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from eventsourcing.application import Application
from eventsourcing.persistence import InfrastructureFactory, Tracking
from eventsourcing.postgres import PostgresDatastore, PostgresTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner
from eventsourcing.utils import Environment
from psycopg.sql import SQL


class BasketView(PostgresTrackingRecorder):  # type: ignore[misc]  # comes from the peers' environment
    def __init__(self, datastore: PostgresDatastore, **kwargs: Any) -> None:
        super().__init__(datastore, **kwargs)
        self.sql_create_statements.append(
            SQL("CREATE TABLE IF NOT EXISTS baskets (basket_id text PRIMARY KEY, quantity bigint NOT NULL)")
        )

    def add(self, basket_id: str, quantity: int, tracking: Tracking) -> None:
        with self.datastore.transaction(commit=True) as cursor:
            self._insert_tracking(cursor, tracking)
            cursor.execute(
                "INSERT INTO baskets VALUES (%s, %s) "
                "ON CONFLICT (basket_id) DO UPDATE SET quantity = baskets.quantity + excluded.quantity",
                (basket_id, quantity),
            )

    def get(self, basket_id: str) -> int:
        with self.datastore.transaction() as cursor:
            cursor.execute("SELECT quantity FROM baskets WHERE basket_id = %s", (basket_id,))
            row = cursor.fetchone()
            return int(row["quantity"]) if row else 0


class Baskets(Projection[BasketView]):  # type: ignore[misc]
    name = "baskets"

    def process_event(self, domain_event: Any, tracking: Tracking) -> None:
        self.view.add("b", 1, tracking)


def view_of(environment: dict[str, str]) -> BasketView:
    factory = InfrastructureFactory.construct(Environment(Baskets.name, environment))
    view: BasketView = factory.tracking_recorder(BasketView)
    return view


def run(environment: dict[str, str]) -> ProjectionRunner[Any, Any]:
    return ProjectionRunner(
        application_class=Application, projection_class=Baskets, view_class=BasketView, env=environment
    )


def measure(view: BasketView, commits: int, put: Callable[[int], int]) -> float:
    """Return the median of the milliseconds from a commit to the answer that shows it."""
    before, taken = view.get("b"), []
    for number in range(1, commits + 1):
        notification = put(number)
        start = time.perf_counter()
        view.wait(Application.name, notification, timeout=60)
        seen = view.get("b")
        taken.append(time.perf_counter() - start)
        if seen < before + number:
            raise AssertionError(f"saw {seen} instead of {before + number}")
    return statistics.median(taken) * 1000


if __name__ == "__main__":
    # The peer stores events under the name of the module that made them, which was its process's main module.
    from bench.workers.eventsourcing_peer import Basket, environment_of  # noqa: F401

    with run(environment_of(sys.argv[1])):
        print("ready", flush=True)
        sys.stdin.read()
