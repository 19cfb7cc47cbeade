"""Parked events are grouped by the error and the innermost place in the application's own code."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from twofold.inspection import parked_groups
from twofold.inspection.parked import own_frame
from twofold.synchronizer.parking import ParkedEvent

LIBRARY = "/app/.venv/lib/python3.12/site-packages"


def traceback(*frames: tuple[str, int, str]) -> str:
    lines = [f'  File "{file}", line {line}, in {name}\n    code()\n' for file, line, name in frames]
    return "Traceback (most recent call last):\n" + "".join(lines) + "ValueError: no\n"


def parked(position: int, key: str, cause: str = "", line: int = 1) -> ParkedEvent:
    trace = traceback((f"{LIBRARY}/twofold/projections/folding.py", 9, "fold"), ("/app/shop/views.py", line, "sold"))
    at = datetime(2026, 5, 31, tzinfo=UTC) + timedelta(seconds=position)
    return ParkedEvent(
        position=position, event_id=uuid4(), key=key, cause=cause, traceback=trace if cause else "", parked_at=at
    )


def test_the_place_is_the_innermost_that_is_no_librarys() -> None:
    inner = (f"{LIBRARY}/money/amount.py", 7, "__sub__"), ("/usr/lib/python3.12/decimal.py", 5, "quantize")
    outer = (f"{LIBRARY}/twofold/projections/folding.py", 9, "fold"), ("/app/shop/views.py", 31, "sold")
    assert own_frame(traceback(*outer, *inner)) == "views.py:31 in sold"
    assert own_frame(traceback(outer[0], inner[0])) == "amount.py:7 in __sub__", "where all are, it is the innermost"
    assert own_frame(traceback((r"C:\shop\views.py", 3, "sold"))) == "views.py:3 in sold"
    assert own_frame("") == ""


def test_events_that_failed_alike_are_one_group_with_those_that_wait_behind_them() -> None:
    found = parked_groups(
        [
            parked(1, "a", "ValueError: 1"), parked(2, "b", "ValueError: 2", line=2), parked(3, "a"),
            parked(4, "c", "ValueError: 3"), parked(5, "b", "KeyError: x", line=2), parked(6, "c"), parked(7, "z"),
        ]
    )  # fmt: skip
    assert [(each.error, each.place, each.failed, each.waiting, each.first, each.last) for each in found] == [
        ("ValueError", "views.py:1 in sold", 2, 2, 1, 4),
        ("ValueError", "views.py:2 in sold", 1, 0, 2, 2),
        ("KeyError", "views.py:2 in sold", 1, 0, 5, 5),
        ("", "", 0, 1, 7, 7),
    ]
    assert found[0].example.position == 1
    assert found[0].since == datetime(2026, 5, 31, 0, 0, 1, tzinfo=UTC)
