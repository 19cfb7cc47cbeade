"""Positions are opaque and ordered, and the same text everywhere."""

from __future__ import annotations

import copy
import json
import pickle
from uuid import UUID

import pydantic
import pytest

from twofold import Position
from twofold.messages.mark import Mark

EVENT = UUID("01a215d6-174b-7544-acac-233fb88704b2").bytes


def test_positions_are_ordered_among_each_other_and_with_the_ints_of_events() -> None:
    assert sorted([Position(3), Position(1, EVENT), Position(2)]) == [1, 2, 3]
    assert Position(2) > 1
    assert max(Position(2, EVENT), Position(1)).event_id == EVENT
    assert {Position(2), Position(2, EVENT), 2} == {2}


@pytest.mark.parametrize("position", [Position(), Position(7), Position(2**63 - 1, EVENT)])
def test_a_position_comes_back_from_its_text_with_its_event(position: Position) -> None:
    again = Position.parse(position.text)
    assert (again, again.event_id) == (position, position.event_id)


@pytest.mark.parametrize(
    "text",
    ["", "x", "-1", "1.0", " 1", "1-", "1-00", f"1-{EVENT.hex().upper()}", "1" * 20, "\N{ARABIC-INDIC DIGIT ONE}"],
)
def test_what_is_no_text_of_a_position_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no position"):
        Position.parse(text)


def test_a_position_is_shown_as_its_number() -> None:
    assert (str(Position(7, EVENT)), f"{Position(1234, EVENT):,}", repr(Position(7))) == ("7", "1,234", "Position(7)")


def test_a_position_survives_copies_and_is_a_number_in_json() -> None:
    for twin in (copy.deepcopy(Position(7, EVENT)), pickle.loads(pickle.dumps(Position(7, EVENT)))):
        assert (twin, twin.event_id) == (7, EVENT)
    assert json.dumps([Position(7, EVENT)]) == "[7]"
    assert pydantic.TypeAdapter(list[int]).dump_json([Position(7, EVENT)]) == b"[7]"


def test_a_position_is_the_mark_of_its_event() -> None:
    assert Mark.of(Position(7, EVENT)) == Mark(7, EVENT)
    assert Mark.of(7) == Mark(7)
