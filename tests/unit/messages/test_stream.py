from __future__ import annotations

import pytest

from twofold.messages.stream import ANY, STREAM_EXISTS, ExpectedVersion, holds


@pytest.mark.parametrize(
    ("expected", "accepted"),
    [(0, {0}), (1, {1}), (5, {5}), (ANY, {0, 1, 5}), (STREAM_EXISTS, {1, 5})],
)
def test_an_expectation_accepts_exactly_these_versions(expected: ExpectedVersion, accepted: set[int]) -> None:
    assert {version for version in (0, 1, 5) if holds(expected, version)} == accepted


def test_expectations_are_shown_by_their_names() -> None:
    assert (repr(ANY), repr(STREAM_EXISTS)) == ("ANY", "STREAM_EXISTS")
