"""Streams that take no more events."""
# ruff: noqa: D102  # a test's name is its sentence; asserts are its point

from __future__ import annotations

from uuid import UUID

import pytest

from twofold.messages.endings import StreamClosed, StreamTombstoned
from twofold.messages.ids import uuid7
from twofold.messages.stored_event import NewEvent
from twofold.messages.stream import ANY, STREAM_EXISTS, ExpectedVersion
from twofold.ports.event_log import Append, Appended, EventLog, Rejected
from twofold.testing.event_log_suite.concurrency import together
from twofold.testing.samples import EVENT_TYPES, append_of, new_command, new_event, repeated_span, span, topic


def closing(stream_id: str, event_id: UUID | None = None) -> NewEvent:
    """Return the event that closes a stream."""
    return _encoded(StreamClosed(stream_id, "Note", "the year is over", "ann", "Note-2"), stream_id, event_id)


def tombstone(stream_id: str) -> NewEvent:
    """Return the event that ends a stream for ever."""
    return _encoded(StreamTombstoned(stream_id, "Note", "it was a test", "ann", 1), stream_id, None)


def _encoded(event: object, stream_id: str, event_id: UUID | None) -> NewEvent:
    return EVENT_TYPES.encode(event, event_id or uuid7(), stream_id, stream_id.partition("-")[0], b"{}")


def _is_refused(outcome: object, stream_id: str, version: int, event: NewEvent) -> bool:
    assert isinstance(outcome, Rejected)
    [last] = outcome.conflicts
    found = (outcome.is_ended, outcome.stream_id, outcome.version, last.event_id)
    assert found == (True, stream_id, version, event.event_id)
    return True


class EndingPromises:
    """What is behind the end of a stream is refused, whatever was expected, and all else goes on."""

    @pytest.mark.parametrize("expected", [ANY, STREAM_EXISTS, 1, 2, 0])
    async def test_a_closed_stream_takes_no_more_events(self, log: EventLog, expected: ExpectedVersion) -> None:
        end = closing("Note-1")
        await log.append(append_of(new_event("Note-1"), end))
        refused = await log.append(append_of(new_event("Note-1"), expected={"Note-1": expected}))
        assert _is_refused(refused, "Note-1", 2, end)
        assert await log.head() == 2
        assert [row.version for row in await log.read_stream("Note-1", limit=9)] == [1, 2]

    async def test_a_stream_takes_events_until_it_is_closed_and_others_always_do(self, log: EventLog) -> None:
        await log.append(append_of(new_event("Note-1"), new_event("Note-11")))
        await log.append(append_of(new_event("Note-1"), closing("Note-1"), expected={"Note-1": 1}))
        others = (new_event("Note-11"), new_event("Note"), new_event())
        assert span(await log.append(append_of(*others, expected={"Note-11": 1, "Note-1": 3}))) == (5, 7)

    async def test_an_append_to_several_streams_is_refused_whole_if_one_is_closed(self, log: EventLog) -> None:
        end = closing("Note-1")
        await log.append(append_of(end))
        events = (new_event("Note-2"), new_event("Note-1"), new_event())
        assert _is_refused(await log.append(append_of(*events)), "Note-1", 1, end)
        assert (await log.head(), list(await log.read_stream("Note-2", limit=9))) == (1, [])

    async def test_a_repeat_of_what_a_stream_took_before_it_was_closed_is_still_found(self, log: EventLog) -> None:
        command, event, end = new_command(), new_event("Note-1"), closing("Note-1", UUID(int=7))
        first = append_of(event, expected={"Note-1": 0}, command=command)
        await log.append(first)
        plain = append_of(new_event("Note-1"))
        await log.append(plain)
        await log.append(append_of(end))
        assert repeated_span(await log.append(first)) == (1, 1)
        assert repeated_span(await log.append(plain)) == (2, 2)
        assert repeated_span(await log.append(append_of(end, expected={"Note-1": 2}))) == (3, 3)

    async def test_of_appends_at_one_moment_those_behind_the_end_are_refused(self, log: EventLog) -> None:
        end, before, after = closing("Note-1"), new_event("Note-1"), new_event("Note-1")
        others = [append_of(new_event(f"Note-2{n}")) for n in range(4)]
        outcomes = await together(log, append_of(before), others[0], append_of(end), append_of(after), *others[1:])
        rows = {row.event_id: row.version for row in await log.read_stream("Note-1", limit=9)}
        assert rows == {before.event_id: 1, end.event_id: 2}
        assert _is_refused(outcomes[3], "Note-1", 2, end)
        assert sum(isinstance(each, Appended) for each in outcomes) == 6

    async def test_only_a_tombstone_follows_a_closed_stream_and_nothing_follows_that(self, log: EventLog) -> None:
        end = tombstone("Note-1")
        await log.append(append_of(new_event("Note-1"), closing("Note-1")))
        assert span(await log.append(append_of(end, expected={"Note-1": 2}))) == (3, 3)
        for event in (new_event("Note-1"), closing("Note-1"), tombstone("Note-1")):
            assert _is_refused(await log.append(append_of(event)), "Note-1", 3, end)

    async def test_a_condition_from_before_a_tombstone_cannot_hold(self, log: EventLog) -> None:
        await log.append(append_of(new_event("Note-1", "x")))
        await log.append(append_of(tombstone("Note-1")))
        await log.append(append_of(new_event("", "z")))

        def depending(after: int) -> Append:
            return append_of(new_event("", "y"), fail_if=topic("w"), after=after)

        refused = await log.append(depending(1))
        assert isinstance(refused, Rejected)
        assert (refused.conflicts, refused.is_ended, await log.head()) == ((), False, 3)
        assert span(await log.append(depending(2))) == (4, 4)
        assert span(await log.append(depending(3))) == (5, 5)

    async def test_a_condition_cannot_hold_after_a_tombstone_of_the_same_moment(self, log: EventLog) -> None:
        await log.append(append_of(new_event("Note-1", "x")))
        depending = append_of(new_event("", "y"), fail_if=topic("w"), after=1)
        first, refused, later = await together(log, append_of(tombstone("Note-1")), depending, append_of(new_event()))
        assert isinstance(first, Appended)
        assert isinstance(refused, Rejected)
        assert (refused.conflicts, span(later)) == ((), (3, 3))

    async def test_an_ending_without_a_stream_ends_none(self, log: EventLog) -> None:
        end = closing("Note-1")
        await log.append(append_of(closing(""), end))
        assert span(await log.append(append_of(new_event()))) == (3, 3)
        assert _is_refused(await log.append(append_of(new_event(), new_event("Note-1"))), "Note-1", 1, end)
