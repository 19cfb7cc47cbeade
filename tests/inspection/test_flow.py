"""How messages flow is read from the code, whichever way handlers, aggregates and processes are written."""

from __future__ import annotations

from tests.dashboard.showing import Enquiry, Parcels
from tests.inspection import flow_events as made

from orders.app import build
from orders.fulfilment import Fulfilling
from twofold import Application
from twofold.inspection import message_flow

COMMANDS_TO_EVENTS = {
    "CreateOrder": {"OrderCreated"}, "AddItem": {"OrderItemAdded"}, "RemoveItem": {"OrderItemRemoved"},
    "TakePayment": {"OrderPaid", "RefundOwed"}, "RemindOfPayment": {"PaymentReminded"}, "ShipOrder": {"OrderShipped"},
    "CancelOrder": {"OrderCancelled", "RefundOwed"}, "ReturnItem": {"OrderItemReturned"},
    "DeliverStock": {"StockDelivered"}, "ReserveStock": {"StockReserved"}, "ReleaseStock": {"StockReleased"},
    "SendParcel": {"OrderShipped"}, "RefundPayment": {"PaymentRefunded"},
}  # fmt: skip


def links(app: Application, start: str, end: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for one, other in message_flow(app.commands, app.projections).links:
        if one.startswith(f"{start}:") and other.startswith(f"{end}:"):
            found.setdefault(one.partition(":")[2], set()).add(other.partition(":")[2])
    return found


def test_the_flow_of_orders_is_what_its_authors_would_draw() -> None:
    app = build("memory://", fulfilment=Fulfilling())
    assert links(app, "command", "event") == COMMANDS_TO_EVENTS
    assert links(app, "process", "command") == {
        "fulfil_order": {"CancelOrder", "ReserveStock", "ReleaseStock", "SendParcel"},
        "return_payment": {"RefundPayment"},
    }
    assert links(app, "event", "process")["OrderPaid"] == {"fulfil_order"}
    assert links(app, "event", "read model")["StockReserved"] == {"stock_levels"}


def test_each_way_to_write_a_handler_is_seen() -> None:
    app = Application("memory://")
    made.add_handlers(app)
    assert links(app, "command", "event") == {
        "ByFunction": {"Noted"}, "ByClosure": {"Noted"}, "ByModule": {"Elsewhere"}, "ByDecider": {"Noted"},
        "ByHelper": {"Noted"}, "ByPartial": {"Noted"}, "ByAct": {"Noted"},
    }  # fmt: skip


def test_what_is_only_asked_for_is_not_said_to_be_made() -> None:
    app = Application("memory://")
    app.commands.register(made.OnlyAsks, made.only_asks(app))
    assert links(app, "command", "event") == {}


def test_twofold_itself_is_no_part_of_the_flow() -> None:
    app = build("memory://", fulfilment=Fulfilling())
    app.projections.add(Parcels())
    app.processes.add(Enquiry())
    flow = message_flow(app.commands, app.projections)
    assert [node.id for node in flow.nodes if node.code.startswith("twofold.")] == []
