"""How one HTTP request is followed through all that it causes, as one trace of OpenTelemetry.

1. FastAPI puts the request in a span. The command that it dispatches has a span below it, the append one below that.
2. The metadata of each event carry the trace: `extra["traceparent"]`.
3. A projection's batch, a step of a process and a reaction continue the trace of the event that they handle, and so
   does what a reaction publishes.
4. The command that a process sends has its span below the step that sent it, and so have its own events.
5. A batch over events of several traces has a trace of its own, with a link to each of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import httpx2
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from tests.fulfilment import OrderPlaced, PaymentRequested, build, until_events
from tests.observing import Collector, collected
from tests.synchronizing import PATIENCE, until

from fastapi import FastAPI
from twofold import ANY, Application, Command, EventQuery, Key, Projection, Reaction, on
from twofold.telemetry import TRACEPARENT, tallies


@dataclass(frozen=True, kw_only=True)
class PlaceOrder(Command[None]):
    order: str


@dataclass(frozen=True, kw_only=True)
class OrderView:
    order: Annotated[str, Key()]
    total: int


class OrderViews(Projection[OrderView]):
    name, version = "order_views", 1

    @on(OrderPlaced)
    def placed(self, event: OrderPlaced) -> OrderView:
        return OrderView(order=event.order, total=event.total)


class Receipts(Reaction):
    """Publishes what is requested."""

    name = "receipts"

    def __init__(self) -> None:
        self.sent: list[str] = []

    def handles(self) -> tuple[type, ...]:
        return (PaymentRequested,)

    async def apply(self, event: PaymentRequested) -> None:
        with trace.get_tracer("broker").start_as_current_span("publish"):
            self.sent.append(event.order)


def shop(url: str, *, synchronize: bool = True) -> tuple[Application, Receipts]:
    app, _ = build(url, synchronize=synchronize)

    async def place(command: PlaceOrder) -> None:
        await app.store.append_events(
            f"Order-{command.order}", "Order", [OrderPlaced(order=command.order)], expected_version=ANY
        )

    receipts = Receipts()
    app.commands.register(PlaceOrder, place)
    app.projections.add(OrderViews())
    app.projections.add(receipts)
    return app, receipts


def api_of(app: Application) -> FastAPI:
    api = FastAPI()

    @api.post("/orders/{order}")
    async def place(order: str) -> None:
        await app.commands.dispatch(PlaceOrder(order=order))

    return api


def ids(span: ReadableSpan) -> tuple[int, int]:
    context = span.get_span_context()
    assert context is not None
    return context.trace_id, context.span_id


def parent_of(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent else None


async def test_one_request_is_one_trace_up_to_the_publication_and_is_measured(url: str) -> None:
    with collected() as collector:
        app, receipts = shop(url)
        async with app:
            transport = httpx2.ASGITransport(app=api_of(app))
            async with httpx2.AsyncClient(transport=transport, base_url="http://shop") as client:
                assert (await client.post("/orders/a")).status_code == 200
            await until_events(app, "a", OrderPlaced, PaymentRequested)
            names = {"project order_views", "step fulfil_order", "handle RequestPayment", "project receipts", "publish"}

            async def is_followed() -> bool:
                return bool(receipts.sent) and names <= {each.name for each in collector.spans}

            await until(is_followed, PATIENCE)
            check_metrics(collector)
        check(collector)


def check(collector: Collector) -> None:
    [request] = [each for each in collector.spans if "/orders/{order}" in each.name and each.parent is None]
    [place] = collector.spans_of("handle PlaceOrder")
    appends = collector.spans_of("append")
    step = collector.spans_of("step fulfil_order")[0]
    [billed] = collector.spans_of("handle RequestPayment")
    [views] = collector.batches("project order_views")
    [receipts] = collector.batches("project receipts")
    [published] = collector.spans_of("publish")

    of_one = [request, place, *appends, step, billed, views, receipts, published]
    assert {ids(each)[0] for each in of_one} == {ids(request)[0]}, [(each.name, ids(each)) for each in of_one]
    assert {parent_of(views), parent_of(step)} == {ids(place)[1]}
    assert parent_of(billed) == ids(step)[1]
    assert parent_of(receipts) == ids(billed)[1]
    assert parent_of(published) == ids(receipts)[1]
    assert {parent_of(each) for each in appends} == {ids(place)[1], ids(billed)[1]}


def check_metrics(collector: Collector) -> None:
    """The same request shows in the metrics, under the same names of commands, read models and processes."""
    measured = collector.metrics()

    def told(name: str, attribute: str) -> set[Any]:
        return {each.attributes.get(attribute) for each in measured[name]}

    assert {"PlaceOrder", "RequestPayment"} <= told("twofold.message.duration", "twofold.message")
    assert measured["twofold.append.duration"][0].count >= 2
    handled = told("twofold.projection.batch.duration", "twofold.projection")
    assert {"order_views", "receipts", "fulfil_order"} <= handled
    assert handled <= told("twofold.projection.lag", "twofold.projection")
    assert "fulfil_order" in told("twofold.process.instances", "twofold.process")
    assert measured["twofold.up"][0].value == 1


async def test_a_batch_over_several_traces_is_linked_to_each(url: str) -> None:
    with collected() as collector:
        app, _ = shop(url, synchronize=False)
        async with app:
            for order in "abc":
                await app.commands.dispatch(PlaceOrder(order=order))
        app, _ = shop(url)
        async with app:

            async def is_built() -> bool:
                return bool(collector.batches("project order_views"))

            await until(is_built, PATIENCE)
        [batch] = collector.batches("project order_views")
        timed = [dict(each.attributes) for each in collector.metrics()["twofold.projection.batch.duration"]]
        assert {"twofold.projection": "order_views"} in timed  # and nothing that each batch has anew
        linked = {(each.context.trace_id, each.context.span_id) for each in batch.links}
        assert linked == {ids(each) for each in collector.spans_of("handle PlaceOrder")}
        assert len(linked) == 3
        assert batch.parent is None


async def test_without_an_sdk_metadata_stay_as_they_are(url: str) -> None:
    app, _ = shop(url, synchronize=False)
    async with app:
        await app.commands.dispatch(PlaceOrder(order="a"))
        [recorded] = [each async for each in app.store.read(EventQuery.all())]
        assert recorded.metadata.extra == {}
        with collected() as collector:
            await app.commands.dispatch(PlaceOrder(order="b"))
            *_, recorded = [each async for each in app.store.read(EventQuery.all())]
            [place] = collector.spans_of("handle PlaceOrder")
            assert list(recorded.metadata.extra) == [TRACEPARENT]
            assert recorded.metadata.extra[TRACEPARENT].startswith("00-{:032x}-{:016x}-".format(*ids(place)))


async def test_what_a_process_has_done_is_counted_with_and_without_an_sdk(any_url: str) -> None:
    app, _ = shop(any_url, synchronize=False)

    async def refuse(command: Refused) -> None:
        raise ValueError("no")

    app.commands.register(Refused, refuse)
    async with app:
        before = tallies()
        await app.commands.dispatch(PlaceOrder(order="a"))
        with pytest.raises(ValueError, match="no"):
            await app.commands.dispatch(Refused())
        with collected() as collector:
            await app.commands.dispatch(PlaceOrder(order="b"))
            found = collector.metrics()
        after = tallies()
        done: Any = {name: getattr(after, name) - getattr(before, name) for name in after.__struct_fields__}
        assert {name: number for name, number in done.items() if number} == {
            "commands_done": 2, "commands_refused": 1, "appends": 2, "events": 2,
        }  # fmt: skip
        assert found["twofold.commands.done"][0].value == after.commands_done
        timed = {each.attributes["twofold.message"] for each in found["twofold.message.duration"]}
        assert "PlaceOrder" in timed
        assert set(found["twofold.message.duration"][0].attributes) <= {"twofold.message", "error.type"}
        appends = [set(each.attributes) for each in found["twofold.append.duration"]]
        assert appends == [set()]


@dataclass(frozen=True)
class Refused:
    """A command that the domain refuses."""
