"""The HTTP API: bodies become commands, parameters become queries, and that is all."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date
from enum import Enum
from importlib.resources import files
from typing import Annotated, Any, Literal

from fastapi.responses import HTMLResponse

from fastapi import FastAPI, Path, Query, Response, status
from orders.commands import AddItem, CancelOrder, CreateOrder, RemoveItem, ShipOrder
from orders.errors import InvalidOrderError, ItemNotInOrderError, OrderError
from orders.fulfilment_http import add_fulfilment_routes
from orders.order import Order, OrderStatus
from orders.queries import GetCustomerOrders, GetOrderById, OrderSort, SalesByMonth, SearchOrders
from orders.reports import GetRevenue, RevenueBy
from orders.schemas import (
    Acknowledgement,
    CreateOrderBody,
    FoundOrders,
    Health,
    Id,
    ItemBody,
    Money,
    OrderPage,
    ProjectionHealth,
    RevenueLineOut,
    SalesLineOut,
    Text,
)
from orders.views import ShownOrder
from twofold import Application, ReadPolicy, Receipt, WhenLate
from twofold.dashboard import dashboard
from twofold.errors import AggregateNotFoundError
from twofold.fastapi import (
    CommandId,
    ExactJsonRoute,
    Watch,
    WatchResponse,
    add_browser_protection,
    add_consistency,
    add_docs,
    add_health,
    add_metrics,
    add_problem_details,
    etag,
    problem_responses,
)

COMMANDS: list[str | Enum] = ["commands"]
QUERIES: list[str | Enum] = ["queries"]
REPORTS: list[str | Enum] = ["reports"]
"""The tags of operations, for those who read the API's documentation."""
STATUSES = {InvalidOrderError: 422, ItemNotInOrderError: 404, OrderError: 409}

CHANGES = problem_responses(400, 404, 409, 412, 413, 422, 503)
ANSWERS = problem_responses(400, 422, 503)

OrderId = Annotated[Id, Path(description="The order.")]
CustomerId = Annotated[Id, Path(description="The customer.")]
Page = Annotated[int, Query(ge=1, le=1_000_000, description="From 1.")]
PageSize = Annotated[int, Query(ge=1, le=100)]
BREAKDOWN = "^(month|country|product)(,(month|country|product)){0,2}$"
Cursor = Annotated[
    str | None, Query(max_length=2000, description="The `next_cursor` of the page before, instead of `page`.")
]


NEWEST = ReadPolicy(1.0, WhenLate.ANSWER_STALE)
"""Before an order is said not to be there, its read model gets this long to show what was written."""


def build_api(
    app: Application,
    lifespan: Any = None,
    *,
    reports: bool = False,
    fulfilment: bool = False,
    hosts: Collection[str] = ("*",),
) -> FastAPI:
    """Return the API of an application.

    Args:
        app: the application, which the API starts and stops.
        lifespan: what starts and stops the application instead.
        reports: whether the application can answer `GetRevenue`.
        fulfilment: whether it sees orders through to their end.
        hosts: the names under which the server is reached; see `add_browser_protection`.
    """
    api = FastAPI(
        title="Orders",
        summary="The reference application of Twofold.",
        version="1",
        lifespan=lifespan or app.lifespan,
        docs_url=None,
        redoc_url=None,
    )
    add_problem_details(api, statuses=STATUSES)
    add_consistency(api, app, cookie=True)
    add_browser_protection(api, hosts=hosts)
    api.router.route_class = ExactJsonRoute
    _add_creation(api, app)  # to the API itself: of a router that is included, each request would be matched twice
    _add_queries(api, app)  # before the changes, as each request is compared with the routes before its own
    _add_changes(api, app)
    if reports:
        _add_reports(api, app)
    if fulfilment:
        add_fulfilment_routes(api, app)
    api.add_api_route("/", _home, response_class=HTMLResponse, include_in_schema=False)
    add_docs(api)
    add_health(api, app)
    add_metrics(api, app)
    api.mount("/twofold", dashboard(app))
    return api


async def _home() -> HTMLResponse:
    return HTMLResponse(files("orders").joinpath("home.html").read_text("utf-8"))


def _add_creation(api: FastAPI, app: Application) -> None:
    @api.post(
        "/orders",
        tags=COMMANDS,
        status_code=status.HTTP_201_CREATED,
        responses=problem_responses(400, 409, 413, 422, 503),
    )
    async def create_order(body: CreateOrderBody, command_id: CommandId, response: Response) -> Acknowledgement:
        """Order something. The answer's `Location` is the order."""
        receipt = await app.commands.execute(
            CreateOrder(
                command_id=command_id,
                customer_id=body.customer_id,
                items=tuple(item.value() for item in body.items),
                shipping_address=body.shipping_address.value(),
            )
        )
        response.headers["Location"] = f"/orders/{receipt.value}"
        return _acknowledge(receipt)


