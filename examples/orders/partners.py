"""Whom the shop works with: a bank and a carrier, simulated. They answer late, refuse, and tell things twice.

They stand for services behind a network. What is asked of them may have taken effect although no answer came, so each
request carries a key, the id of the command, and the bank does what has one key once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID, uuid4

from orders.commands import TakePayment
from orders.errors import OrderError
from orders.items import Address


class BankAwayError(ConnectionError):
    """The bank did not answer; what was asked of it may have been done, or not. The process tries again."""


class RefundRefusedError(OrderError):
    """The bank does not pay back now."""


class UndeliverableError(OrderError):
    """The carrier does not go there."""

    def __init__(self, address: Address) -> None:
        super().__init__(f"no carrier goes to {address.country}")


@dataclass(frozen=True, kw_only=True)
class Manners:
    """How badly partners behave: the shares of requests for which they do these things."""

    away: float = 0.0
    """The bank does what it is asked for, and its answer is lost."""
    refuses: float = 0.0
    twice: float = 0.0
    """It tells of a payment twice."""
    double: float = 0.0
    """The customer pays twice."""
    seconds: float = 0.0
    """The most that it takes the bank to tell of a payment."""


WELL = Manners()
BADLY = Manners(away=0.2, refuses=0.1, twice=0.2, double=0.1, seconds=10.0)


@dataclass
class Bank:
    """Takes payments, tells the shop of them, and pays back.

    Args:
        manners: how it behaves.
        chance: of what it does.
    """

    manners: Manners = WELL
    chance: Random = field(default_factory=Random)
    paid_back: dict[UUID, tuple[str, Decimal]] = field(default_factory=dict)
    """What it paid back, by the key of the request: the payment, and how much."""

    async def pay(self, order_id: str, amount: Decimal, tell: Callable[[TakePayment], Awaitable[Any]]) -> None:
        """Let a customer pay for an order, and tell the shop, sooner or later."""
        for _ in range(2 if self._happens(self.manners.double) else 1):
            payment_id = str(uuid4())
            for _ in range(2 if self._happens(self.manners.twice) else 1):
                await asyncio.sleep(self.chance.uniform(0, self.manners.seconds))
                await tell(TakePayment(order_id=order_id, payment_id=payment_id, amount=amount))

    async def refund(self, payment_id: str, amount: Decimal, key: UUID) -> None:
        """Pay back, once for each key.

        Raises:
            RefundRefusedError: not now; ask again later, with another key.
            BankAwayError: it is not known whether it did; ask again with the same key.
        """
        if key not in self.paid_back and self._happens(self.manners.refuses):
            raise RefundRefusedError(f"the bank does not pay {payment_id} back now")
        self.paid_back[key] = payment_id, amount
        if self._happens(self.manners.away):
            raise BankAwayError("the bank did not answer")

    def _happens(self, share: float) -> bool:
        return self.chance.random() < share


@dataclass(frozen=True)
class Carrier:
    """Takes parcels to most countries."""

    avoids: frozenset[str] = frozenset()

    async def reaches(self, address: Address) -> bool:
        """Return whether it goes there."""
        return address.country not in self.avoids


@dataclass(frozen=True)
class Partners:
    """Whom the shop works with."""

    bank: Bank = field(default_factory=Bank)
    carrier: Carrier = field(default_factory=Carrier)
