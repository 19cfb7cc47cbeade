"""Replays a file of real orders as commands.

- An invoice becomes an order with the invoice's number, shipped at once: an invoice is written when the goods leave.
- Each line of a credit note (`C…`) returns goods to the customer's newest earlier order that holds that number of that
  product at that price and has not got them back yet. Where there is none, the line is rejected.
- A line that breaks a rule is rejected by the domain; the rest of its invoice is ordered without it.
- An invoice that another file has brought already is rejected as a whole: an order id is given once.

The ids of the commands follow from the file's content, so that a second run changes nothing, and a run that was cut
short is completed by the next one.
"""

from __future__ import annotations

import asyncio
import csv
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from uuid import uuid5

from orders.app import Shop
from orders.commands import CreateOrder, ReturnItem, ShipOrder
from orders.errors import InvalidOrderError, OrderError
from orders.items import Address
from orders.retail import Invoice, Line, Rejection, RetailFile
from twofold import Command
from twofold.errors import InvalidEventError, LimitExceededError

T = TypeVar("T")

IN_FLIGHT = 64
"""Commands that wait at one moment share a commit, so that many together are fast."""
REFUSALS = (OrderError, InvalidEventError, LimitExceededError)
"""What speaks against a line, and not against the import."""


@dataclass
class Outcome:
    """What became of the lines of a file: each is either in `accepted` or in `rejected`."""

    orders: int = 0
    returns: int = 0
    accepted: int = 0
    changes: int = 0
    """Commands that took effect now, and had not in an earlier run."""
    rejected: list[Rejection] = field(default_factory=list)

    @property
    def reasons(self) -> Counter[str]:
        """How many lines were rejected, by reason."""
        return Counter(rejection.reason for rejection in self.rejected)

    def reject(self, lines: Iterable[Line], error: Exception) -> None:
        """Note that an error speaks against lines."""
        reason = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__.removesuffix("Error")).lower()
        self.rejected += [Rejection(line.number, line.invoice, line.product_id, reason, str(error)) for line in lines]


class RetailImport:
    """One run over one file.

    Args:
        shop: where the orders go.
        file: where they come from.
        progress: called with the number of lines that are done.
    """

    def __init__(self, shop: Shop, file: RetailFile, progress: Callable[[int], None]) -> None:
        self._shop = shop
        self._file = file
        self._progress = progress
        self._outcome = Outcome(rejected=list(file.rejected))

    async def run(self) -> Outcome:
        """Import all orders, then all returns.

        Raises:
            StorageError: in an `ExceptionGroup`; the database failed, run the import again.
        """
        self._progress(len(self._file.rejected))
        await _all(self._order, [each for each in self._file.invoices if not each.is_credit_note])
        by_customer: dict[str, list[Line]] = {}
        for invoice in self._file.invoices:
            if invoice.is_credit_note:
                by_customer.setdefault(invoice.lines[0].customer_id, []).extend(invoice.lines)
        await _all(self._returns, by_customer.values())
        self._outcome.rejected.sort()
        return self._outcome

    async def _order(self, invoice: Invoice) -> None:
        """Create and ship an order, without the lines that the domain refuses one by one."""
        lines = list(invoice.lines)
        while lines:
            try:
                await self._execute(self._create(invoice, lines))
                at = min(line.at for line in lines)
                command_id = uuid5(self._file.id, f"{invoice.number}/ship")
                await self._execute(ShipOrder(command_id=command_id, timestamp=at, order_id=invoice.number))
            except InvalidOrderError as error:
                refused = lines[:] if error.place is None else [lines[error.place]]
                self._outcome.reject(refused, error)
                lines = [line for line in lines if line not in refused]
            except REFUSALS as error:
                self._outcome.reject(lines, error)
                lines = []
            else:
                self._outcome.orders += 1
                self._outcome.accepted += len(lines)
                break
        self._progress(len(invoice.lines))

    def _create(self, invoice: Invoice, lines: list[Line]) -> CreateOrder:
        numbers = ",".join(str(line.number) for line in lines)
        return CreateOrder(
            command_id=uuid5(self._file.id, f"{invoice.number}/{numbers}"),
            timestamp=min(line.at for line in lines),
            order_id=invoice.number,
            customer_id=lines[0].customer_id,
            items=tuple(line.sold for line in lines),
            shipping_address=Address(street="", city="", postal_code="", country=lines[0].country),
        )

    async def _returns(self, lines: list[Line]) -> None:
        """Return what one customer sent back, in the order of time: two returns may be about the same goods."""
        for line in sorted(lines, key=lambda each: (each.at, each.number)):
            command_id = uuid5(self._file.id, f"{line.invoice}/return/{line.number}")
            try:
                await self._execute(
                    ReturnItem(
                        command_id=command_id, timestamp=line.at, customer_id=line.customer_id, item=line.returned
                    )
                )
            except REFUSALS as error:
                self._outcome.reject([line], error)
            else:
                self._outcome.returns += 1
                self._outcome.accepted += 1
            self._progress(1)

    async def _execute(self, command: Command) -> None:
        receipt = await self._shop.execute(command)
        self._outcome.changes += not receipt.repeated


def write_report(path: Path, rejected: Iterable[Rejection]) -> None:
    """Write the rejected lines to a CSV file.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("line", "invoice", "product", "reason", "detail"))
        writer.writerows(rejected)


async def _all(work: Callable[[T], Awaitable[None]], items: Iterable[T]) -> None:
    """Do the work for all items, a limited number at a time."""
    queue = iter(items)

    async def take() -> None:
        for item in queue:
            await work(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(IN_FLIGHT):
            group.create_task(take())
