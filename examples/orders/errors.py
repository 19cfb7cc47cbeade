"""The rules of orders, each as the error that breaking it raises."""

from __future__ import annotations

from decimal import Decimal

from orders.items import MAX_ITEMS, OrderItem


class OrderError(Exception):
    """Base of all errors of the domain. `field` names what is at fault, if it is a field of the command."""

    field: str | None = None


class InvalidOrderError(OrderError):
    """A command carries a value that no order may have."""

    def __init__(self, detail: str, field: str, place: int | None = None) -> None:
        super().__init__(detail)
        self.field = field if place is None else f"items[{place}].{field}"
        self.place = place
        """Which of several items is at fault, from 0."""


class NoCustomerError(InvalidOrderError):
    """Every order belongs to a customer."""

    def __init__(self) -> None:
        super().__init__("an order needs a customer", "customer_id")


class NoItemsError(InvalidOrderError):
    """Every order has an item."""

    def __init__(self) -> None:
        super().__init__("an order needs at least one item", "items")


class TooManyItemsError(OrderError):
    """An order has at most `MAX_ITEMS` items."""

    def __init__(self) -> None:
        super().__init__(f"an order has at most {MAX_ITEMS} items; open another one")
        self.field = "items"


class NoReasonError(InvalidOrderError):
    """A cancellation says why."""

    def __init__(self) -> None:
        super().__init__("a cancellation needs a reason", "reason")


class QuantityNotPositiveError(InvalidOrderError):
    """An item has at least one piece."""

    def __init__(self, item: OrderItem, place: int | None = None) -> None:
        super().__init__(
            f"the quantity of {item.product_id!r} must be positive, not {item.quantity}", "quantity", place
        )


class PriceNotPositiveError(InvalidOrderError):
    """An item costs something."""

    def __init__(self, item: OrderItem, place: int | None = None) -> None:
        super().__init__(f"the price of {item.product_id!r} must be positive, not {item.price}", "price", place)


class OrderExistsError(OrderError):
    """An order id is given once."""

    def __init__(self, order_id: str) -> None:
        super().__init__(f"there is an order {order_id} already")


class OrderIsShippedError(OrderError):
    """A shipped order changes no more."""

    def __init__(self, order_id: str) -> None:
        super().__init__(f"order {order_id} has been shipped")


class OrderIsPaidError(OrderError):
    """What is paid for is not changed; the order can still be cancelled."""

    def __init__(self, order_id: str) -> None:
        super().__init__(f"order {order_id} has been paid")


class AmountNotPositiveError(InvalidOrderError):
    """A payment is more than nothing."""

    def __init__(self, amount: Decimal) -> None:
        super().__init__(f"the amount of a payment must be positive, not {amount}", "amount")


class OrderIsCancelledError(OrderError):
    """A cancelled order changes no more."""

    def __init__(self, order_id: str) -> None:
        super().__init__(f"order {order_id} was cancelled")


class LastItemError(OrderError):
    """An order needs an item, also after one was removed."""

    def __init__(self, order_id: str) -> None:
        super().__init__(f"order {order_id} would be left without an item; cancel it instead")


class ItemNotInOrderError(OrderError):
    """Only what is in an order can be removed from it."""

    def __init__(self, order_id: str, product_id: str) -> None:
        super().__init__(f"order {order_id} has no item {product_id!r}")


class NothingToReturnError(OrderError):
    """Only what was shipped, and has not come back yet, can be returned."""

    def __init__(self, item: OrderItem) -> None:
        super().__init__(
            f"no shipped order holds {item.quantity} of {item.product_id!r} at {item.price} to be returned"
        )
