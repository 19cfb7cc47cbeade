from __future__ import annotations

from dataclasses import dataclass

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
