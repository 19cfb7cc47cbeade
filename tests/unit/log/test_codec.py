from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Annotated, Any
from uuid import UUID

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold.errors import (
    InvalidEventError,
    InvalidMessageTypeError,
    LimitExceededError,
    NewerSchemaError,
    TwofoldError,
    UnknownEventTypeError,
    UnreadableEventError,
)
from twofold.log.codec.event_types import MANY, EventTypes, encode_metadata
from twofold.log.codec.payload import MAX_PAYLOAD
from twofold.log.codec.stored_names import MAX_NAME, check_name
from twofold.messages.event import AwareDatetime, Event, Metadata, Tag, event_type
from twofold.messages.event_query import EventQuery
from twofold.messages.stored_event import NewEvent, StoredEvent, content_checksum, is_intact, record


class Colour(StrEnum):
    RED = "red"


class Size(Enum):
    LARGE = 3


@dataclass(frozen=True)
class Line:
    product_id: str
    price: Decimal


@dataclass(frozen=True, kw_only=True)
class Ordered(Event):
    order_id: Annotated[str, Tag("order")]
    lines: tuple[Line, ...] = ()
    total: Decimal = Decimal(0)
    at: AwareDatetime | None = None
    count: int = 0


class Shipped(msgspec.Struct, frozen=True, kw_only=True):
    order_id: Annotated[str, Tag("order")]
    weight: Decimal = Decimal("1.50")


class Cancelled(pydantic.BaseModel, frozen=True):
    order_id: Annotated[str, Tag("order")]
    at: AwareDatetime | None = None
    refund: Decimal = Decimal("0.10")


def new(event: object, types: EventTypes | None = None, stream_id: str = "Order-1") -> NewEvent:
    return (types or EventTypes()).encode(event, UUID(int=1), stream_id, "Order", b"{}")


def raw(type_name: str, payload: bytes, schema_version: int = 1, position: int = 9) -> StoredEvent:
    """Return an intact row, as other code wrote it."""
    event = NewEvent("Order-1", "Order", type_name, schema_version, bytes(16), payload, b"{}", b"[]", (), 0)
    return record(event._replace(content_checksum=content_checksum(event)), position, 1, 5)


def round_trip(event: object) -> object:
    types = EventTypes()
    (recorded,) = types.decode([record(new(event, types), 1, 1, 5)])
    return recorded.event


@pytest.mark.parametrize(
    "event",
    [
        Ordered(order_id="o1", lines=(Line("p1", Decimal("1.10")),), total=Decimal("1.10"), count=2**70),
        Shipped(order_id="o1", weight=Decimal("0.300")),
        Cancelled(order_id="o1", refund=Decimal("99.90")),
    ],
    ids=["dataclass", "Struct", "pydantic"],
)
def test_dataclasses_structs_and_pydantic_models_come_back_equal(event: object) -> None:
    assert round_trip(event) == event
    assert type(round_trip(event)) is type(event)


@given(st.decimals(allow_nan=False))
def test_decimals_come_back_digit_for_digit(amount: Decimal) -> None:
    event = round_trip(Ordered(order_id="o1", total=amount))
    assert isinstance(event, Ordered)
    assert str(event.total) == str(amount)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=200))
def test_text_comes_back_as_it_was(text: str) -> None:
    assert round_trip(Ordered(order_id=text)) == Ordered(order_id=text)


def test_an_encoded_event_is_intact_at_any_place() -> None:
    assert is_intact(record(new(Ordered(order_id="o1")), 3, 2, 1))


# -- what cannot be read back is never stored ------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        {"order_id": 5},
        {"order_id": None},
        {"order_id": "o1", "lines": "many"},
        {"order_id": "o1", "lines": (Line("p1", "cheap"),)},  # type: ignore[arg-type]
        {"order_id": "o1", "lines": (Colour,)},
        {"order_id": "o1", "total": "a lot"},
        {"order_id": "o1", "count": 1.5},
        {"order_id": "o1", "count": float("nan")},
        {"order_id": "o1", "count": object()},
        {"order_id": "half a pair \ud800"},
    ],
)
def test_values_that_do_not_fit_the_declaration_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidEventError, match=r"^Ordered\.\w+ |Ordered cannot be stored: .*\$\.\w+"):
        new(Ordered(**values))