def _add_queries(api: FastAPI, app: Application) -> None:
    @api.get("/orders/search", tags=QUERIES, response_model=FoundOrders, responses=ANSWERS)  # before /orders/{order_id}
    async def search_orders(
        q: Annotated[Text, Query(description="Words in customer, items or address; each may be cut short.")] = "",
        status: OrderStatus | None = None,
        min_amount: Money | None = None,
        max_amount: Money | None = None,
        date_from: Annotated[date | None, Query(description="The first day, in UTC.")] = None,
        date_to: Annotated[date | None, Query(description="The last day, in UTC.")] = None,
        sort_by: Annotated[OrderSort | None, Query(description="By default the best match, or the newest.")] = None,
        sort_order: Literal["asc", "desc"] = "desc",
        page: Page = 1,
        page_size: PageSize = 20,
        cursor: Cursor = None,
    ) -> Any:
        """Search all orders."""
        found = await app.queries.dispatch(
            SearchOrders(
                text=q,
                status=status,
                min_amount=min_amount,
                max_amount=max_amount,
                date_from=date_from,
                date_to=date_to,
                sort_by=sort_by,
                descending=sort_order == "desc",
                page=page,
                page_size=page_size,
                cursor=cursor,
            )
        )
        return FoundOrders.of(found)

    @api.get(
        "/orders/{order_id}",
        tags=QUERIES,
        response_model=ShownOrder,
        responses={304: {"description": "Not Modified"}, **problem_responses(400, 404, 422, 503)},
    )
    async def get_order(order_id: OrderId, response: Response) -> Any:
        """Show an order. With its `ETag` as `If-Match`, a change is made only if the order is still the same."""
        order = await app.queries.dispatch(GetOrderById(order_id))
        if order is None:  # it may have been written a moment ago, by a client that sends no token
            newest = await app.queries.ask(GetOrderById(order_id), after=await app.store.head(), policy=NEWEST)
            order = newest.value
        if order is None:
            raise AggregateNotFoundError(Order.stream_type, order_id)
        response.headers["ETag"] = etag(order.version)
        return order

    @api.get(
        "/orders/{order_id}/live",
        tags=QUERIES,
        response_class=WatchResponse,
        responses=problem_responses(400, 422, 503),
    )
    async def follow_order(order_id: OrderId, watch: Watch) -> Response:
        """Show an order, and show it again whenever it has changed, as server-sent events."""
        return await watch.respond(GetOrderById(order_id), ShownOrder | None)

    @api.get("/customers/{customer_id}/orders", tags=QUERIES, response_model=OrderPage, responses=ANSWERS)
    async def get_customer_orders(
        customer_id: CustomerId,
        status: OrderStatus | None = None,
        page: Page = 1,
        page_size: PageSize = 20,
        cursor: Cursor = None,
    ) -> Any:
        """List a customer's orders, the newest first."""
        return await app.queries.dispatch(
            GetCustomerOrders(customer_id=customer_id, status=status, page=page, page_size=page_size, cursor=cursor)
        )

    @api.get("/reports/sales", tags=QUERIES, response_model=list[SalesLineOut], responses=problem_responses(400, 503))
    async def get_sales() -> Any:
        """Add up what was sold in each month to each country."""
        return await app.queries.dispatch(SalesByMonth())

    @api.get("/health", tags=QUERIES, responses={503: {"model": Health, "description": "A read model has problems."}})
    async def get_health(response: Response) -> Health:
        """Say whether the read models keep up with the log."""
        projections = await app.projections.status()
        faulted = any(each.problems for each in projections)
        if faulted:
            response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
        return Health(
            status="faulted" if faulted else "ok",
            projections=[ProjectionHealth.model_validate(each) for each in projections],
        )


def _add_changes(api: FastAPI, app: Application) -> None:
    @api.post("/orders/{order_id}/items", tags=COMMANDS, responses=CHANGES)
    async def add_item(order_id: OrderId, body: ItemBody, command_id: CommandId) -> Acknowledgement:
        """Order a further item, up to 2000 in one order."""
        return _acknowledge(
            await app.commands.execute(AddItem(command_id=command_id, order_id=order_id, item=body.value()))
        )

    @api.delete("/orders/{order_id}/items/{product_id:path}", tags=COMMANDS, responses=CHANGES)
    async def remove_item(order_id: OrderId, product_id: Id, command_id: CommandId) -> Acknowledgement:
        """Take a product off an order."""
        command = RemoveItem(command_id=command_id, order_id=order_id, product_id=product_id)
        return _acknowledge(await app.commands.execute(command))

    @api.post("/orders/{order_id}/ship", tags=COMMANDS, responses=CHANGES)
    async def ship_order(order_id: OrderId, command_id: CommandId) -> Acknowledgement:
        """Send the goods; the order changes no more."""
        return _acknowledge(await app.commands.execute(ShipOrder(command_id=command_id, order_id=order_id)))

    @api.delete("/orders/{order_id}", tags=COMMANDS, responses=CHANGES)
    async def cancel_order(
        order_id: OrderId,
        reason: Annotated[Text, Query(description="Why.", examples=["ordered by mistake"])],
        command_id: CommandId,
    ) -> Acknowledgement:
        """Give an order up; it changes no more."""
        command = CancelOrder(command_id=command_id, order_id=order_id, reason=reason)
        return _acknowledge(await app.commands.execute(command))


def _add_reports(api: FastAPI, app: Application) -> None:
    @api.get("/reports/revenue", tags=REPORTS, response_model=list[RevenueLineOut], responses=ANSWERS)
    async def get_revenue(
        by: Annotated[str, Query(pattern=BREAKDOWN, description="Any of month, country and product.")] = "month",
    ) -> Any:
        """Add up what was sold, by month, country and product or some of these."""
        return await app.queries.dispatch(GetRevenue(tuple(map(RevenueBy, by.split(",")))))


def _acknowledge(receipt: Receipt[Any]) -> Acknowledgement:
    return Acknowledgement(order_id=receipt.value, version=receipt.version)
