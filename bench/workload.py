"""What every contender stores: an event of about 215 bytes with about 92 bytes of metadata. Needs nothing installed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

STREAM_TYPE = "Basket"
BULK = 1000
"""Events per append of the case `bulk`, and of the long stream that is loaded."""
SHORT = 10
"""Events per stream of the log that is read."""

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
        "product_id": "85123A",
        "description": "WHITE HANGING HEART T-LIGHT HOLDER",
        "quantity": number % 12 + 1,
        "unit_price": "2.55",
        "currency": "GBP",
        "country": "United Kingdom",
        "warehouse": "north-2",
        "campaign": "winter",
    }


def streams(events: int) -> list[tuple[str, int]]:
    """Return the streams of a log to be read: one of `BULK` events, all others of `SHORT`."""
    short = (events - BULK) // SHORT
    return [("long", BULK), *((f"short-{n}", SHORT) for n in range(short))]