def test_a_naive_datetime_is_refused_where_an_aware_one_is_declared() -> None:
    naive = datetime.fromisoformat("2024-01-01T00:00:00")
    with pytest.raises(InvalidEventError):
        new(Ordered(order_id="o1", at=naive))
    with pytest.raises(InvalidEventError):
        new(Cancelled.model_construct(order_id="o1", at=naive, refund=Decimal(1)))
    with pytest.raises(pydantic.ValidationError, match="timezone"):
        Cancelled(order_id="o1", at=naive)


def test_what_a_constructor_refuses_on_reading_is_refused_on_writing() -> None:
    @dataclass(frozen=True)
    class Picky(Event):
        number: int

        def __post_init__(self) -> None:
            if self.number < 0:
                raise ValueError("negative")

    event = Picky(1)
    object.__setattr__(event, "number", -1)
    with pytest.raises(InvalidEventError, match="negative"):
        new(event)


def test_a_nul_character_is_refused_wherever_it_is() -> None:
    for event in (
        Ordered(order_id="a\0b"),
        Ordered(order_id="\\\0"),
        Ordered(order_id="o", lines=(Line("\0", Decimal(1)),)),
        Cancelled(order_id="\0"),
    ):
        with pytest.raises(InvalidEventError, match="NUL"):
            new(event)


@pytest.mark.parametrize("text", ["\\u0000", "\\\\u0000", "C:\\u0000\\", "u0000"])
def test_text_that_only_looks_like_a_nul_is_kept(text: str) -> None:
    assert round_trip(Ordered(order_id=text)) == Ordered(order_id=text)


def test_a_nul_in_the_metadata_is_refused() -> None:
    with pytest.raises(InvalidEventError, match=r"metadata\.user holds a NUL"):
        encode_metadata(Metadata(user="a\0"))


def test_a_payload_that_is_too_large_is_refused_and_names_the_remedy() -> None:
    assert len(new(Ordered(order_id="x" * 400, lines=(Line("y" * (MAX_PAYLOAD - 10_000), Decimal(1)),))).payload) > 0
    with pytest.raises(LimitExceededError, match="store large content elsewhere"):
        new(Ordered(order_id="o1", lines=(Line("y" * MAX_PAYLOAD, Decimal(1)),)))


@pytest.mark.parametrize("name", ["x" * (MAX_NAME + 1), "a\0b", "half a pair \ud800"], ids=["long", "nul", "surrogate"])
def test_names_that_an_engine_cannot_store_are_refused(name: str) -> None:
    types = EventTypes()
    with pytest.raises(LimitExceededError, match="stream id"):
        types.encode(Ordered(order_id="o1"), UUID(int=1), name, "Order", b"{}")
    with pytest.raises(LimitExceededError, match="stream type"):
        types.encode(Ordered(order_id="o1"), UUID(int=1), "Order-1", name, b"{}")
    with pytest.raises(TwofoldError):
        types.encode(Ordered(order_id=name), UUID(int=1), "Order-1", "Order", b"{}")
    with pytest.raises(LimitExceededError, match="stored name"):
        types.register(event_type(name)(dataclass(frozen=True)(type("E", (Event,), {}))))
    with pytest.raises(LimitExceededError, match="a label has 1 to 500 characters"):
        check_name("label", name)


def test_names_of_the_full_length_are_stored() -> None:
    new(Ordered(order_id="o" * (MAX_NAME - len("order:"))), stream_id="é" * MAX_NAME)


# -- tags -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Tagged(Event):
    one: Annotated[str | None, Tag("one")] = None
    optional: Annotated[str, Tag("optional")] | None = None
    many: Annotated[tuple[str, ...], Tag("many")] = ()
    each: tuple[Annotated[str, Tag("each")], ...] = ()
    some: Annotated[frozenset[str], Tag("some")] = frozenset()
    listed: Annotated[list[int], Tag("listed")] = field(default_factory=list)
    colour: Annotated[Colour | None, Tag("colour")] = None
    size: Annotated[Size | None, Tag("size")] = None
    number: Annotated[int | None, Tag("number")] = None
    id: Annotated[UUID | None, Tag("id")] = None
    both: Annotated[str | None, Tag("left"), Tag("right")] = None
    also_one: Annotated[str | None, Tag("one")] = None
    untagged: str = "u"


