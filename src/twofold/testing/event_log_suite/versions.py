"""What an append may expect of streams."""
# ruff: noqa: D102  # a test's name is its sentence; asserts are its point

from __future__ import annotations

import pytest

from twofold.messages.stream import ANY, STREAM_EXISTS, ExpectedVersion
from twofold.ports.event_log import MAX_CONFLICTS, Appended, EventLog, Rejected
from twofold.testing.samples import append_of, new_event, span


class VersionPromises:
    """An append is stored only if each stream that it names is as expected."""

    @pytest.mark.parametrize("expected", [0, ANY])
    async def test_a_new_stream_accepts_zero_and_any(self, log: EventLog, expected: ExpectedVersion) -> None:
        assert span(await log.append(append_of(new_event("Note-1"), expected={"Note-1": expected}))) == (1, 1)

    @pytest.mark.parametrize("expected", [1, 7, STREAM_EXISTS])
    async def test_a_new_stream_rejects_the_rest(self, log: EventLog, expected: ExpectedVersion) -> None:
        rejected = await log.append(append_of(new_event("Note-1"), expected={"Note-1": expected}))
        assert isinstance(rejected, Rejected)
        assert (rejected.stream_id, rejected.version, rejected.conflicts) == ("Note-1", 0, ())
        assert await log.head() == 0

    @pytest.mark.parametrize("expected", [2, ANY, STREAM_EXISTS])
    async def test_a_stream_accepts_its_exact_version_and_any_and_exists(
        self, log: EventLog, expected: ExpectedVersion
    ) -> None:
        await log.append(append_of(new_event("Note-1"), new_event("Note-1")))
        assert span(await log.append(append_of(new_event("Note-1"), expected={"Note-1": expected}))) == (3, 3)

    @pytest.mark.parametrize("expected", [0, 1, 3])
    async def test_a_stream_rejects_every_other_version(self, log: EventLog, expected: int) -> None:
        await log.append(append_of(new_event("Note-1"), new_event("Note-1")))
        rejected = await log.append(append_of(new_event("Note-1"), expected={"Note-1": expected}))
        assert isinstance(rejected, Rejected)
        assert (rejected.stream_id, rejected.version) == ("Note-1", 2)
        assert await log.head() == 2

    async def test_a_wrong_version_answers_with_the_newer_events_in_order(self, log: EventLog) -> None:
        await log.append(append_of(*(new_event("Note-1", text=str(n)) for n in range(5)), new_event("Note-2")))
        rejected = await log.append(append_of(new_event("Note-1"), expected={"Note-1": 2}))
        assert isinstance(rejected, Rejected)
        assert rejected.conflicts == tuple(await log.read_stream("Note-1", after=2, limit=100))
        assert [row.version for row in rejected.conflicts] == [3, 4, 5]

    async def test_a_rejection_says_what_was_found_and_expected(self, log: EventLog) -> None:
        await log.append(append_of(new_event("Note-1")))
        rejected = await log.append(append_of(new_event("Note-1"), expected={"Note-1": 4}))
        assert isinstance(rejected, Rejected)
        assert all(fact in rejected.reason for fact in ("Note-1", "1", "4"))

    async def test_a_rejection_carries_a_limited_number_of_newer_events(self, log: EventLog) -> None:
        await log.append(append_of(*(new_event("Note-1") for _ in range(MAX_CONFLICTS + 20))))
        rejected = await log.append(append_of(new_event("Note-1"), expected={"Note-1": 5}))
        assert isinstance(rejected, Rejected)
        assert [row.version for row in rejected.conflicts] == list(range(6, MAX_CONFLICTS + 6))
        assert rejected.version == MAX_CONFLICTS + 20

    async def test_each_stream_of_an_append_has_an_expectation_of_its_own(self, log: EventLog) -> None:
        await log.append(append_of(new_event("Note-a"), new_event("Note-a"), new_event("Note-b")))
        both = (new_event("Note-a"), new_event("Note-b"))
        rejected = await log.append(append_of(*both, expected={"Note-a": 2, "Note-b": 2}))
        assert isinstance(rejected, Rejected)
        assert (rejected.stream_id, rejected.version) == ("Note-b", 1)
        assert span(await log.append(append_of(*both, expected={"Note-a": 2, "Note-b": 1}))) == (4, 5)

    async def test_a_stream_that_is_not_named_may_have_any_version(self, log: EventLog) -> None:
        await log.append(append_of(new_event("Note-a"), new_event("Note-b")))
        both = (new_event("Note-a"), new_event("Note-b"))
        assert span(await log.append(append_of(*both, expected={"Note-b": 1}))) == (3, 4)

    async def test_an_expectation_holds_of_a_stream_that_is_only_named(self, log: EventLog) -> None:
        await log.append(append_of(new_event("Note-a")))
        named = {"Note-a": 0}
        assert isinstance(await log.append(append_of(new_event("Note-b"), expected=dict(named))), Rejected)
        assert isinstance(await log.append(append_of(new_event("Note-b"), expected={"Note-a": 1})), Appended)

    async def test_several_events_of_a_stream_are_expected_once(self, log: EventLog) -> None:
        three = [new_event("Note-1") for _ in range(3)]
        assert span(await log.append(append_of(*three, expected={"Note-1": 0}))) == (1, 3)
        assert [row.version for row in await log.read_stream("Note-1", limit=10)] == [1, 2, 3]

    async def test_an_append_answers_with_the_version_of_its_last_event(self, log: EventLog) -> None:
        async def version(*streams: str) -> int:
            outcome = await log.append(append_of(*map(new_event, streams)))
            assert isinstance(outcome, Appended)
            return outcome.version

        assert await version("Note-1") == 1
        assert await version("Note-1", "Note-1") == 3
        assert await version("Note-1", "Note-2") == 1
        assert await version("Note-2", "") == 0
        assert await version("", "Note-2") == 3

    async def test_the_first_append_of_two_with_one_expectation_wins(self, log: EventLog) -> None:
        assert isinstance(await log.append(append_of(new_event("Note-1"), expected={"Note-1": 0})), Appended)
        assert isinstance(await log.append(append_of(new_event("Note-1"), expected={"Note-1": 0})), Rejected)
        assert await log.head() == 1

    async def test_other_streams_do_not_matter(self, log: EventLog) -> None:
        await log.append(append_of(*(new_event(f"Note-{n}") for n in range(10))))
        assert isinstance(await log.append(append_of(new_event("Note-1"), expected={"Note-1": 1})), Appended)
        assert isinstance(await log.append(append_of(new_event("Note"), expected={"Note": 0})), Appended)
