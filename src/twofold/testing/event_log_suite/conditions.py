"""What an append condition protects, with the semantics of https://dcb.events/specification/."""
# ruff: noqa: D102  # a test's name is its sentence; asserts are its point

from __future__ import annotations

import pytest

from twofold.messages.event_query import EventQuery, QueryItem
from twofold.messages.stored_event import is_intact
from twofold.ports.event_log import MAX_CONFLICTS, Appended, EventLog, Rejected
from twofold.testing.samples import Noted, Revised, Withdrawn, append_of, new_event, span, topic

EVERYTHING = EventQuery.all()
THOUSAND = EventQuery(tuple(QueryItem(("Noted",), (f"topic:t{n}", "topic:all")) for n in range(1000)))


async def seed(log: EventLog) -> None:
    """Store four events: Noted x, Revised x and y, Noted y, Withdrawn without tags."""
    await log.append(append_of(new_event("Note-1", "x")))
    await log.append(append_of(new_event("Note-1", "x", "y", kind=Revised), new_event("", "y")))
    await log.append(append_of(new_event("Note-2", kind=Withdrawn)))


async def verdict(log: EventLog, fail_if: EventQuery, after: int | None) -> list[int]:
    """Return the positions that an append conflicts with; none if it was stored."""
    outcome = await log.append(append_of(new_event("", "new"), fail_if=fail_if, after=after))
    return [row.position for row in outcome.conflicts] if isinstance(outcome, Rejected) else []


