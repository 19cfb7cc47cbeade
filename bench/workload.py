"""What every contender stores: an event of about 215 bytes with about 92 bytes of metadata. Needs nothing installed."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

STREAM_TYPE = "Basket"
BULK = 1000
"""Events per append of the case `bulk`, and of the long stream that is loaded."""
SHORT = 10
"""Events per stream of the log that is read."""
LONG = 10_000
"""Events of the stream on which a command is measured beside one of `SHORT`."""
TOUCHES = 15
"""Events per account of the log that is projected."""
PROJECTED = 5000
"""Events that the floor takes into its read model at once."""
BY_SQL = 15_000
SLOW = 0.0001
"""Seconds that a projection whose work is in Python computes for each event."""

METADATA = {"correlation_id": "019a0c2e-5f1b-7c3a-9d44-0b6b5a1c7e21", "user": "clerk-0042@shop.example"}


@dataclass(frozen=True)
class Case:
    """Concurrent writers, and events in each of their appends."""

    name: str
    writers: int
    batch: int


CASES = (
    Case("1x1", 1, 1),
    Case("1x3", 1, 3),
    Case("16x1", 16, 1),
    Case("64x1", 64, 1),
    Case("64x3", 64, 3),
    Case("bulk", 1, BULK),
)


def fields(number: int) -> dict[str, Any]:
    """Return the values of one event."""
    return {
        "basket_id": f"basket-{number:010d}",
        "product_id": f"85{number % 200:03d}A",
        "description": "WHITE HANGING HEART T-LIGHT HOLDER",
        "quantity": number % 12 + 1,
        "unit_price": "2.55",
        "currency": "GBP",
        "country": "United Kingdom",
        "warehouse": "north-2",
        "campaign": "winter",
    }


def tags(number: int) -> tuple[str, str]:
    """Return the two tags of one event: of a basket of its own, and of a product that many have."""
    values = fields(number)
    return f"basket:{values['basket_id']}", f"product:{values['product_id']}"


def streams(events: int) -> list[tuple[str, int]]:
    """Return the streams of a log to be read: one of `BULK` events, all others of `SHORT`."""
    short = (events - BULK) // SHORT
    return [("long", BULK), *((f"short-{n}", SHORT) for n in range(short))]


def accounts(events: int) -> list[str]:
    """Return the account of each event of a log to be projected, in no order that would help."""
    return [f"account-{n:08d}" for n in Random(7).choices(range(max(events // TOUCHES, 1)), k=events)]


def movement(account: str) -> dict[str, Any]:
    """Return the values of one event about an account, about 250 bytes."""
    return {
        "account": account,
        "amount": "12.55",
        "currency": "GBP",
        "kind": "card payment",
        "reference": "019a0c2e-5f1b-7c3a-9d44-0b6b5a1c7e21",
        "merchant": "White Hanging Heart Limited, London",
        "country": "United Kingdom",
        "terminal": "north-2",
        "booked_by": "clerk-0042@shop.example",
    }


def projected(head: int, kind: str) -> int:
    """Return how many events, the last of the log, are projected: fewer, where each takes long."""
    return min(head, BY_SQL) if kind in ("sql", "slow") else head


def create_accounts(table: str) -> str:
    """Return the statement that makes a read model of accounts, for those who write theirs by SQL."""
    return (
        f"CREATE TABLE {table} (account text PRIMARY KEY, currency text NOT NULL, cents bigint NOT NULL,"
        f" movements bigint NOT NULL, last_reference text NOT NULL)"
    )


def add_movement(table: str, mark: str) -> str:
    """Return the statement that takes one movement into it: account, currency, cents and reference."""
    return (
        f"INSERT INTO {table} AS a VALUES ({mark}, {mark}, {mark}, 1, {mark}) ON CONFLICT (account) DO UPDATE"
        f" SET cents = a.cents + excluded.cents, movements = a.movements + 1, last_reference = excluded.last_reference"
    )
