"""The peer's read model of accounts on PostgreSQL: its runner, and a recorder that stores its tracking position."""

from __future__ import annotations

import time
from collections.abc import Iterator
from decimal import Decimal
from itertools import count
from typing import Any
from uuid import UUID, uuid5

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate
from eventsourcing.postgres import PostgresDatastore, PostgresTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner
from psycopg.sql import SQL

from bench import workload

NAMES = UUID(int=8)
PROJECTED = 3000
"""Events that are projected to find the rate: it commits each, which takes its time, and is the same throughout."""


class Account(Aggregate):  # type: ignore[misc]  # comes from the peers' environment
    class Moved(Aggregate.Event):  # type: ignore[misc]
        account: str
        amount: Decimal
        currency: str
        kind: str
        reference: str
        merchant: str
        country: str
        terminal: str
        booked_by: str


def movements(accounts: list[str]) -> Iterator[Any]:
    """Yield an event for each of the accounts."""
    versions = {account: count(1) for account in set(accounts)}
    for account in accounts:
        yield Account.Moved(
            originator_id=uuid5(NAMES, account),
            originator_version=next(versions[account]),
            timestamp=Account.Moved.create_timestamp(),
            **workload.movement(account) | {"amount": Decimal("12.55")},
        )


class AccountView(PostgresTrackingRecorder):  # type: ignore[misc]
    def __init__(self, datastore: PostgresDatastore, **kwargs: Any) -> None:
        super().__init__(datastore, **kwargs)
        self.table = self.tracking_table_name.removesuffix("_tracking")
        self.sql_create_statements.append(SQL(workload.create_accounts(self.table)))

    def add(self, event: Any, tracking: Any) -> None:
        with self.datastore.transaction(commit=True) as cursor:
            self._insert_tracking(cursor, tracking)
            values = (event.account, event.currency, int(event.amount * 100), event.reference)
            cursor.execute(workload.add_movement(self.table, "%s"), values, prepare=True)


class Accounts(Projection[AccountView]):  # type: ignore[misc]
    def process_event(self, domain_event: Any, tracking: Any) -> None:
        self.view.add(domain_event, tracking)


def measure(environment: dict[str, str], name: str, head: int) -> float:
    """Return how many events per second its runner takes into a new read model."""
    projection = type(name, (Accounts,), {"name": name})
    wanted, start = min(head, PROJECTED), time.perf_counter()
    with ProjectionRunner(
        application_class=Application, projection_class=projection, view_class=AccountView, env=environment
    ) as runner:
        while not runner.view.has_tracking_id(Application.name, wanted):
            time.sleep(0.01)  # its own `wait` sleeps for longer and longer
        return wanted / (time.perf_counter() - start)
