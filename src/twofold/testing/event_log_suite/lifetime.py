"""What outlives the object, and what several of them on the same data do to each other."""
# ruff: noqa: D102  # a test's name is its sentence; asserts are its point

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from twofold.errors import CommandReusedError
from twofold.messages.event_query import EventQuery
from twofold.ports.event_log import Appended, EventLog, Rejected
from twofold.testing.samples import append_of, new_command, new_event, repeated_span, span, topic

EVERYTHING = EventQuery.all()


@asynccontextmanager
async def opened(log: EventLog) -> AsyncIterator[EventLog]:
    """Open a log for a while."""
    await log.open()
    try:
        yield log
    finally:
        await log.close()


class LifetimePromises:
    """Open and close may be repeated; what was acknowledged is there afterwards, for every process."""

    async def test_open_may_be_repeated(self, log: EventLog) -> None:
        await log.append(append_of(new_event("Note-1")))
        await log.open()
        assert span(await log.append(append_of(new_event("Note-1"), expected={"Note-1": 1}))) == (2, 2)

    async def test_close_may_be_repeated(self, log: EventLog) -> None:
        await log.append(append_of(new_event("Note-1")))
        await log.close()
        await log.close()

    async def test_close_finishes_the_appends_that_were_accepted(
        self, log: EventLog, another: Callable[[], EventLog]
    ) -> None:
        pending = [asyncio.create_task(log.append(append_of(new_event("Note-1")))) for _ in range(50)]
        await asyncio.sleep(0)  # each has run to where it waits for its commit
        await log.close()
        assert [span(each) for each in await asyncio.gather(*pending)] == [(n, n) for n in range(1, 51)]
        async with opened(another()) as reopened:
            assert await reopened.head() == 50

    async def test_close_with_somebody_waiting_ends(self, log: EventLog) -> None:
        waiting = asyncio.create_task(log.wait(0, 0.2))
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            await log.close()
            await asyncio.gather(waiting, return_exceptions=True)

    async def test_what_was_stored_is_there_after_reopening(
        self, log: EventLog, another: Callable[[], EventLog]
    ) -> None:
        command = new_command()
        decision = append_of(new_event("Note-1", "x", text="é"), new_event(), expected={"Note-1": 0}, command=command)
        await log.append(decision)
        rows = list(await log.read(EVERYTHING, limit=100))
        await log.close()
        async with opened(another()) as reopened:
            assert list(await reopened.read(EVERYTHING, limit=100)) == rows
            assert list(await reopened.read(topic("x"), limit=100)) == rows[:1]
            assert await reopened.head() == 2
            repeat = Appended(1, 2, repeated=True, result=command.result, rows=tuple(rows))
            assert await reopened.append(decision) == repeat
            with pytest.raises(CommandReusedError):
                await reopened.append(append_of(new_event(), command=command._replace(content_hash=b"?" * 32)))
            assert span(await reopened.append(append_of(new_event("Note-1"), expected={"Note-1": 1}))) == (3, 3)

    async def test_a_further_log_sees_what_was_acknowledged_at_once(
        self, log: EventLog, another: Callable[[], EventLog]
    ) -> None:
        async with opened(another()) as other:
            for position in range(1, 11):
                writer, reader = (log, other) if position % 2 else (other, log)
                decision = append_of(new_event("Note-1", "x"), expected={"Note-1": position - 1})
                assert span(await writer.append(decision)) == (position, position)
                assert await reader.head() == position
                assert (await reader.read(topic("x"), limit=100))[-1].position == position
                assert repeated_span(await reader.append(decision)) == (position, position)

    async def test_two_logs_on_the_same_data_never_both_win(
        self, log: EventLog, another: Callable[[], EventLog]
    ) -> None:
        async with opened(another()) as other:
            for n in range(20):
                racers = [append_of(new_event(f"Note-{n}", f"t{n}"), fail_if=topic(f"t{n}")) for _ in range(2)]
                outcomes = await asyncio.gather(log.append(racers[0]), other.append(racers[1]))
                assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Appended", "Rejected"]
            rows = await log.read(EVERYTHING, limit=100)
            assert [(row.position, row.version) for row in rows] == [(n, 1) for n in range(1, 21)]

    async def test_several_logs_may_open_at_one_moment(self, log: EventLog, another: Callable[[], EventLog]) -> None:
        others = [another() for _ in range(4)]
        try:
            await asyncio.gather(*(other.open() for other in others))
            outcomes = await asyncio.gather(*(other.append(append_of(new_event("Note-1"))) for other in others))
            assert not any(isinstance(outcome, Rejected) for outcome in outcomes)
            assert await log.head() == 4
        finally:
            for other in others:
                await other.close()