class ConditionPromises:
    """An append fails if an event that matches the query stands after the position."""

    @pytest.mark.parametrize(
        ("fail_if", "conflicts"),
        [
            pytest.param(topic("x"), [1, 2], id="a tag"),
            pytest.param(topic("x", "y"), [2], id="tags are AND-ed"),
            pytest.param(topic("y", "x"), [2], id="in any order"),
            pytest.param(topic("x", "z"), [], id="one of the tags is missing"),
            pytest.param(topic(kinds=(Noted,)), [1, 3], id="a type"),
            pytest.param(topic(kinds=(Revised, Withdrawn)), [2, 4], id="types are OR-ed"),
            pytest.param(topic("x", kinds=(Noted,)), [1], id="a type and a tag"),
            pytest.param(topic("y", kinds=(Noted, Withdrawn)), [3], id="types and a tag"),
            pytest.param(topic("x", "y", kinds=(Noted,)), [], id="tags match and the type does not"),
            pytest.param(topic("x", kinds=(Withdrawn,)), [], id="type and tag match different events"),
            pytest.param(topic("x") | topic("y"), [1, 2, 3], id="items are OR-ed"),
            pytest.param(topic("x", "y") | topic(kinds=(Withdrawn,)), [2, 4], id="items of different kinds"),
            pytest.param(topic("absent") | topic("none"), [], id="no item matches"),
            pytest.param(EVERYTHING, [1, 2, 3, 4], id="all"),
            pytest.param(topic("absent") | EVERYTHING, [1, 2, 3, 4], id="all beside another item"),
        ],
    )
    async def test_a_condition_fails_on_exactly_the_events_that_match(
        self, log: EventLog, fail_if: EventQuery, conflicts: list[int]
    ) -> None:
        await seed(log)
        assert await verdict(log, fail_if, None) == conflicts
        assert await log.head() == (4 if conflicts else 5)

    @pytest.mark.parametrize(
        ("after", "conflicts"),
        [(None, [1, 2]), (0, [1, 2]), (1, [2]), (2, []), (4, []), (5, []), (1_000_000, [])],
    )
    async def test_a_condition_looks_only_behind_its_position(
        self, log: EventLog, after: int | None, conflicts: list[int]
    ) -> None:
        await seed(log)
        assert await verdict(log, topic("x"), after) == conflicts

    @pytest.mark.parametrize("after", [None, 0, 7])
    async def test_any_condition_holds_on_an_empty_log(self, log: EventLog, after: int | None) -> None:
        assert await verdict(log, EVERYTHING, after) == []
        assert await log.head() == 1

    @pytest.mark.parametrize("after", [None, 0])
    async def test_a_read_that_found_nothing_still_protects(self, log: EventLog, after: int | None) -> None:
        assert not await log.read(topic("x"), limit=10)
        first = await log.append(append_of(new_event("", "x"), fail_if=topic("x"), after=after))
        second = await log.append(append_of(new_event("", "x"), fail_if=topic("x"), after=after))
        assert isinstance(first, Appended)
        assert isinstance(second, Rejected)
        assert await log.head() == 1

    async def test_a_position_beyond_the_head_considers_what_comes_after_it(self, log: EventLog) -> None:
        await log.append(append_of(new_event("", "x")))
        for position in (2, 3):
            appended = await log.append(append_of(new_event("", "x"), fail_if=topic("x"), after=3))
            assert span(appended) == (position, position)
        await log.append(append_of(new_event("", "x")))
        rejected = await log.append(append_of(new_event("", "x"), fail_if=topic("x"), after=3))
        assert isinstance(rejected, Rejected)
        assert [row.position for row in rejected.conflicts] == [4]

    async def test_a_condition_does_not_fail_on_the_events_of_its_own_append(self, log: EventLog) -> None:
        both = (new_event("", "x"), new_event("", "x"))
        assert span(await log.append(append_of(*both, fail_if=topic("x")))) == (1, 2)

    async def test_a_condition_covers_events_of_streams_and_of_none(self, log: EventLog) -> None:
        await log.append(append_of(new_event("Note-1", "x"), new_event("", "x")))
        assert await verdict(log, topic("x"), None) == [1, 2]

    async def test_a_rejection_carries_the_conflicting_rows_in_order(self, log: EventLog) -> None:
        await seed(log)
        rejected = await log.append(append_of(new_event("", "x"), fail_if=topic("y") | topic("x"), after=1))
        assert isinstance(rejected, Rejected)
        assert rejected.conflicts == tuple(await log.read(topic("x") | topic("y"), after=1, limit=100))
        assert all(is_intact(row) for row in rejected.conflicts)
        assert rejected.reason

    async def test_a_rejection_carries_a_limited_number_of_conflicts(self, log: EventLog) -> None:
        await log.append(append_of(*(new_event("", "x") for _ in range(MAX_CONFLICTS + 20))))
        rejected = await log.append(append_of(new_event("", "x"), fail_if=topic("x"), after=3))
        assert isinstance(rejected, Rejected)
        assert [row.position for row in rejected.conflicts] == list(range(4, MAX_CONFLICTS + 4))

    async def test_an_event_that_two_items_match_is_one_conflict(self, log: EventLog) -> None:
        await seed(log)
        assert await verdict(log, topic("x") | topic("y") | topic("x", "y"), 1) == [2, 3]

    async def test_a_condition_may_have_a_thousand_items(self, log: EventLog) -> None:
        await log.append(append_of(new_event("", "t999", "all"), new_event("", "t5"), new_event("", "t0", "all")))
        assert await verdict(log, THOUSAND, None) == [1, 3]
        assert await verdict(log, THOUSAND, 3) == []

    async def test_a_condition_may_have_many_types_and_tags(self, log: EventLog) -> None:
        await log.append(append_of(new_event("", *(f"t{n}" for n in range(40)))))
        many = QueryItem((*(f"Type{n}" for n in range(100)), "Noted"), tuple(f"topic:t{n}" for n in range(30)))
        assert await verdict(log, EventQuery((many,)), None) == [1]
        assert await verdict(log, EventQuery((QueryItem(many.types),)), 0) == [1]
        assert await verdict(log, EventQuery((QueryItem(many.types[:-1], many.tags),)), None) == []

    async def test_names_that_contain_one_another_are_told_apart(self, log: EventLog) -> None:
        await log.append(append_of(new_event("", "c1"), new_event("", "c12"), new_event("", "C1")))
        assert await verdict(log, topic("c1"), None) == [1]
        assert await verdict(log, EventQuery((QueryItem(("Note",), ("topic:c",)),)), None) == []

    async def test_a_condition_and_an_expectation_must_both_hold(self, log: EventLog) -> None:
        await seed(log)
        event = new_event("Note-1", "x")
        for expected, after in ((2, 1), (1, 2)):
            outcome = await log.append(append_of(event, expected={"Note-1": expected}, fail_if=topic("x"), after=after))
            assert isinstance(outcome, Rejected)
        both = append_of(event, expected={"Note-1": 2}, fail_if=topic("x"), after=2)
        assert span(await log.append(both)) == (5, 5)