@pytest.mark.parametrize(
    ("values", "tags"),
    [
        ({}, ()),
        ({"one": "a"}, ("one:a",)),
        ({"one": ""}, ("one:",)),
        ({"optional": "a"}, ("optional:a",)),
        ({"many": ("b", "a", "b")}, ("many:b", "many:a")),
        ({"each": ("a", "b")}, ("each:a", "each:b")),
        ({"some": frozenset("cab")}, ("some:a", "some:b", "some:c")),
        ({"listed": [2, 1, 2]}, ("listed:2", "listed:1")),
        ({"colour": Colour.RED, "size": Size.LARGE}, ("colour:red", "size:3")),
        ({"number": 0}, ("number:0",)),
        ({"id": UUID(int=1)}, ("id:00000000-0000-0000-0000-000000000001",)),
        ({"both": "a"}, ("left:a", "right:a")),
        ({"one": "a", "also_one": "a"}, ("one:a",)),
        ({"one": 'it\'s: é "x"'}, ('one:it\'s: é "x"',)),
    ],
)
def test_tags_come_from_the_fields(values: dict[str, Any], tags: tuple[str, ...]) -> None:
    encoded = new(Tagged(**values))
    assert encoded.tag_names == tags
    assert tuple(msgspec.json.decode(encoded.tags)) == tags


def test_structs_and_pydantic_models_have_tags_too() -> None:
    assert new(Shipped(order_id="o1")).tag_names == new(Cancelled(order_id="o1")).tag_names == ("order:o1",)


def test_tags_of_a_parent_class_are_inherited() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Special(Ordered):
        pass

    assert new(Special(order_id="o1")).tag_names == ("order:o1",)


