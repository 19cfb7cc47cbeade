"""A repeat of a command gets the first value, or the first value is refused."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from twofold import Command
from twofold.commands.results import ResultCodec
from twofold.errors import InvalidHandlerError


@dataclass(frozen=True, kw_only=True)
class Charge(Command): ...


@dataclass(frozen=True)
class Bill:
    amount: Decimal


@dataclass(frozen=True)
class LongBill(Bill):
    note: str = ""


async def says_nothing(command: Charge):  # type: ignore[no-untyped-def]
    ...


async def says_decimal(command: Charge) -> Decimal: ...  # type: ignore[empty-body]


async def says_bill(command: Charge) -> Bill: ...  # type: ignore[empty-body]


@pytest.mark.parametrize("value", [Decimal(1), UUID(int=1), Bill(Decimal(1)), (1, 2), {"x": float("inf")}, {1: 2}])
def test_a_value_whose_type_the_handler_does_not_say_is_refused(value: Any) -> None:
    with pytest.raises(InvalidHandlerError, match=f"Charge would get another value.*write|-> {type(value).__name__}"):
        ResultCodec(Charge, says_nothing).encode(value)


@pytest.mark.parametrize("value", ["x", 1, True, None, [1, "x"], {"a": [None, 1.5]}])
def test_plain_values_need_no_annotation(value: Any) -> None:
    codec = ResultCodec(Charge, says_nothing)
    assert codec.decode(codec.encode(value)) == value


@pytest.mark.parametrize(
    ("call", "value"), [(says_decimal, Decimal("1.10")), (says_bill, Bill(Decimal(1)))], ids=["decimal", "bill"]
)
def test_a_value_of_the_annotated_type_comes_back_equal(call: Any, value: Any) -> None:
    codec = ResultCodec(Charge, call)
    back = codec.decode(codec.encode(value))
    assert (back, type(back)) == (value, type(value))


@pytest.mark.parametrize(
    ("call", "value"), [(says_decimal, "1.10"), (says_bill, LongBill(Decimal(1), "x"))], ids=["text", "subclass"]
)
def test_a_value_of_another_type_than_the_annotated_one_is_refused(call: Any, value: Any) -> None:
    with pytest.raises(InvalidHandlerError, match="Charge would get another value, so nothing was stored: the result"):
        ResultCodec(Charge, call).encode(value)
