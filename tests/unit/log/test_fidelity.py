"""What is accepted comes back equal, or is refused with the name of its field: whatever the class and the values."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any
from uuid import UUID

import pydantic
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tests.any_values import (
    ODD_ZONE,
    GiftLine,
    Incomparable,
    Lax,
    Line,
    Size,
    Wrapped,
    fields,
    is_same,
    made,
)

from twofold.errors import InvalidEventError, InvalidMessageTypeError
from twofold.log.codec.event_types import EventTypes, encode_metadata
from twofold.messages.event import AwareDatetime, Metadata, Tag, event_type
from twofold.messages.stored_event import record


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), kind=st.sampled_from(["dataclass", "dataclass", "struct", "pydantic"]))
def test_events_of_any_class_come_back_equal_or_are_refused_by_their_field(data: st.DataObject, kind: str) -> None:
    chosen = data.draw(st.lists(fields(), min_size=1, max_size=3))
    try:
        cls = made(kind, [hint for hint, _ in chosen])
        event = cls(**{f"field_{n}": data.draw(values) for n, (_, values) in enumerate(chosen)})
    except (pydantic.ValidationError, pydantic.errors.PydanticUserError, TypeError, InvalidOperation):
        assume(False)
    known = EventTypes()
    try:
        new = known.encode(event, UUID(int=1), "Order-1", "Order", b"{}")
    except (InvalidEventError, InvalidMessageTypeError) as error:
        refused = str(error)
    else:
        [recorded] = known.decode([record(new, 1, 1, 1)])
        assert is_same(event, recorded.event)
        return
    assert "field_" in refused, refused


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (Line, GiftLine("tea", Decimal(1), "a bow")),
        (Wrapped, Wrapped(Decimal(1))),
        (Any, Decimal("1.5")),
        (object, UUID(int=1)),
        (dict[str, Any], {"at": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)}),
        (list, [Decimal(1)]),
        (dict[str, float | None], {"x": float("inf")}),
        (tuple[float | None, ...], (float("nan"),)),
        (AwareDatetime, dt.datetime(2026, 1, 1, tzinfo=ODD_ZONE)),
        (Any, {1: "a"}),
        (Decimal, 0.1),
        (UUID, str(UUID(int=1))),
        (Incomparable, Incomparable(float("inf"))),
        (Lax, Lax(1, note=Decimal(1))),
    ],
    ids=lambda each: type(each).__name__,
)
@pytest.mark.parametrize("kind", ["dataclass", "struct"])
def test_a_value_that_would_not_come_back_equal_is_refused_with_the_name_of_its_field(
    kind: str, hint: Any, value: object
) -> None:
    event = made(kind, [hint])(value)
    with pytest.raises(InvalidEventError, match="field_0"):
        EventTypes().encode(event, UUID(int=1), "Order-1", "Order", b"{}")
    with pytest.raises(InvalidEventError, match="field_0"):
        EventTypes().encode_all([event] * 20, [UUID(int=n).bytes for n in range(20)], "Order-1", "Order", b"{}")


@pytest.mark.parametrize("kind", ["dataclass", "struct", "pydantic"])
def test_a_secret_is_refused_when_the_class_is_registered(kind: str) -> None:
    if kind == "struct":
        pytest.skip("msgspec refuses the class itself")
    with pytest.raises(InvalidMessageTypeError, match=r"field_0 is a SecretStr, which is stored as asterisks"):
        EventTypes().register(made(kind, [pydantic.SecretStr]))


@pytest.mark.parametrize("key", [int, UUID, Size, Decimal, dt.date])
def test_a_mapping_whose_keys_are_no_text_is_refused_when_the_class_is_registered(key: Any) -> None:
    with pytest.raises(InvalidMessageTypeError, match=r"field_0 is a mapping whose keys are no text.*dict\[str, …\]"):
        EventTypes().register(made("dataclass", [dict[key, int]]))


@pytest.mark.parametrize("field", ["user", "tenant", "extra", "command_id"])
def test_metadata_of_another_type_is_refused_with_the_name_of_the_field(field: str) -> None:
    with pytest.raises(InvalidEventError, match=field):
        encode_metadata(Metadata(**{field: 42}))  # type: ignore[arg-type]


# -- stored fields that a class does not know -----------------------------------------------------------------------


@event_type("Paid")
@dataclass(frozen=True)
class PaidBefore:
    amount: Decimal


@event_type("Paid")
@dataclass(frozen=True)
class Paid:
    total: Decimal = Decimal(0)


@event_type("Paid", version=2, upcasters={1: lambda data: {"total": data["amount"]}})
@dataclass(frozen=True)
class PaidUpcast:
    total: Decimal = Decimal(0)


@event_type("Paid")
@dataclass(frozen=True)
class PaidWithNote:
    amount: Decimal
    note: str = ""


@event_type("Carried")
@dataclass(frozen=True)
class CarriedBefore:
    lines: tuple[PaidBefore, ...]


@event_type("Carried")
@dataclass(frozen=True)
class Carried:
    lines: tuple[Paid, ...]


def read_as(cls: type, event: object) -> Any:
    known = EventTypes()
    known.register(cls)
    new = EventTypes().encode(event, UUID(int=1), "", "", b"{}")
    return known.decode([record(new, 1, 0, 1)])[0].event


@pytest.mark.parametrize(
    ("cls", "event"),
    [(Paid, PaidBefore(Decimal(5))), (Carried, CarriedBefore((PaidBefore(Decimal(5)),)))],
    ids=["renamed", "renamed within a list"],
)
def test_a_renamed_field_is_not_read_as_its_default(cls: type, event: object) -> None:
    with pytest.raises(Exception, match=r"amount is unknown to the class, which would fill in total by its default"):
        read_as(cls, event)


def test_an_upcaster_renames_a_field() -> None:
    assert read_as(PaidUpcast, PaidBefore(Decimal(5))) == PaidUpcast(Decimal(5))


def test_a_field_that_was_added_with_a_default_is_filled_in() -> None:
    assert read_as(PaidWithNote, PaidBefore(Decimal(5))) == PaidWithNote(Decimal(5))


# -- tags -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [1.5, Decimal("1.10"), dt.date(2026, 1, 1), Line("tea")], ids=str)
def test_a_tag_of_what_has_no_one_way_to_be_written_is_refused(value: Any) -> None:
    cls: Any = made("dataclass", [Annotated[type(value), Tag("x")]])
    with pytest.raises((InvalidEventError, InvalidMessageTypeError), match="tags are made of text"):
        EventTypes().encode(cls(value), UUID(int=1), "", "", b"{}")
