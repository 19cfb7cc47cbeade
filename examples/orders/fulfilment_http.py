"""The HTTP API of what comes after an order: payments, the stock, reminders that wait for their time."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any

from fastapi import FastAPI, Path, Query, Response, status
from orders.commands import RemindOfPayment, TakePayment
from orders.order import Order
from orders.queries import GetOrderById
from orders.schemas import Acknowledgement, DeliveryBody, Id, PaymentBody, ReminderBody, ReminderOut, StockOut
from orders.stock import DeliverStock, GetStock, StockItem
from twofold import Application
from twofold.commands.schedule import ScheduledCommand
from twofold.errors import AggregateNotFoundError
from twofold.fastapi import CommandId, problem_responses

TAGS: list[str | Enum] = ["fulfilment"]
CHANGES = problem_responses(400, 404, 409, 412, 413, 422, 503)
ANSWERS = problem_responses(400, 404, 422, 503)

OrderId = Annotated[Id, Path(description="The order.")]
ProductId = Annotated[Id, Path(description="The product.")]
ReminderId = Annotated[Id, Path(description="The reminder.")]


def add_fulfilment_routes(api: FastAPI, app: Application) -> None:
    """Add them to an API whose application sees orders through to their end."""
    _add_payments(api, app)
    _add_stock(api, app)
    _add_reminders(api, app)


def _add_payments(api: FastAPI, app: Application) -> None:
    @api.post("/orders/{order_id}/payments", tags=TAGS, responses=CHANGES)
    async def take_payment(order_id: OrderId, body: PaymentBody, command_id: CommandId) -> Acknowledgement:
        """Take what the bank says was paid; it may say so twice. What the order has no use for is paid back."""
        command = TakePayment(command_id=command_id, order_id=order_id, payment_id=body.payment_id, amount=body.amount)
        receipt = await app.commands.execute(command)
        return Acknowledgement(order_id=order_id, version=receipt.version)


def _add_stock(api: FastAPI, app: Application) -> None:
    @api.post(
        "/products/{product_id:path}/deliveries", tags=TAGS, status_code=status.HTTP_204_NO_CONTENT, responses=CHANGES
    )
    async def deliver_stock(product_id: ProductId, body: DeliveryBody, command_id: CommandId) -> None:
        """Bring pieces of a product into the warehouse."""
        command = DeliverStock(command_id=command_id, product_id=product_id, quantity=body.quantity)
        await app.commands.execute(command)

    @api.get("/products/{product_id:path}", tags=TAGS, response_model=StockOut, responses=ANSWERS)
    async def get_stock(product_id: ProductId) -> Any:
        """Show how many pieces of a product there are."""
        level = await app.queries.dispatch(GetStock(product_id))
        if level is None:
            raise AggregateNotFoundError(StockItem.stream_type, product_id)
        return level


def _add_reminders(api: FastAPI, app: Application) -> None:
    @api.post("/orders/{order_id}/reminders", tags=TAGS, status_code=status.HTTP_202_ACCEPTED, responses=CHANGES)
    async def schedule_reminder(
        order_id: OrderId, body: ReminderBody, command_id: CommandId, response: Response
    ) -> ReminderOut:
        """Remind the customer to pay when the time has come, unless that is done by then."""
        if await app.queries.dispatch(GetOrderById(order_id)) is None:
            raise AggregateNotFoundError(Order.stream_type, order_id)
        command = RemindOfPayment(command_id=command_id, order_id=order_id)
        reminder_id = await app.commands.schedule(command, at=body.at)
        response.headers["Location"] = f"/reminders/{reminder_id}"
        return ReminderOut(reminder_id=reminder_id, order_id=order_id, at=body.at)

    @api.get("/reminders", tags=TAGS, responses=problem_responses(400, 422, 503))
    async def list_reminders(
        after: Annotated[str, Query(max_length=100, description="The last one of the page before.")] = "",
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
    ) -> list[ReminderOut]:
        """List the reminders that wait, in the order of their ids."""
        return [_reminder(each) for each in await app.commands.scheduled(after=after, limit=limit)]

    @api.get("/reminders/{reminder_id}", tags=TAGS, responses=ANSWERS)
    async def get_reminder(reminder_id: ReminderId) -> ReminderOut:
        """Show a reminder that waits."""
        waiting = await app.commands.find_scheduled(reminder_id)
        if waiting is None:
            raise AggregateNotFoundError("Reminder", reminder_id)
        return _reminder(waiting)

    @api.delete("/reminders/{reminder_id}", tags=TAGS, status_code=status.HTTP_204_NO_CONTENT, responses=CHANGES)
    async def cancel_reminder(reminder_id: ReminderId) -> None:
        """Give a reminder up. It is never sent then; if it does not wait any more, the answer is 404."""
        if not await app.commands.cancel_scheduled(reminder_id):
            raise AggregateNotFoundError("Reminder", reminder_id)


def _reminder(waiting: ScheduledCommand) -> ReminderOut:
    return ReminderOut(reminder_id=waiting.id, order_id=waiting.command.order_id, at=waiting.due_at)
