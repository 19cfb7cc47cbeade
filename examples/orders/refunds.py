"""From a payment that an order has no use for back to the customer: a process that asks the bank until it pays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal

from orders.events import RefundOwed
from orders.order import Order
from orders.partners import Bank
from twofold import Command, Repository
from twofold.processes import Done, Process, Refusal, after, done, due, evolve, refused, starts

PAUSE = timedelta(days=1)
"""How long a refund waits that the bank refused, before it is asked again."""


@dataclass(frozen=True, kw_only=True)
class RefundPayment(Command[None]):
    """Let the bank pay back what an order owes."""

    order_id: str
    payment_id: str
    amount: Decimal


@dataclass(frozen=True)
class Refund:
    """What the process knows of money that is owed."""

    owed: RefundOwed | None = None
    is_paid: bool = False


class ReturnPayment(Process[Refund]):
    """Pays back what is owed: asks the bank, each day again if it refuses."""

    name, initial = "return_payment", Refund()

    def __init__(self, pause: timedelta = PAUSE) -> None:
        self._pause = pause

    @starts(RefundOwed, key=lambda event: f"{event.order_id}/{event.payment_id}")
    def owed(self, state: Refund, event: RefundOwed) -> Iterator[object]:
        """Ask the bank."""
        yield from self.ask(state)

    @refused(RefundPayment)
    def wait(self, state: Refund, refusal: Refusal[RefundPayment]) -> Iterator[object]:
        """Wait for a better day."""
        yield after(self._pause, "again")

    @due("again")
    def ask(self, state: Refund) -> Iterator[object]:
        """Ask the bank (again)."""
        if owed := state.owed:
            yield RefundPayment(order_id=owed.order_id, payment_id=owed.payment_id, amount=owed.amount)

    @evolve(RefundOwed)
    def is_owed(self, state: Refund, event: RefundOwed) -> Refund:
        """Remember how much."""
        return Refund(event)

    @evolve(done(RefundPayment))
    def was_paid(self, state: Refund, outcome: Done[RefundPayment]) -> Refund:
        """Remember that it is over."""
        return replace(state, is_paid=True)

    def is_completed(self, state: Refund) -> bool:
        """Return whether the customer has the money."""
        return state.is_paid


@dataclass(frozen=True)
class Refunds:
    """Handles what is asked of the bank."""

    orders: Repository[Order]
    bank: Bank

    async def pay(self, command: RefundPayment) -> None:
        """Let the bank pay back, and note it.

        A command may run more than once before it is stored, as after a crash. Its id is the same each time: with that
        as the key, the bank pays once.

        Raises:
            RefundRefusedError, BankAwayError: see there.
        """
        await self.bank.refund(command.payment_id, command.amount, key=command.command_id)
        order = await self.orders.load(command.order_id)
        order.note_refund(command.payment_id, command.timestamp)
        await self.orders.save(order)
