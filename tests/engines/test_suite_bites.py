"""The conformance suite is worth what it catches: every planted bug turns it red, and the right test says so."""

from __future__ import annotations

import asyncio
import inspect

import pytest
from tests.engines.broken_logs import BROKEN, IN_TIME, UNMODELLED

from twofold.engines.memory import MemoryEventLog
from twofold.testing import EventLogConformance

CAUGHT_BY = {
    "NoConditionCheck": "test_a_read_that_found_nothing_still_protects",
    "NoVersionCheck": "test_the_first_append_of_two_with_one_expectation_wins",
    "NoEndCheck": "test_a_closed_stream_takes_no_more_events",
    "VersionsOffByOne": "test_versions_count_the_events_of_each_stream_from_one",
    "PartialAppend": "test_a_rejected_append_of_several_streams_stores_nothing_of_any",
    "NoIdempotency": "test_a_repeat_is_recognised_under_another_expectation",
    "CommandsForgotten": "test_a_command_that_took_effect_is_found",
    "TagsOred": "test_a_condition_fails_on_exactly_the_events_that_match",
    "AfterIncluded": "test_after_and_before_are_exclusive",
    "ConditionAfterIncluded": "test_a_condition_looks_only_behind_its_position",
    "EmptyReadUnprotected": "test_a_read_that_found_nothing_still_protects",
    "ItemsReadOneByOne": "test_a_query_returns_each_matching_event_once_and_in_order",
    "LimitBeforeOrder": "test_pages_backwards_make_up_the_whole",
    "GapAfterRejection": "test_a_rejected_append_leaves_no_gap_in_the_positions",
    "ConflictsWithheld": "test_a_wrong_version_answers_with_the_newer_events_in_order",
    "PayloadRewritten": "test_awkward_text_comes_back_byte_for_byte",
    "MarksNotCompared": "test_a_scan_refuses_a_mark_of_another_history",
    "CoveredToTheHead": "test_a_scan_covers_up_to_its_last_row_if_there_may_be_more",
    "CommittedLate": "test_wait_and_read_in_turns_miss_nothing",
    "Polling": "test_waiting_is_woken_and_does_not_look_again_and_again",
}


def cases(name: str) -> list[dict[str, object]]:
    """Return the parameters of each case of a test of the suite."""
    found: list[dict[str, object]] = [{}]
    for mark in getattr(getattr(EventLogConformance, name), "pytestmark", ()):
        if mark.name == "parametrize":
            names = [mark.args[0]] if isinstance(mark.args[0], str) else mark.args[0]
            values = [getattr(case, "values", case) for case in mark.args[1]]
            found = [dict(zip(names, v if isinstance(v, tuple) else (v,), strict=True)) for v in values]
    return found


def failures(log_type: type[MemoryEventLog]) -> set[str]:
    """Return the names of the tests that fail on a log."""
    failed = set()
    for name, test in inspect.getmembers(EventLogConformance, inspect.isfunction):
        if not name.startswith("test_") or "another" in inspect.signature(test).parameters:
            continue
        for case in cases(name):
            try:
                asyncio.run(test(EventLogConformance(), log_type(), **case))
            except (Exception, pytest.fail.Exception):  # the latter is no Exception
                failed.add(name)
    return failed


def test_nothing_fails_on_the_reference() -> None:
    assert failures(MemoryEventLog) == set()


@pytest.mark.parametrize("bug", sorted(BROKEN | IN_TIME | UNMODELLED))
def test_a_planted_bug_is_caught(bug: str) -> None:
    assert CAUGHT_BY[bug] in failures((BROKEN | IN_TIME | UNMODELLED)[bug])
