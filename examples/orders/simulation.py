"""A simulated shop: customers who order, change their minds and wait for parcels, so that there is data to look at."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from uuid import NAMESPACE_OID, uuid5

from orders.app import Shop
from orders.commands import AddItem, CancelOrder, CreateOrder, ReturnItem, ShipOrder, TakePayment
from orders.errors import OrderError
from orders.fulfilment import Fulfilling
from orders.items import Address, OrderItem, total_of
from orders.partners import BADLY, Bank, Carrier, Partners
from orders.stock import DeliverStock
from twofold import Command
from twofold.errors import ConflictError, StorageError

log = logging.getLogger(__name__)

PRODUCTS = (
    ("TEA-001", "Darjeeling first flush, 100 g", "12.90"),
    ("TEA-002", "Earl Grey with blue cornflower, 250 g", "9.50"),
    ("TEA-003", "Sencha from Uji, 100 g", "17.40"),
    ("POT-001", "Cast iron teapot, 0.8 l", "49.00"),
    ("POT-002", "Glass teapot with strainer, 1.2 l", "28.50"),
    ("CUP-001", "Stoneware cup, ocean blue", "8.75"),
    ("CUP-002", "Porcelain cup with saucer", "14.20"),
    ("CUP-003", "Set of six espresso cups", "32.00"),
    ("COF-001", "Espresso roast, whole beans, 1 kg", "21.90"),
    ("COF-002", "Filter roast from Sidamo, 500 g", "15.60"),
    ("MIL-001", "Hand mill with ceramic burrs", "64.00"),
    ("KET-001", "Gooseneck kettle, brushed steel", "79.00"),
    ("SPO-001", "Measuring spoon of walnut", "6.30"),
    ("JAR-001", "Airtight storage jar, 1 l", "11.80"),
    ("BIS-001", "Shortbread with sea salt, 200 g", "5.40"),
    ("BIS-002", "Almond biscotti, 250 g", "6.95"),
    ("HON-001", "Acacia honey, 500 g", "8.20"),
    ("TOW-001", "Linen tea towel, indigo stripes", "13.50"),
)
CUSTOMERS = (
    ("ada.lovelace", Address(street="12 St James's Square", city="London", postal_code="SW1Y 4JH", country="UK")),
    ("alan.turing", Address(street="43 Adlington Road", city="Wilmslow", postal_code="SK9 2BJ", country="UK")),
    ("grace.hopper", Address(street="1400 Wilson Boulevard", city="Arlington", postal_code="22209", country="USA")),
    ("katherine.johnson", Address(street="30 Lang Street", city="Hampton", postal_code="23669", country="USA")),
    ("emmy.noether", Address(street="Hauptstraße 23", city="Erlangen", postal_code="91054", country="Germany")),
    ("konrad.zuse", Address(street="Im Haselgrund 21", city="Hünfeld", postal_code="36088", country="Germany")),
    ("sophie.germain", Address(street="13 rue de Savoie", city="Paris", postal_code="75006", country="France")),
    ("blaise.pascal", Address(street="8 rue des Gras", city="Clermont-Ferrand", postal_code="63000", country="France")),
    ("edsger.dijkstra", Address(street="Plataanstraat 5", city="Nuenen", postal_code="5671", country="Netherlands")),
    ("maria.agnesi", Address(street="Via Pantano 1", city="Milano", postal_code="20122", country="Italy")),
    ("niklaus.wirth", Address(street="Rämistrasse 101", city="Zürich", postal_code="8092", country="Switzerland")),
    ("tove.jansson", Address(street="Ullanlinnankatu 1", city="Helsinki", postal_code="00130", country="Finland")),
)
REASONS = ("ordered by mistake", "found it cheaper", "takes too long", "changed my mind")


PIECES = 10
"""Pieces of a product in a delivery, at most, and of each at the beginning; so few that some products run out."""
PAY = 0.85
"""The share of customers who pay; the orders of the others time out."""


def simulated_fulfilling() -> Fulfilling:
    """Return who sees simulated orders through to their end: hastily, with partners who behave badly."""
    partners = Partners(Bank(BADLY), Carrier(avoids=frozenset({"Finland"})))
    return Fulfilling(partners, patience=timedelta(seconds=15), pause=timedelta(seconds=5))


@dataclass(frozen=True)
class Simulation:
    """Traffic for a shop. The past is the same for one seed and is made once, whatever is restarted; the rest is new.

    Args:
        shop: where the orders go.
        seed: of all chance.
        past: number of orders that are there at once.
        per_second: how many things happen in a second from then on.
        bank: with which customers pay, if orders are seen through to their end.
    """

    shop: Shop
    seed: int = 1
    past: int = 300
    per_second: float = 1.0
    bank: Bank | None = None

    async def run(self) -> None:
        """Make the past, then let things happen until cancelled. A database that fails is tried again."""
        await asyncio.gather(*(self._live_through(number) for number in range(self.past)))
        if self.bank:
            await self._fill_shelves()
        chance = Random(time.time_ns())  # noqa: S311 - it is play
        last: list[str] = []
        async with asyncio.TaskGroup() as payments:
            while True:
                await asyncio.sleep(1 / self.per_second)
                command = self._next(chance, last)
                is_done = await self._try(command, last)
                if is_done and self.bank and isinstance(command, CreateOrder) and chance.random() < PAY:
                    payments.create_task(self._pay(self.bank, last[-1], total_of(command.items)))

    async def _fill_shelves(self) -> None:
        """Deliver some pieces of each product, once, whatever is restarted."""
        for product, *_ in PRODUCTS:
            own = uuid5(NAMESPACE_OID, f"delivered/{self.seed}/{product}")
            await self._try(DeliverStock(command_id=own, product_id=product, quantity=PIECES), [])

    async def _pay(self, bank: Bank, order_id: str, amount: Decimal) -> None:
        async def tell(payment: TakePayment) -> None:
            await self._try(payment, [])

        await bank.pay(order_id, amount, tell)

    async def _live_through(self, number: int) -> None:
        """Carry out all commands about one order of the past, in their order."""
        ids: list[str] = []
        for command in self._past_of(number):
            await self._try(command, ids)

    def _past_of(self, number: int) -> Iterator[Command]:
        chance = Random(f"{self.seed}/{number}")  # noqa: S311 - it is play
        own = uuid5(NAMESPACE_OID, f"simulated/{self.seed}/{number}")
        at = datetime.now(UTC) - timedelta(days=90 * (1 - number / self.past), minutes=chance.randrange(1, 1440))
        create = _create(chance)
        order_id, item = str(own), create.items[0]
        yield CreateOrder(
            command_id=own,
            timestamp=at,
            customer_id=create.customer_id,
            items=create.items,
            shipping_address=create.shipping_address,
        )
        fate, step = chance.random(), uuid5(own, "fate")
        if fate < 0.1:
            at += timedelta(minutes=chance.randrange(5, 300))
            yield CancelOrder(command_id=step, timestamp=at, order_id=order_id, reason=chance.choice(REASONS))
        elif fate < 0.85:
            shipped = at + timedelta(hours=chance.randrange(1, 20))
            yield ShipOrder(command_id=step, timestamp=shipped, order_id=order_id)
            if fate < 0.15:
                back, piece = shipped + timedelta(hours=2), OrderItem(item.product_id, 1, item.price, item.description)
                yield ReturnItem(
                    command_id=uuid5(own, "return"), timestamp=back, customer_id=create.customer_id, item=piece
                )

    def _next(self, chance: Random, last: list[str]) -> Command:
        kind = chance.random()
        if not last or kind < 0.5:
            return _create(chance)
        order_id = chance.choice(last[-20:])
        if kind < 0.7:
            return AddItem(order_id=order_id, item=_item(chance))
        if kind < 0.95:
            if self.bank:  # what is paid is shipped by itself
                return DeliverStock(product_id=chance.choice(PRODUCTS)[0], quantity=chance.randint(1, PIECES))
            return ShipOrder(order_id=order_id)
        return CancelOrder(order_id=order_id, reason=chance.choice(REASONS))

    async def _try(self, command: Command, last: list[str]) -> bool:
        """Carry out a command; note the order that it makes, and return whether it was carried out."""
        try:
            receipt = await self.shop.execute(command)
            if isinstance(command, CreateOrder):
                last.append(receipt.value)
        except OrderError:
            return False  # a customer who is told "no", as it happens
        except (StorageError, ConflictError) as error:
            log.warning("the simulated shop could not %s: %s", type(command).__name__, error)
            return False
        return True


def _create(chance: Random) -> CreateOrder:
    customer, address = chance.choice(CUSTOMERS)
    items = tuple(_item(chance) for _ in range(chance.randint(1, 4)))
    return CreateOrder(customer_id=customer, items=items, shipping_address=address)


def _item(chance: Random) -> OrderItem:
    product, description, price = chance.choice(PRODUCTS)
    return OrderItem(product, chance.choice((1, 1, 1, 2, 2, 3, 6)), Decimal(price), description)
