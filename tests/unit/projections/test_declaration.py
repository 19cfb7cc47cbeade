"""A projection whose declaration cannot work is refused when it is added, with the line to write."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any

import msgspec
import pytest

from twofold import Event, Key, Projection, Reaction, SqlProjection, on
from twofold.arguments import check_choice
from twofold.errors import InvalidMessageTypeError, InvalidProjectionError
from twofold.log.codec.event_types import EventTypes
from twofold.messages.event import RecordedEvent, event_type
from twofold.messages.stored_event import StoredEvent
from twofold.projections.declaration import check_declaration, check_events
from twofold.projections.folding import fold
from twofold.projections.keys.keyed_event import keyed
from twofold.projections.kinds import drive_of
from twofold.projections.rows.row_type import RowType
from twofold.projections.runner import Start


@dataclass(frozen=True)
class Opened(Event):
    account: str


@dataclass(frozen=True)
class Base(Event):
    account: str


@dataclass(frozen=True)
class Special(Base):
    amount: int = 0


@event_type("Plain")
@dataclass(frozen=True)
class Plain(Event):
    account: str


@dataclass(frozen=True)
class More(Plain):
    amount: int = 0


@dataclass(frozen=True)
class Row:
    account: Annotated[str, Key()]
    number: int = 0


class Rows(Projection[Row]):
    name = "rows"

    @on(Opened)
    def opened(self, event: Opened) -> Row:
        return Row(event.account)


class Mails(Reaction):
    name = "mails"

    def handles(self) -> tuple[type, ...]:
        return (Opened,)

    async def apply(self, event: Opened) -> None: ...


class Tables(SqlProjection):
    name = "tables"
    tables = ("revenue",)

    def handles(self) -> tuple[type, ...]:
        return (Opened,)

    def apply(self, event: Opened, connection: Any) -> None: ...


def changed(cls: type, **attributes: object) -> Any:
    return type(cls.__name__, (cls,), attributes)()


@pytest.mark.parametrize(
    ("projection", "remedy"),
    [
        (Rows, r"Rows is a class; add an instance: Rows\(\)"),
        (object(), "is no Projection, SqlProjection or Reaction"),
        (changed(Rows, on_failure="skip"), "on_failure='skip' is none; write one of: 'park', 'stop'"),
        (changed(Mails, on_failure="retry"), "on_failure='retry' is none"),
        (changed(Tables, connection="psycopg"), "connection='psycopg' is none; write one of: 'driver', 'sqlalchemy'"),
        (changed(Rows, follows="other"), r"write follows = \('other',\)"),
        (changed(Tables, tables="revenue"), r"write tables = \('revenue',\)"),
        (changed(Rows, max_lag=5), r"write timedelta\(seconds=5\)"),
        (changed(Rows, version="2"), "version is a whole number from 1"),
        (changed(Mails, apply=lambda self, event: None), r"write `async def apply\(self, event\)`"),
        (changed(Tables, apply=lambda self, connection, event: None), r"must take \(self, event, connection\)"),
        (changed(Tables, apply=lambda self, event: None), r"must take \(self, event, connection\)"),
    ],
)
def test_what_cannot_work_is_refused_with_the_line_to_write(projection: Any, remedy: str) -> None:
    with pytest.raises(InvalidProjectionError, match=remedy):
        check_declaration(projection)


@pytest.mark.parametrize("projection", [Rows(), Mails(), Tables(), changed(Rows, max_lag=timedelta(seconds=5))])
def test_what_can_work_is_accepted(projection: Any) -> None:
    check_declaration(projection)
    check_events(projection)


@pytest.mark.parametrize("kind", ["async", "live", "", None, ["inline"]])
def test_a_kind_that_is_none_is_refused(kind: Any) -> None:
    with pytest.raises(InvalidProjectionError, match="write one of: 'asynchronous', 'inline', 'on_demand'"):
        drive_of(kind)


def test_a_start_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidProjectionError, match="start='today' is none; write one of: 'beginning', 'now'"):
        check_choice("start", "today", Start, InvalidProjectionError)


def test_a_base_class_of_events_is_refused_where_a_method_or_a_projection_names_it() -> None:
    with pytest.raises(TypeError, match=r"Base is the base of other events.*name each of them: Special"):
        on(Base)
    with pytest.raises(TypeError, match="Event is the base of other events"):
        on(Event)
    with pytest.raises(InvalidProjectionError, match="mails handles no such event: Base is the base"):
        check_events(changed(Mails, handles=lambda self: (Base,)))


def test_one_class_in_place_of_several_is_refused() -> None:
    with pytest.raises(InvalidProjectionError, match=r"handles\(\) returns Plain; let it return a tuple: \(Plain,\)"):
        check_events(changed(Mails, handles=lambda self: Plain))


def test_an_event_that_others_are_derived_from_can_be_named_once_its_stored_name_is_declared() -> None:
    on(Plain)
    check_events(changed(Mails, handles=lambda self: (Plain,)))


def test_the_event_before_the_row_is_refused() -> None:
    class Swapped(Projection[Row]):
        name = "swapped"

        @on(Opened)
        def opened(self, event: Opened, row: Row) -> Row:
            return row

    with pytest.raises(InvalidProjectionError, match=r"takes the event first; write \(self, row, event\)"):
        Swapped().handles()


def test_an_event_without_the_field_of_the_key_is_refused() -> None:
    @dataclass(frozen=True)
    class ByOwner:
        account: Annotated[str, Key()]
        owner: Annotated[str, Key()]

    class Owners(Projection[ByOwner]):
        name = "owners"

        @on(Opened)
        def opened(self, event: Opened) -> None:
            return None

    with pytest.raises(InvalidProjectionError, match=r"Opened has no field 'owner', .* write `def key\(self, event\)`"):
        check_declaration(Owners())
    check_declaration(changed(Owners, key=lambda self, event: (event.account, "x")))


def test_a_method_that_says_that_it_returns_a_row_deletes_none() -> None:
    class Forgetful(Projection[Row]):
        name = "forgetful"

        @on(Opened)
        def opened(self, event: Opened) -> Row:
            Row(event.account)
            return None  # type: ignore[return-value]

    stored = StoredEvent(1, 0, 0, 0, "", "", "Opened", 1, b"", b"", b"", b"[]")
    projection = Forgetful()
    [failure] = fold(projection, {}, keyed(projection, [RecordedEvent(Opened("a"), stored)])).failures
    assert "add the missing `return`" in str(failure.error)


# -- rows and events that can be changed, and fields that an engine cannot take -------------------------------------


@dataclass
class Mutable:
    account: Annotated[str, Key()]


class MutableStruct(msgspec.Struct):
    account: Annotated[str, Key()]


@pytest.mark.parametrize("cls", [Mutable, MutableStruct])
def test_rows_and_events_that_can_be_changed_are_refused(cls: type) -> None:
    with pytest.raises(InvalidProjectionError, match=r"can be changed; write .*frozen=True"):
        RowType(cls)
    with pytest.raises(InvalidMessageTypeError, match=r"can be changed; write .*frozen=True"):
        EventTypes().register(cls)


@pytest.mark.parametrize(
    "name", ["ctid", "xmin", "TableOid", "oid", "rowid", "search_", "twofold_x", "x" * 64, "é" * 32]
)
def test_a_field_whose_name_one_engine_cannot_take_is_refused(name: str) -> None:
    fields: list[Any] = [("account", Annotated[str, Key()]), (name, int)]
    with pytest.raises(InvalidProjectionError, match=f"Row.{name} is (a name that engines keep|longer than)"):
        RowType(msgspec.defstruct("Row", fields, frozen=True))


def test_fields_that_differ_in_case_only_are_refused() -> None:
    fields: list[Any] = [("account", Annotated[str, Key()]), ("total", int), ("Total", int)]
    with pytest.raises(InvalidProjectionError, match=r"Row.Total and total differ in case only"):
        RowType(msgspec.defstruct("Row", fields, frozen=True))


@pytest.mark.parametrize("kind", [Decimal, float, tuple[str, ...]])
def test_a_key_of_which_equal_values_are_written_differently_is_refused(kind: Any) -> None:
    with pytest.raises(InvalidProjectionError, match="make it a str or an int"):
        RowType(msgspec.defstruct("Row", [("account", Annotated[kind, Key()])], frozen=True))
