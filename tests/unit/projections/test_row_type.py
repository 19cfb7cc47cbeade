"""Classes of rows as columns and back; what engines do with each kind, see `ReadDatabaseConformance`."""

from __future__ import annotations

import copy
import datetime as dt
from dataclasses import FrozenInstanceError, dataclass, field, replace
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import pytest

from twofold import FullText, Index, Key
from twofold.errors import InvalidProjectionError
from twofold.ports.table import Column, Kind
from twofold.projections.rows.row_type import RowType


class Colour(Enum):
    RED = "red"


class Size(StrEnum):
    LARGE = "large"


class Level(Enum):
    HIGH = 3


@dataclass(frozen=True)
class Line:
    product: str
    price: Decimal


@dataclass(frozen=True, kw_only=True)
class Full:
    id: Annotated[UUID, Key()]
    text: Annotated[str, FullText(), Index()] = "x"
    number: int = 1
    ratio: float | None = None
    flag: bool = True
    amount: Annotated[Decimal, Index()] | None = None
    at: dt.datetime | None = None
    day: dt.date = dt.date(2026, 1, 2)
    colour: Colour = Colour.RED
    size: Size | None = Size.LARGE
    mode: Literal["on", "off"] = "on"
    level: Level = Level.HIGH
    lines: tuple[Line, ...] = ()
    more: dict[str, list[Decimal]] | None = None


KINDS = {
    "id": Kind.UUID, "text": Kind.TEXT, "number": Kind.INTEGER, "ratio": Kind.REAL, "flag": Kind.BOOLEAN,
    "amount": Kind.DECIMAL, "at": Kind.DATETIME, "day": Kind.DATE, "colour": Kind.TEXT, "size": Kind.TEXT,
    "mode": Kind.TEXT, "level": Kind.JSON, "lines": Kind.JSON, "more": Kind.JSON,
}  # fmt: skip
NULLABLE = {"ratio", "amount", "at", "size", "more"}


def test_each_field_becomes_a_column_of_its_kind() -> None:
    columns = RowType(Full).columns
    assert columns == tuple(Column(name, kind, name in NULLABLE) for name, kind in KINDS.items())


def test_marks_are_found_beside_each_other_and_within_optional_types() -> None:
    table = RowType(Full).table("full")
    assert (table.key, table.indexes, table.full_text) == (("id",), ("text",), ("text",))
    assert table.column("text") == Column("text", Kind.TEXT, False)
    assert table.column("nothing") is None


@pytest.mark.parametrize(
    "row",
    [
        Full(id=UUID(int=1)),
        Full(
            id=UUID(int=2), ratio=0.5, amount=Decimal("1.50"), at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC), size=None,
            lines=(Line("p", Decimal("2.50")),), more={"a": [Decimal("0.10")]},
        ),
    ],
)  # fmt: skip
def test_a_row_comes_back_as_it_was(row: Full) -> None:
    rows = RowType(Full)
    values = rows.dump(row)
    assert all(each is None or type(each) is kind.python for each, kind in zip(values, KINDS.values(), strict=True))
    assert rows.load(values) == row


def test_structs_are_rows_too() -> None:
    class View(msgspec.Struct, frozen=True):
        id: Annotated[str, Key()]
        number: int = 0

    rows = RowType(View)
    assert rows.load(rows.dump(View("a", 3))) == View("a", 3)


def test_a_row_may_have_a_key_of_several_fields_or_nothing_but_a_key() -> None:
    @dataclass(frozen=True)
    class Pair:
        a: Annotated[str, Key()]
        b: Annotated[Colour, Key()]

    @dataclass(frozen=True)
    class Single:
        a: Annotated[str, Key()]

    assert RowType(Pair).key_of(Pair("x", Colour.RED)) == ("x", Colour.RED)
    assert RowType(Pair).dump_key(("x", Colour.RED)) == ("x", "red")
    assert RowType(Single).key_of(Single("x")) == ("x",)
    assert RowType(Single).dump(Single("x")) == ("x",)
    with pytest.raises(ValueError, match=r"the key of .*Pair is"):
        RowType(Pair).dump_key(("x",))


def test_a_moment_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="has no time zone"):
        RowType(Full).dump(Full(id=UUID(int=1), at=dt.datetime(2026, 1, 1)))  # noqa: DTZ001


def make(**fields: Any) -> type:
    return dataclass(frozen=True)(type("Row", (), {"__annotations__": fields, "__module__": __name__}))


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (make(id=str), "Row has no key; mark a field"),
        (make(id=Annotated[str | None, Key()]), "Row.id is part of the key and must not be None"),
        (make(id=Annotated[str, Key()], rank=int), "Row.rank is a name that engines keep for themselves"),
        (make(id=Annotated[str, Key()], thing=Annotated["Missing", 1]), "'Missing' is not defined; define the field"),  # noqa: F821
        (int, "int must be a frozen dataclass or a frozen msgspec.Struct"),
    ],
)
def test_what_no_table_can_hold_is_refused(cls: type, message: str) -> None:
    with pytest.raises(InvalidProjectionError, match=message):
        RowType(cls)


def test_rows_come_back_whether_their_class_takes_values_by_position_or_by_name() -> None:
    @dataclass(frozen=True)
    class Mixed:
        a: Annotated[str, Key()]
        b: int = field(default=0, kw_only=True)
        c: str = ""

    class Record(msgspec.Struct, frozen=True):
        a: Annotated[str, Key()]
        b: int = 0

    for row in (Mixed("x", "y", b=2), Record("x", 2), Full(id=UUID(int=1), number=2)):
        rows = RowType(type(row))
        assert rows.load(rows.dump(row)) == row


@dataclass(frozen=True)
class Checked:
    id: Annotated[str, Key()]
    number: int

    def __post_init__(self) -> None:
        if self.number < 0:
            raise ValueError("below zero")


@dataclass(frozen=True)
class Shouted:
    id: Annotated[str, Key()]
    text: str

    def __init__(self, id: str, text: str) -> None:
        object.__setattr__(self, "id", id)
        object.__setattr__(self, "text", text.upper())


@dataclass(frozen=True, slots=True)
class Slotted:
    id: Annotated[str, Key()]
    text: str


@dataclass(frozen=True)
class Plain:
    id: Annotated[str, Key()]
    text: str = "default"


def test_a_row_whose_constructor_does_more_than_to_set_the_fields_is_made_by_it() -> None:
    with pytest.raises(ValueError, match="below zero"):
        RowType(Checked).load(["a", -1])
    assert RowType(Shouted).load(["a", "b"]).text == "B"
    assert RowType(Slotted).load(["a", "b"]) == Slotted("a", "b")


def test_a_row_whose_constructor_only_sets_the_fields_is_as_if_it_had_made_it() -> None:
    row = RowType(Plain).load(["a", "b"])
    assert (row, hash(row), copy.copy(row), replace(row, id="c")) == (
        Plain("a", "b"), hash(Plain("a", "b")), row, Plain("c", "b"),
    )  # fmt: skip
    assert vars(row) == {"id": "a", "text": "b"}
    with pytest.raises(FrozenInstanceError):
        row.text = "c"  # type: ignore[misc]
