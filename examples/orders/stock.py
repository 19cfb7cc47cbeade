"""The warehouse: what is in it belongs to one order at most."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Annotated

from orders.errors import InvalidOrderError, OrderError
from orders.events import OrderId
from orders.items import OrderItem
from twofold import (
    Aggregate,
    Application,
    Command,
    DecisionModel,
    Event,
    EventQuery,
    EventStore,
    Key,
    Projection,
    Query,
    ReadModel,
    Repository,
    Tag,
    on,
)

ProductId = Annotated[str, Tag("product")]


@dataclass(frozen=True, kw_only=True)
class StockDelivered(Event):
    """Pieces of a product came into the warehouse."""

    product_id: ProductId
    quantity: int


@dataclass(frozen=True, kw_only=True)
class StockReserved(Event):
    """Pieces of a product were put aside for an order."""

    order_id: OrderId
    product_id: ProductId
    quantity: int


@dataclass(frozen=True, kw_only=True)
class StockReleased(Event):
    """Pieces that were put aside for an order are anybody's again."""

    order_id: OrderId
    product_id: ProductId
    quantity: int


@dataclass(frozen=True, kw_only=True)
class DeliverStock(Command[None]):
    """Bring pieces of a product into the warehouse."""

    product_id: str
    quantity: int


@dataclass(frozen=True, kw_only=True)
class ReserveStock(Command[None]):
    """Put the goods of an order aside."""

    order_id: str
    items: tuple[OrderItem, ...]


@dataclass(frozen=True, kw_only=True)
class ReleaseStock(Command[None]):
    """Give up what was put aside for an order."""

    order_id: str


class OutOfStockError(OrderError):
    """The warehouse has fewer pieces than an order needs."""

    def __init__(self, product_id: str) -> None:
        super().__init__(f"too few pieces of {product_id} are in stock")


class DeliveryNotPositiveError(InvalidOrderError):
    """A delivery has at least one piece."""

    def __init__(self, quantity: int) -> None:
        super().__init__(f"the quantity of a delivery must be positive, not {quantity}", "quantity")


class StockItem(Aggregate):
    """The pieces of one product. Its id is the product's."""

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.available = 0

    def deliver(self, quantity: int) -> None:
        """Take pieces in.

        Raises:
            DeliveryNotPositiveError: see there.
        """
        if quantity <= 0:
            raise DeliveryNotPositiveError(quantity)
        self.record(StockDelivered(product_id=self.id, quantity=quantity))

    def reserve(self, order_id: str, quantity: int) -> None:
        """Put pieces aside for an order.

        Raises:
            OutOfStockError: see there.
        """
        if quantity > self.available:
            raise OutOfStockError(self.id)
        self.record(StockReserved(order_id=order_id, product_id=self.id, quantity=quantity))

    def release(self, order_id: str, quantity: int) -> None:
        """Give pieces up that were put aside for an order."""
        self.record(StockReleased(order_id=order_id, product_id=self.id, quantity=quantity))

    @on(StockDelivered, StockReleased)
    def _more(self, event: StockDelivered | StockReleased) -> None:
        self.available += event.quantity

    @on(StockReserved)
    def _less(self, event: StockReserved) -> None:
        self.available -= event.quantity


@dataclass(frozen=True)
class Warehouse:
    """Handles what is asked of the stock. An order gets all of its goods, or none of them."""

    store: EventStore
    stock: Repository[StockItem]

    async def deliver(self, command: DeliverStock) -> None:
        """See `StockItem.deliver`."""
        item = await self._item(command.product_id)
        item.deliver(command.quantity)
        await self.stock.save(item)

    async def reserve(self, command: ReserveStock) -> None:
        """See `StockItem.reserve`."""
        wanted: Counter[str] = Counter()
        for each in command.items:
            wanted[each.product_id] += each.quantity
        for product_id, quantity in wanted.items():
            item = await self._item(product_id)
            item.reserve(command.order_id, quantity)
            await self.stock.save(item)

    async def release(self, command: ReleaseStock) -> None:
        """Release whatever is still put aside for the order."""
        for product_id, quantity in (await self.store.decide(_put_aside_for(command.order_id))).state:
            if quantity:
                item = await self._item(product_id)
                item.release(command.order_id, quantity)
                await self.stock.save(item)

    async def _item(self, product_id: str) -> StockItem:
        return await self.stock.find(product_id) or StockItem(product_id)


def _put_aside_for(order_id: str) -> DecisionModel[tuple[tuple[str, int], ...]]:
    def evolve(
        put_aside: tuple[tuple[str, int], ...], event: StockReserved | StockReleased
    ) -> tuple[tuple[str, int], ...]:
        pieces = event.quantity if isinstance(event, StockReserved) else -event.quantity
        there = dict(put_aside)
        return tuple({**there, event.product_id: there.get(event.product_id, 0) + pieces}.items())

    query = EventQuery.of(StockReserved, StockReleased, tags=[f"order:{order_id}"])
    return DecisionModel(query=query, initial_state=(), evolve=evolve)


@dataclass(frozen=True, kw_only=True)
class StockLevel:
    """What queries show of a product in the warehouse."""

    product_id: Annotated[str, Key()]
    available: int = 0
    reserved: int = 0
    """Pieces that were put aside for orders, also for those that were shipped since."""


class StockLevels(Projection[StockLevel]):
    """Keeps a row for each product."""

    name = "stock_levels"

    @on(StockDelivered)
    def delivered(self, row: StockLevel | None, event: StockDelivered) -> StockLevel:
        """Count more."""
        row = row or StockLevel(product_id=event.product_id)
        return replace(row, available=row.available + event.quantity)

    @on(StockReserved)
    def reserved(self, row: StockLevel, event: StockReserved) -> StockLevel:
        """Put aside."""
        return _moved(row, event.quantity)

    @on(StockReleased)
    def released(self, row: StockLevel, event: StockReleased) -> StockLevel:
        """Put back."""
        return _moved(row, -event.quantity)


def _moved(row: StockLevel, quantity: int) -> StockLevel:
    return replace(row, available=row.available - quantity, reserved=row.reserved + quantity)


@dataclass(frozen=True)
class GetStock(Query[StockLevel | None]):
    """How many pieces of a product there are, if it was ever delivered."""

    product_id: str


def add_stock(app: Application) -> None:
    """Let the application keep a warehouse."""
    warehouse = Warehouse(app.store, app.repository(StockItem))
    app.commands.register(DeliverStock, warehouse.deliver)
    app.commands.register(ReserveStock, warehouse.reserve)
    app.commands.register(ReleaseStock, warehouse.release)
    levels: ReadModel[StockLevel] = app.projections.add(StockLevels())

    async def get(query: GetStock) -> StockLevel | None:
        return await levels.get(query.product_id)

    app.queries.register(GetStock, get)
