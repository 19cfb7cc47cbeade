"""What one can ask of the shop, and how it is carried out: load, change, save.

A command's `timestamp` is the time of business: when it was given, or, for old data, when it had been given.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from orders.errors import NoCustomerError, NothingToReturnError, OrderExistsError
from orders.events import OrderCreated
from orders.items import Address, OrderItem
from orders.order import Order, checked_item
from twofold import Command, CommandHandler, DecisionModel, EventQuery, EventStore, RecordedEvent, Repository


@dataclass(frozen=True, kw_only=True)
class CreateOrder(Command):
    """Order something. Without an `order_id`, the command's own id becomes the order's."""

    customer_id: str
    items: tuple[OrderItem, ...]
    shipping_address: Address
    order_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class AddItem(Command):
    """Order a further item."""

    order_id: str
    item: OrderItem


@dataclass(frozen=True, kw_only=True)
class RemoveItem(Command):
    """Take a product off an order."""

    order_id: str
    product_id: str


@dataclass(frozen=True, kw_only=True)
class TakePayment(Command):
    """Take what the bank says that a customer has paid."""

    order_id: str
    payment_id: str
    amount: Decimal


@dataclass(frozen=True, kw_only=True)
class RemindOfPayment(Command):
    """Remind the customer to pay, unless that is done."""

    order_id: str


@dataclass(frozen=True, kw_only=True)
class ShipOrder(Command):
    """Send the goods."""

    order_id: str


@dataclass(frozen=True, kw_only=True)
class CancelOrder(Command):
    """Give an order up."""

    order_id: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class ReturnItem(Command):
    """Send goods back. The customer need not know which order they came with."""

    customer_id: str
    item: OrderItem


@dataclass(frozen=True)
class CreateOrderHandler(CommandHandler[CreateOrder]):
    """Opens an order and returns its id."""

    orders: Repository[Order]

    async def handle(self, command: CreateOrder) -> str:
        """See `Order.create`."""
        order_id = command.order_id or str(command.command_id)
        if command.order_id and await self.orders.find(order_id):  # no other order can have the command's own id
            raise OrderExistsError(order_id)
        order = Order.create(
            order_id,
            customer_id=command.customer_id,
            items=command.items,
            shipping_address=command.shipping_address,
            at=command.timestamp,
        )
        await self.orders.save(order)
        return order.id


@dataclass(frozen=True)
class AddItemHandler(CommandHandler[AddItem]):
    """Adds to an order and returns its id."""

    orders: Repository[Order]

    async def handle(self, command: AddItem) -> str:
        """See `Order.add_item`."""
        order = await self.orders.load(command.order_id)
        order.add_item(command.item, command.timestamp)
        await self.orders.save(order)
        return order.id


@dataclass(frozen=True)
class RemoveItemHandler(CommandHandler[RemoveItem]):
    """Takes a product off an order and returns the order's id."""

    orders: Repository[Order]

    async def handle(self, command: RemoveItem) -> str:
        """See `Order.remove_item`."""
        order = await self.orders.load(command.order_id)
        order.remove_item(command.product_id, command.timestamp)
        await self.orders.save(order)
        return order.id


@dataclass(frozen=True)
class TakePaymentHandler(CommandHandler[TakePayment]):
    """Takes a payment and returns the order's id."""

    orders: Repository[Order]

    async def handle(self, command: TakePayment) -> str:
        """See `Order.take_payment`."""
        order = await self.orders.load(command.order_id)
        order.take_payment(command.payment_id, command.amount, command.timestamp)
        await self.orders.save(order)
        return order.id


@dataclass(frozen=True)
class RemindOfPaymentHandler(CommandHandler[RemindOfPayment]):
    """Reminds a customer and returns the order's id. It is the time of the reminder that counts, not of its order."""

    orders: Repository[Order]

    async def handle(self, command: RemindOfPayment) -> str:
        """See `Order.remind`."""
        order = await self.orders.load(command.order_id)
        order.remind(datetime.now(UTC))
        await self.orders.save(order)
        return order.id


@dataclass(frozen=True)
class ShipOrderHandler(CommandHandler[ShipOrder]):
    """Ships an order and returns its id."""

    orders: Repository[Order]

    async def handle(self, command: ShipOrder) -> str:
        """See `Order.ship`."""
        order = await self.orders.load(command.order_id)
        order.ship(command.timestamp)
        await self.orders.save(order)
        return order.id


@dataclass(frozen=True)
class CancelOrderHandler(CommandHandler[CancelOrder]):
    """Cancels an order and returns its id."""

    orders: Repository[Order]

    async def handle(self, command: CancelOrder) -> str:
        """See `Order.cancel`."""
        order = await self.orders.load(command.order_id)
        order.cancel(command.reason, command.timestamp)
        await self.orders.save(order)
        return order.id


@dataclass(frozen=True)
class ReturnItemHandler(CommandHandler[ReturnItem]):
    """Finds the order that goods came with, takes them back there, and returns the order's id.

    Which orders a customer had placed by then is a decision model, folded from the events that carry the customer's
    tag. The newest of them that can take the goods back does so.
    """

    store: EventStore
    orders: Repository[Order]

    async def handle(self, command: ReturnItem) -> str:
        """See `Order.take_back`."""
        if not command.customer_id:
            raise NoCustomerError
        item = checked_item(command.item)
        placed = (await self.store.decide(_orders_of(command.customer_id))).state
        for created in sorted(placed, key=lambda each: (each.created_at, each.order_id), reverse=True):
            if created.created_at <= command.timestamp:
                order = await self.orders.load(created.order_id)
                if order.can_take_back(item):
                    order.take_back(item, command.timestamp)
                    await self.orders.save(order)
                    return order.id
        raise NothingToReturnError(item)


def _orders_of(customer_id: str) -> DecisionModel[tuple[OrderCreated, ...]]:
    def evolve(placed: tuple[OrderCreated, ...], recorded: RecordedEvent[OrderCreated]) -> tuple[OrderCreated, ...]:
        return (*placed, recorded.event)

    query = EventQuery.of(OrderCreated, tags=[f"customer:{customer_id}"])
    return DecisionModel(query=query, initial_state=(), evolve=evolve)
