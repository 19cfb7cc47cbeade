"""What a type checker knows about queries, commands and read models; never run, checked by `make check`."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, assert_type

from twofold import (
    Aggregate,
    Answer,
    Application,
    Command,
    CommandHandler,
    ConsistentQueryHandler,
    Event,
    Filter,
    InvalidFilterError,
    Key,
    Options,
    PaginatedResult,
    Projection,
    Query,
    QueryHandler,
    QueryOptions,
    ReadModel,
    ReadPolicy,
    Receipt,
    Repository,
    Session,
    StaleReadError,
    Total,
    TwofoldError,
    WhenLate,
    WriteToken,
    on,
    session,
    watch,
)


@dataclass(frozen=True)
class OrderView:
    order_id: Annotated[str, Key()]
    total: Decimal


@dataclass(frozen=True)
class GetOrderById(Query[OrderView | None]):
    order_id: str


@dataclass(frozen=True)
class SearchOrders(Query[PaginatedResult[OrderView]]):
    text: str


@dataclass(frozen=True, kw_only=True)
class OrderCreated(Event):
    order_id: str


@dataclass(frozen=True, kw_only=True)
class CreateOrder(Command):
    order_id: str


class Order(Aggregate):
    @on(OrderCreated)
    def created(self, event: OrderCreated) -> None: ...


class OrderViews(Projection[OrderView]):
    name = "order_views"

    @on(OrderCreated)
    def created(self, event: OrderCreated) -> OrderView:
        return OrderView(event.order_id, Decimal(0))


class GetOrderByIdHandler(QueryHandler[GetOrderById, OrderView | None]):
    def __init__(self, views: ReadModel[OrderView]) -> None:
        self._views = views

    async def handle(self, query: GetOrderById) -> OrderView | None:
        return await self._views.get(query.order_id)


class CreateOrderHandler(CommandHandler[CreateOrder]):
    def __init__(self, orders: Repository[Order]) -> None:
        self._orders = orders

    async def handle(self, command: CreateOrder) -> str:
        order = await self._orders.load(command.order_id)
        assert_type(order, Order)
        assert_type(await self._orders.find("o1"), Order | None)
        return order.id


async def get_wrong_type(query: GetOrderById) -> int:
    return 1


async def check(app: Application) -> None:
    views = app.projections.add(OrderViews())
    assert_type(views, ReadModel[OrderView])
    assert_type(await views.get("o1"), OrderView | None)
    assert_type(await views.page(), PaginatedResult[OrderView])

    app.commands.register(CreateOrder, CreateOrderHandler(app.repository(Order)))
    app.queries.register(GetOrderById, GetOrderByIdHandler(views))
    app.queries.register(GetOrderById, get_wrong_type)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    receipt = await app.commands.execute(CreateOrder(order_id="o1"))
    assert_type(receipt, Receipt[Any])
    assert_type(await app.queries.dispatch(GetOrderById("o1"), after=receipt), OrderView | None)
    answer = await app.queries.ask(GetOrderById("o1"), after=receipt, timeout=1.0)
    assert_type(answer, Answer[OrderView | None])
    consistent = ConsistentQueryHandler(app.queries, app.store)
    assert_type(await consistent.query_after_command(GetOrderById("o1"), 1, "Order-o1"), Answer[OrderView | None])
    async for change in watch(app.queries, GetOrderById("o1")):
        assert_type(change, Answer[OrderView | None] | None)
    await check_consistency(app, receipt, answer)
    page = await app.queries.dispatch(SearchOrders("lamp"))
    assert_type(page, PaginatedResult[OrderView])
    assert_type(page.items[0].total, Decimal)
    await app.queries.dispatch(CreateOrder(order_id="o1"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class PatientOrderViews(OrderViews):
    policy = ReadPolicy(1.0, WhenLate.OVERLAY)


async def check_consistency(app: Application, receipt: Receipt[Any], answer: Answer[Any]) -> None:
    await app.projections.wait(receipt, 1.0)
    await app.projections.wait(receipt.position, 1.0, ["order_views"])
    with session(receipt, wait=1.0) as own:
        assert_type(own, Session)
        assert_type(own.written, WriteToken)
        await app.projections.wait(own.written, 1.0)
        await app.queries.dispatch(GetOrderById("o1"), after=own.written)
    await app.queries.ask(GetOrderById("o1"), after=7, policy=ReadPolicy(1.0, WhenLate.ANSWER_STALE))
    await app.queries.ask(GetOrderById("o1"), after="7")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await app.projections.wait("7", 1.0)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(answer.position, int)
    views = app.projections.add(PatientOrderViews())
    dear: Filter = ("total", ">", 100)
    wrong: Filter = ("total", "like", 100)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    page = await views.page(where=[dear, wrong, ("order_id", "in", ["o1", "o2"])])
    assert_type(page.position, int)
    for total in await views.totals(by=["order_id"], of="total", where=[dear]):
        assert_type(total, Total)
        assert_type(total.count, int)
    try:
        await views.get("o1")
    except StaleReadError as late:
        assert_type(late.position, int)
        assert_type(late.behind, dict[str, int])
    except (InvalidFilterError, TwofoldError):
        raise
    Application("sqlite:///orders.db", options=Options(queries=QueryOptions(lookup=0.5)))
    async for _ in watch(app.queries, GetOrderById("o1"), after=answer.position):
        break
