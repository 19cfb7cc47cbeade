"""Invoice numbers without gaps: each invoice has the number after the last one's.

After <https://dcb.events/examples/invoice-number/>. The decision needs only the last event, so the handler reads
that one instead of folding all, and states the condition itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from twofold import AppendCondition, Application, Command, Event, EventQuery


@dataclass(frozen=True, kw_only=True)
class InvoiceCreated(Event):
    """A customer owes money."""

    number: int
    customer: str
    amount: Decimal


@dataclass(frozen=True, kw_only=True)
class CreateInvoice(Command[int]):
    """Write an invoice; returns its number."""

    customer: str
    amount: Decimal


def wire(app: Application) -> None:
    """Register the event and the handler."""
    app.store.events.register(InvoiceCreated)

    async def create(command: CreateInvoice) -> int:
        invoices, last, after = EventQuery.of(InvoiceCreated), 0, 0
        async for recorded in app.store.read(invoices, backwards=True, limit=1):
            last, after = recorded.event.number, recorded.position
        invoice = InvoiceCreated(number=last + 1, customer=command.customer, amount=command.amount)
        await app.store.append([invoice], condition=AppendCondition(invoices, after))
        return invoice.number

    app.commands.register(CreateInvoice, create)
