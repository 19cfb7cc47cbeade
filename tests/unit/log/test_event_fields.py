"""Datetimes without a time zone are refused when a class is registered, wherever they hide."""

from __future__ import annotations

import datetime as dt
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, ClassVar, Generic, Literal, NamedTuple, NewType, Optional, TypedDict, TypeVar

import msgspec
import pydantic
import pytest

from twofold.errors import InvalidMessageTypeError
from twofold.log.codec.event_types import EventTypes
from twofold.log.event_fields import tagged_fields
from twofold.messages.event import AwareDatetime, Event, Tag

T = TypeVar("T")
When = NewType("When", datetime)
AwareWhen = NewType("AwareWhen", AwareDatetime)
TzOnlyForMsgspec = Annotated[datetime, msgspec.Meta(tz=True)]


@dataclass(frozen=True)
class Inner:
    at: datetime


class InnerStruct(msgspec.Struct):
    at: datetime


class InnerDict(TypedDict):
    at: datetime


class InnerTuple(NamedTuple):
    at: datetime


class InnerModel(pydantic.BaseModel):
    at: datetime


@dataclass(frozen=True)
class Box(Generic[T]):
    content: T


@dataclass(frozen=True)
class DatedBox(Generic[T]):
    content: T
    at: datetime


@dataclass(frozen=True)
class Node:
    children: tuple[Node, ...] = ()
    parent: Node | None = None


@dataclass(frozen=True)
class DatedNode:
    children: tuple[DatedNode, ...]
    at: datetime | None


@dataclass(frozen=True)
class Missing(Event):
    other: DefinedNowhere  # type: ignore[name-defined]  # noqa: F821


NAIVE: list[Any] = [
    datetime,
    dt.time,
    datetime | None,
    Optional[datetime],  # noqa: UP045
    int | str | datetime,
    tuple[datetime, ...],
    tuple[int, datetime],
    list[datetime],
    frozenset[datetime],
    dict[str, datetime],
    Mapping[str, Sequence[datetime | None]],
    Annotated[datetime, Tag("at")],
    Annotated[datetime, msgspec.Meta(title="At")],
    Annotated[datetime, msgspec.Meta(tz=False)],
    Annotated[datetime | None, Tag("at")],
    When,
    Inner,
    Inner | None,
    tuple[Inner, ...],
    dict[str, list[Inner]],
    InnerTuple,
    Box[datetime],
    Box[Inner],
    DatedBox[int],
    DatedNode,
]
AWARE: list[Any] = [
    AwareDatetime,
    AwareDatetime | None,
    tuple[AwareDatetime, ...],
    Annotated[AwareDatetime, Tag("at")],
    dict[str, AwareDatetime],
    AwareWhen,
    Box[AwareDatetime],
    dt.date,
    dt.timedelta,
    Literal["datetime"],
    Node,
    str,
]
kinds = pytest.mark.parametrize("kind", ["dataclass", "Struct", "pydantic"])


def declared(kind: str, hint: Any) -> type:
    namespace = {"__annotations__": {"value": hint}, "__module__": __name__}
    if kind == "dataclass":
        return dataclass(frozen=True)(type("Declared", (Event,), namespace))
    if kind == "Struct":
        return types.new_class("Declared", (msgspec.Struct,), {"frozen": True}, lambda body: body.update(namespace))
    return types.new_class("Declared", (pydantic.BaseModel,), {"frozen": True}, lambda body: body.update(namespace))


@kinds
@pytest.mark.parametrize("hint", NAIVE, ids=str)
def test_a_naive_datetime_is_refused(kind: str, hint: Any) -> None:
    with pytest.raises(InvalidMessageTypeError, match=r"\.\w+ is a (date)?time, which .* twofold\.AwareDatetime"):
        EventTypes().register(declared(kind, hint))


@kinds
@pytest.mark.parametrize("hint", AWARE)
def test_an_aware_datetime_and_everything_else_is_accepted(kind: str, hint: Any) -> None:
    EventTypes().register(declared(kind, hint))


@pytest.mark.parametrize(
    "hint",
    [InnerModel, list[InnerModel], pydantic.NaiveDatetime, pydantic.PastDatetime, pydantic.FutureDatetime | None],
    ids=str,
)
def test_a_naive_datetime_is_refused_in_what_only_pydantic_knows(hint: Any) -> None:
    with pytest.raises(InvalidMessageTypeError, match="without a time zone"):
        EventTypes().register(declared("pydantic", hint))


@pytest.mark.parametrize("hint", [InnerStruct, InnerDict, list[InnerDict | None]], ids=str)
def test_a_naive_datetime_is_refused_in_what_only_msgspec_knows(hint: Any) -> None:
    with pytest.raises(InvalidMessageTypeError, match=r"Inner\w+\.at is a datetime"):
        EventTypes().register(declared("dataclass", hint))


def test_pydantics_own_aware_datetime_is_accepted() -> None:
    EventTypes().register(declared("pydantic", tuple[pydantic.AwareDatetime | None, ...]))


def test_a_constraint_that_pydantic_ignores_does_not_count_in_a_model() -> None:
    EventTypes().register(declared("dataclass", TzOnlyForMsgspec))
    with pytest.raises(InvalidMessageTypeError):
        EventTypes().register(declared("pydantic", TzOnlyForMsgspec))


def test_class_variables_are_no_fields() -> None:
    @dataclass(frozen=True)
    class Dated(Event):
        since: ClassVar[datetime] = datetime(2024, 1, 1)  # noqa: DTZ001
        name: Annotated[str, Tag("name")] = "n"

    EventTypes().register(Dated)
    assert tagged_fields(Dated) == [("name", "name")]


def test_inherited_fields_are_inspected() -> None:
    @dataclass(frozen=True)
    class Child(Inner, Event):
        name: str = ""

    with pytest.raises(InvalidMessageTypeError):
        EventTypes().register(Child)


def test_a_class_that_was_refused_is_refused_again() -> None:
    types, cls = EventTypes(), declared("dataclass", datetime)
    for _ in range(2):
        with pytest.raises(InvalidMessageTypeError):
            types.register(cls)


def test_a_field_whose_type_cannot_be_found_names_the_remedy() -> None:
    with pytest.raises(InvalidMessageTypeError, match=r"Missing: name 'DefinedNowhere'.*at module level"):
        EventTypes().register(Missing)


def test_a_type_that_msgspec_cannot_read_back_is_refused() -> None:
    @dataclass(frozen=True)
    class Ambiguous(Event):
        value: Inner | dict[str, int] = field(default_factory=dict)

    with pytest.raises(InvalidMessageTypeError):
        EventTypes().register(Ambiguous)
