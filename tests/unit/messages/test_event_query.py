from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from twofold.messages.event import Event, event_type
from twofold.messages.event_query import AppendCondition, EventQuery, QueryItem


@event_type("seat_taken", aliases=("SeatReserved",))
@dataclass(frozen=True)
class SeatTaken(Event):
    pass


@dataclass(frozen=True)
class SeatFreed(Event):
    pass


@pytest.mark.parametrize(
    ("item", "matched"),
    [
        (QueryItem(), {"A", "Ax", "Axy", "Bx", "C"}),
        (QueryItem(types=("A",)), {"A", "Ax", "Axy"}),
        (QueryItem(types=("A", "C")), {"A", "Ax", "Axy", "C"}),
        (QueryItem(tags=("x",)), {"Ax", "Axy", "Bx"}),
        (QueryItem(tags=("x", "y")), {"Axy"}),
        (QueryItem(types=("B", "C"), tags=("x",)), {"Bx"}),
    ],
)
def test_types_are_alternatives_and_tags_must_all_be_there(item: QueryItem, matched: set[str]) -> None:
    events = ("A", "Ax", "Axy", "Bx", "C")
    assert {event for event in events if item.matches(event[0], tuple(event[1:]))} == matched


def test_one_matching_item_is_enough() -> None:
    query = EventQuery((QueryItem(types=("A",)), QueryItem(tags=("x",))))
    assert query.matches("A", ())
    assert query.matches("B", ("x",))
    assert not query.matches("B", ("y",))


def test_an_empty_query_is_refused_and_names_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"EventQuery\.all\(\)"):
        EventQuery(())


def test_all_matches_everything() -> None:
    assert EventQuery.all().matches("anything", ())
    assert EventQuery.all().is_all


def test_a_query_is_all_as_soon_as_one_of_its_items_is() -> None:
    assert (EventQuery.of("A") | EventQuery.all()).is_all
    assert not (EventQuery.of("A") | EventQuery.of(tags=["x"])).is_all


def test_classes_stand_for_their_stored_names_and_aliases() -> None:
    query = EventQuery.of(SeatTaken, SeatFreed, "Other", tags=["seat:1"])
    assert query.items == (QueryItem(("seat_taken", "SeatReserved", "SeatFreed", "Other"), ("seat:1",)),)


def test_a_single_string_is_not_taken_for_several_tags() -> None:
    with pytest.raises(TypeError, match=r"tags=\['seat:1'\]"):
        EventQuery.of(SeatTaken, tags="seat:1")


def test_joined_queries_keep_each_item_once() -> None:
    first, second = EventQuery.of("A"), EventQuery.of("B")
    assert (first | second | first).items == (*first.items, *second.items)


def test_queries_and_conditions_are_values() -> None:
    assert hash(EventQuery.of("A")) == hash(EventQuery.of("A"))
    assert AppendCondition(EventQuery.of("A"), 3) == AppendCondition(EventQuery.of("A"), 3)
    assert AppendCondition(EventQuery.of("A")).after is None


class Vehicle(Event):
    """Only its subclasses are stored."""


@dataclass(frozen=True)
class Car(Vehicle):
    plate: str


@dataclass(frozen=True)
class Taxi(Car):
    """A car, too."""


@dataclass(frozen=True)
class Lorry(Vehicle):
    load: int


class Plane(Event):
    """It has no subclass, and is not stored."""


def test_a_base_class_means_its_subclasses() -> None:
    assert set(EventQuery.of(Vehicle).items[0].types) == {"Car", "Taxi", "Lorry"}
    assert set(EventQuery.of(Car, Taxi).items[0].types) == {"Car", "Taxi"}
    assert EventQuery.exactly(Car).items[0].types == ("Car",)


@pytest.mark.parametrize("cls", [Event, Plane, int])
def test_a_class_of_which_there_is_no_event_is_refused(cls: type) -> None:
    with pytest.raises(TypeError, match=f"no event can be a {cls.__qualname__} itself"):
        EventQuery.of(cls)


def test_what_is_neither_a_class_nor_a_name_is_refused() -> None:
    with pytest.raises(TypeError, match="an event query names classes or stored names, not"):
        EventQuery.of(Lorry(load=3))  # type: ignore[arg-type]


@pytest.mark.parametrize("tag", [None, 7, ("customer", "c1")])
def test_a_tag_that_is_no_text_is_refused(tag: Any) -> None:
    with pytest.raises(TypeError, match='a tag is a text such as "customer:c1"'):
        EventQuery.of(Lorry, tags=[tag])
