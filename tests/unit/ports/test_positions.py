"""What a process knows of how far read models have come: from its own runners, and from what it is told of others."""

from __future__ import annotations

from twofold.ports.positions import Positions
from twofold.ports.segments import Segment

WHOLE = Segment("a", 1)
LEFT, RIGHT = WHOLE._replace(end=100), WHOLE._replace(first=100)


def complete(positions: Positions, generation: int = 1) -> int:
    return positions.watermark("a", generation).position


def test_a_read_model_is_as_complete_as_the_segment_that_is_furthest_behind() -> None:
    positions = Positions()
    positions.reached(LEFT, 1, 7)
    assert complete(positions) == 0
    positions.reached(RIGHT, 1, 5)
    assert complete(positions) == 5
    positions.reached(RIGHT, 1, 9)
    assert (complete(positions), complete(positions, 2)) == (7, 0)


def test_segments_may_be_divided_and_joined() -> None:
    positions = Positions()
    positions.reached(WHOLE, 1, 5)
    positions.reached(LEFT, 2, 8)
    positions.reached(RIGHT, 2, 6)
    assert complete(positions) == 6
    positions.reached(WHOLE, 3, 8)
    assert complete(positions) == 8


def test_news_of_an_earlier_epoch_is_outdated() -> None:
    positions = Positions()
    positions.reached(WHOLE, 4, 0)
    positions.reached(WHOLE, 3, 9)
    positions.reached(LEFT, 3, 9)
    positions.reached(RIGHT, 3, 9)
    assert complete(positions) == 0


def test_a_read_model_that_was_set_back_is_not_complete_any_more() -> None:
    positions = Positions()
    positions.reached(WHOLE, 1, 9)
    positions.reached(WHOLE, 2, 3)
    assert complete(positions) == 3
    positions.reached(WHOLE, 2, 4)
    assert complete(positions) == 4


def test_a_database_that_was_restored_begins_with_lower_epochs_again() -> None:
    positions = Positions()
    positions.reached(WHOLE, 5, 9)
    positions.read({WHOLE: (5, 8)})
    assert complete(positions) == 9, "what was read may be older than the news"
    positions.read({LEFT: (2, 4), RIGHT: (3, 5)})
    assert complete(positions) == 4
    positions.reached(LEFT, 2, 6)
    assert complete(positions) == 5
    positions.reached(RIGHT, 2, 7)
    assert complete(positions) == 5, "of an earlier epoch than was read"
    positions.reached(RIGHT, 3, 7)
    assert complete(positions) == 6