def test_sets_are_stored_alike_in_every_process() -> None:
    code = (
        "from dataclasses import dataclass; from typing import Annotated; from uuid import UUID\n"
        "from twofold.log.codec.event_types import EventTypes; from twofold.messages.event import Event, Tag\n"
        "@dataclass(frozen=True)\n"
        "class E(Event):\n"
        "    s: Annotated[frozenset[str], Tag('s')]\n"
        "new = EventTypes().encode(E(frozenset('abcdefgh')), UUID(int=1), '', '', b'{}')\n"
        "print(new.payload, new.tags)"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(seen) == 1


# -- names ----------------------------------------------------------------------------------------------------


def test_two_classes_under_one_name_are_refused() -> None:
    types = EventTypes()
    types.register(Ordered)
    other: Any = event_type("Ordered")(dataclass(frozen=True)(type("Other", (Event,), {})))
    with pytest.raises(InvalidMessageTypeError, match="Other and Ordered are both stored as 'Ordered'"):
        types.register(other)
    with pytest.raises(InvalidMessageTypeError):
        new(other(), types)


def test_an_alias_that_another_class_has_is_refused_and_leaves_nothing_behind() -> None:
    types = EventTypes()
    types.register(Ordered)
    other: Any = event_type("Fresh", aliases=("Ordered",))(dataclass(frozen=True)(type("Other", (Event,), {})))
    with pytest.raises(InvalidMessageTypeError):
        types.register(other)
    with pytest.raises(UnknownEventTypeError):
        types.decode([raw("Fresh", b"{}")])


def test_registering_a_class_again_changes_nothing() -> None:
    types = EventTypes()
    types.register(Ordered, Ordered)
    types.register(Ordered)


def test_encoding_registers_the_class() -> None:
    types = EventTypes()
    new(Ordered(order_id="o1"), types)
    assert types.decode([raw("Ordered", b'{"order_id":"o2"}')])[0].event == Ordered(order_id="o2")


def test_an_alias_is_read_as_the_class_and_never_written() -> None:
    @event_type("NameChanged", aliases=("NameWasChanged", "Renamed"))
    @dataclass(frozen=True)
    class Changed(Event):
        name: str

    types = EventTypes()
    types.register(Changed)
    rows = [raw(name, b'{"name":"n"}') for name in ("NameChanged", "NameWasChanged", "Renamed")]
    assert [recorded.event for recorded in types.decode(rows)] == [Changed("n")] * 3
    assert [recorded.type for recorded in types.decode(rows)] == ["NameChanged", "NameWasChanged", "Renamed"]
    assert new(Changed("n"), types).type == "NameChanged"
    assert EventQuery.of(Changed).items[0].types == ("NameChanged", "NameWasChanged", "Renamed")


def test_an_unknown_type_is_named_with_its_position() -> None:
    with pytest.raises(UnknownEventTypeError, match=r"event 9 is a 'Nobody'.*register") as caught:
        EventTypes().decode([raw("Nobody", b"{}")])
    assert (caught.value.type_name, caught.value.position) == ("Nobody", 9)


@pytest.mark.parametrize("cls", [object, int, type("Plain", (Event,), {}), Colour])
def test_other_classes_than_data_classes_are_refused(cls: type) -> None:
    with pytest.raises(InvalidMessageTypeError, match="must be a frozen dataclass"):
        EventTypes().register(cls)


# -- schema versions ------------------------------------------------------------------------------------------


def split_name(payload: dict[str, Any]) -> dict[str, Any]:
    first, _, last = payload.pop("name").partition(" ")
    return payload | {"first": first, "last": last}


def price_in_cents(payload: dict[str, Any]) -> dict[str, Any]:
    return payload | {"price": str(Decimal(payload.pop("cents")) / 100)}


EVOLVED = event_type("Sold", version=3, upcasters={1: split_name, 2: price_in_cents}, aliases=("WasSold",))


@EVOLVED
@dataclass(frozen=True)
class SoldData(Event):
    first: str
    last: str
    price: Decimal
    at: AwareDatetime
    tags: tuple[str, ...] = ()


@EVOLVED
class SoldStruct(msgspec.Struct, frozen=True):
    first: str
    last: str
    price: Decimal
    at: AwareDatetime
    tags: tuple[str, ...] = ()


@EVOLVED
class SoldModel(pydantic.BaseModel, frozen=True, strict=True):
    first: str
    last: str
    price: Decimal
    at: AwareDatetime
    tags: tuple[str, ...] = ()


@pytest.mark.parametrize("cls", [SoldData, SoldStruct, SoldModel])
@pytest.mark.parametrize("name", ["Sold", "WasSold"])
@pytest.mark.parametrize(
    ("schema_version", "payload"),
    [
        (1, b'{"name":"Ada Lovelace","cents":1990,"at":"2024-05-01T10:00:00Z","tags":["x"]}'),
        (2, b'{"first":"Ada","last":"Lovelace","cents":1990,"at":"2024-05-01T10:00:00Z","tags":["x"]}'),
        (3, b'{"first":"Ada","last":"Lovelace","price":"19.9","at":"2024-05-01T10:00:00Z","tags":["x"]}'),
    ],
)
def test_every_older_version_is_upcast_step_by_step(cls: type, name: str, schema_version: int, payload: bytes) -> None:
    types = EventTypes()
    types.register(cls)
    (recorded,) = types.decode([raw(name, payload, schema_version)])
    event: Any = recorded.event
    assert [type(event)] == [cls]  # in a list, lest the type checker narrow it to `object`
    assert (event.first, event.last, str(event.price), event.tags) == ("Ada", "Lovelace", "19.9", ("x",))
    assert event.at.isoformat() == "2024-05-01T10:00:00+00:00"
    assert (recorded.schema_version, recorded.stored.payload) == (schema_version, payload)
    assert new(event, types).schema_version == 3


def test_versions_may_alternate_in_one_read() -> None:
    types = EventTypes()
    types.register(SoldData)
    first = raw("Sold", b'{"name":"A B","cents":100,"at":"2024-05-01T10:00:00Z"}', 1)
    third = raw("Sold", b'{"first":"A","last":"B","price":"1","at":"2024-05-01T10:00:00Z"}', 3)
    assert [recorded.event.first for recorded in types.decode([first, third, first, third])] == ["A"] * 4


def test_a_newer_schema_than_the_code_is_named() -> None:
    types = EventTypes()
    types.register(SoldData)
    with pytest.raises(NewerSchemaError, match="schema version 4, this code knows 3; deploy readers before writers"):
        types.decode([raw("Sold", b"{}", 4)])


@pytest.mark.parametrize(
    ("schema_version", "payload"),
    [
        (3, b"{}"),
        (3, b"not json"),
        (3, b""),
        (3, b'{"first":1,"last":"B","price":"1","at":"2024-05-01T10:00:00Z"}'),
        (3, b'{"first":"A","last":"B","price":"1","at":"2024-05-01T10:00:00"}'),
        (3, b"\xff\xfe"),
        (3, b"[" * 100_000),
        (2, b'{"first":"A"}'),
        (1, b"[]"),
        (1, b"null"),
        (0, b"{}"),
    ],
)
@pytest.mark.parametrize("cls", [SoldData, SoldStruct, SoldModel])
def test_an_unreadable_payload_is_named_with_position_and_cause(cls: type, schema_version: int, payload: bytes) -> None:
    types = EventTypes()
    types.register(cls)
    with pytest.raises(UnreadableEventError, match=r"event 9 \(Sold, schema version \d\) cannot be read") as caught:
        types.decode([raw("Sold", payload, schema_version)])
    assert (caught.value.type_name, caught.value.position) == ("Sold", 9)
    assert caught.value.schema_version == schema_version
    assert str(caught.value).rpartition("cannot be read: ")[2]


def test_fields_that_a_newer_writer_added_are_ignored() -> None:
    types = EventTypes()
    types.register(Ordered, Cancelled)
    ordered = b'{"order_id":"o1","lines":[],"total":"0","at":null,"count":0,"later":1}'
    rows = [raw("Ordered", ordered), raw("Cancelled", b'{"order_id":"o1","at":null,"refund":"1","later":1}')]
    assert [recorded.event.order_id for recorded in types.decode(rows)] == ["o1", "o1"]


def encode_all(*events: object) -> tuple[NewEvent, ...]:
    ids = [UUID(int=number).bytes for number in range(len(events))]
    return EventTypes().encode_all(events, ids, "Order-1", "Order", b'{"user":"clerk"}')


def test_many_events_are_encoded_as_each_is_alone() -> None:
    many = [
        Ordered(order_id=str(number), count=number) if number % 7 else Shipped(order_id=str(number))
        for number in range(MANY * 3)
    ]
    types = EventTypes()
    alone = [
        types.encode(event, UUID(int=number), "Order-1", "Order", b'{"user":"clerk"}')
        for number, event in enumerate(many)
    ]
    assert list(encode_all(*many)) == alone


@pytest.mark.parametrize("event", [Ordered(order_id="a\0b"), Ordered(order_id="x" * MAX_PAYLOAD)])
def test_one_among_many_that_cannot_be_stored_is_refused(event: Ordered) -> None:
    with pytest.raises((InvalidEventError, LimitExceededError)) as alone:
        encode_all(event)
    with pytest.raises(type(alone.value)) as among:
        encode_all(*[Ordered(order_id="o")] * MANY, event, *[Ordered(order_id="o")] * MANY)
    assert str(among.value) == str(alone.value)


def test_one_among_many_whose_values_do_not_fit_is_named() -> None:
    with pytest.raises(InvalidEventError, match="Ordered cannot be stored: Expected `int`, got `str`"):
        encode_all(*[Ordered(order_id="o")] * MANY, Ordered(order_id="o", count="many"))  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [1, MANY])
def test_every_event_needs_an_id(count: int) -> None:
    with pytest.raises(ValueError, match=f"{count} events need as many ids, got {count - 1}"):
        EventTypes().encode_all([Ordered(order_id="o")] * count, [b"x" * 16] * (count - 1), "", "", b"{}")
