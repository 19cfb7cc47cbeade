"""Rows that are kept in mind between the steps of a segment, and when they are not to be relied on."""

from __future__ import annotations

import pytest

from twofold.ports.segments import Segment, Step
from twofold.projections.rows.row_cache import RowCache

LEFT, RIGHT = Segment("sales", 1, 0, 128), Segment("sales", 1, 128, 256)


def test_what_a_step_left_is_known_to_the_next_one() -> None:
    known = RowCache()
    assert known.take(Step(LEFT, 1, 0, 5)) == {}
    known.give_back(Step(LEFT, 1, 0, 5), {"a": 1, "b": None})
    assert known.take(Step(LEFT, 1, 5, 9)) == {"a": 1, "b": None}


def test_what_a_step_left_is_not_known_behind_another_event() -> None:
    """A database that is restored comes to the same position under the same epoch once more."""
    known = RowCache()
    known.give_back(Step(LEFT, 1, 0, 5, event_id="aa"), {"a": 1})
    assert known.take(Step(LEFT, 1, 5, 9, before_id="bb")) == {}
    known.give_back(Step(LEFT, 1, 0, 5, event_id="aa"), {"a": 1})
    assert known.take(Step(LEFT, 1, 5, 9, before_id="aa")) == {"a": 1}


def test_what_a_step_on_the_spot_left_is_not_known() -> None:
    """The retry of parked events changes rows, and neither epoch nor position."""
    known = RowCache()
    known.give_back(Step(LEFT, 1, 5, 5), {"a": 1})
    assert known.take(Step(LEFT, 1, 5, 9)) == {}


@pytest.mark.parametrize(
    "step", [Step(LEFT, 2, 5, 9), Step(LEFT, 1, 4, 9), Step(RIGHT, 1, 5, 9), Step(LEFT._replace(generation=2), 1, 5, 9)]
)
def test_nothing_is_known_under_another_epoch_at_another_position_or_of_another_segment(step: Step) -> None:
    known = RowCache()
    known.give_back(Step(LEFT, 1, 0, 5), {"a": 1})
    assert known.take(step) == {}


def test_after_a_step_whose_outcome_is_open_nothing_is_known() -> None:
    known = RowCache()
    known.give_back(Step(LEFT, 1, 0, 5), {"a": 1})
    known.take(Step(LEFT, 1, 5, 5))
    assert known.take(Step(LEFT, 1, 5, 5)) == {}


def test_what_is_known_does_not_grow_for_ever() -> None:
    known = RowCache(capacity=3)
    known.give_back(Step(LEFT, 1, 0, 5), {"a": 1, "b": 2})
    known.give_back(Step(RIGHT, 1, 0, 5), {"c": 3, "d": 4})
    assert known.take(Step(LEFT, 1, 5, 9)) == {}
    assert known.take(Step(RIGHT, 1, 5, 9)) == {"c": 3, "d": 4}
    known.give_back(Step(RIGHT, 1, 5, 9), {"c": 3, "d": 4, "e": 5, "f": 6})
    assert known.take(Step(RIGHT, 1, 9, 9)) == {}
