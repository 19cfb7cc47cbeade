"""An idempotency token: a form that is sent twice places one order.

After <https://dcb.events/examples/prevent-record-duplication/>. Two ways: a token within the event, which the rule
looks for, or the command's own id, which needs no rule: a repeat gets the first receipt instead of an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from twofold import Application, Command, Event, Tag, unique


@dataclass(frozen=True, kw_only=True)
class OrderPlaced(Event):
    """An order was placed by the form that has this token."""

    order: Annotated[str, Tag("order")]
    token: Annotated[str, Tag("token")]


@dataclass(frozen=True, kw_only=True)
class PlaceOrder(Command[None]):
    """Place an order; of all with one token, one is accepted."""

    order: str
    token: str


def wire(app: Application) -> None:
    """Register the event and the handler."""
    app.store.events.register(OrderPlaced)

    async def place(command: PlaceOrder) -> None:
        await app.store.decide(unique("token", of=OrderPlaced, value=command.token))
        await app.store.append([OrderPlaced(order=command.order, token=command.token)])

    app.commands.register(PlaceOrder, place)
