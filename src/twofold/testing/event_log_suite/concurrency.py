"""What happens to appends that wait at one moment."""
# ruff: noqa: D102  # a test's name is its sentence; asserts are its point

from __future__ import annotations

import asyncio

import pytest

from twofold.errors import CommandReusedError, DuplicateEventIdError
from twofold.messages.event_query import EventQuery
from twofold.messages.stored_event import is_intact
from twofold.ports.event_log import Append, Appended, EventLog, Rejected
from twofold.testing.samples import append_of, new_command, new_event, repeated_span, span, topic

EVERYTHING = EventQuery.all()


async def together(log: EventLog, *appends: Append) -> list[Appended | Rejected | BaseException]:
    """Append all at one moment, in this order."""
    return await asyncio.gather(*(log.append(append) for append in appends), return_exceptions=True)


class ConcurrencyPromises:
    """Each append is judged alone, in the order of the calls, whatever it is committed with."""

    async def test_many_appends_at_once_are_stored_in_the_order_of_the_calls(self, log: EventLog) -> None:
        appends = [append_of(new_event(f"Note-{n % 5}"), new_event("", "x")) for n in range(200)]
        outcomes = await together(log, *appends)
        assert [span(each) for each in outcomes] == [(2 * n + 1, 2 * n + 2) for n in range(200)]
        rows = await log.read(EVERYTHING, limit=1000)
        assert [row.event_id for row in rows] == [event.event_id for append in appends for event in append.events]
        assert [row.position for row in rows] == list(range(1, 401))
        for n in range(5):
            assert [row.version for row in await log.read_stream(f"Note-{n}", limit=100)] == list(range(1, 41))

    async def test_one_rejected_in_the_middle_of_many_does_not_hurt_the_others(self, log: EventLog) -> None:
        await log.append(append_of(new_event("Taken-1", "taken")))
        appends = [append_of(new_event(f"Note-{n}"), expected={f"Note-{n}": 0}) for n in range(30)]
        appends[10] = append_of(new_event("Note-x"), new_event("Taken-1"), expected={"Taken-1": 0})
        appends[20] = append_of(new_event("Note-y"), fail_if=topic("taken"))
        outcomes = await together(log, *appends)
        assert [n for n, outcome in enumerate(outcomes) if isinstance(outcome, Rejected)] == [10, 20]
        stored = [outcome for outcome in outcomes if isinstance(outcome, Appended)]
        assert [span(each) for each in stored] == [(n, n) for n in range(2, 30)]
        assert not await log.read_stream("Note-x", limit=10)

    async def test_one_misused_id_in_the_middle_of_many_does_not_hurt_the_others(self, log: EventLog) -> None:
        event, command = new_event("Note-1"), new_command(b"a" * 32)
        await log.append(append_of(event, command=command))
        appends = [append_of(new_event("Note-2")) for _ in range(30)]
        appends[10] = append_of(event._replace(stream_id="Note-3"))
        appends[20] = append_of(new_event("Note-4"), command=command._replace(content_hash=b"b" * 32))
        outcomes = await together(log, *appends)
        assert isinstance(outcomes[10], DuplicateEventIdError)
        assert isinstance(outcomes[20], CommandReusedError)
        assert [o.first for o in outcomes if isinstance(o, Appended)] == list(range(2, 30))
        assert await log.head() == 29

    async def test_of_two_with_one_expected_version_exactly_the_first_wins(self, log: EventLog) -> None:
        first, second = (append_of(new_event("Note-1", text=t), expected={"Note-1": 0}) for t in ("a", "b"))
        won, lost = await together(log, first, second)
        assert span(won) == (1, 1)
        assert isinstance(lost, Rejected)
        assert [row.event_id for row in lost.conflicts] == [first.events[0].event_id]
        assert all(is_intact(row) for row in lost.conflicts)
        assert await log.head() == 1

    async def test_of_two_with_one_condition_exactly_the_first_wins(self, log: EventLog) -> None:
        first, second = (append_of(new_event("", "x", text=t), fail_if=topic("x"), after=0) for t in ("a", "b"))
        won, lost = await together(log, first, second)
        assert span(won) == (1, 1)
        assert isinstance(lost, Rejected)
        assert [row.event_id for row in lost.conflicts] == [first.events[0].event_id]

    async def test_of_many_racers_on_one_condition_exactly_one_wins(self, log: EventLog) -> None:
        outcomes = await together(log, *(append_of(new_event("", "seat"), fail_if=topic("seat")) for _ in range(64)))
        assert [isinstance(outcome, Appended) for outcome in outcomes] == [True] + [False] * 63
        assert await log.head() == 1

    async def test_a_condition_sees_an_unconditional_append_of_the_same_moment(self, log: EventLog) -> None:
        plain, guarded = append_of(new_event("Note-1", "x")), append_of(new_event("", "y"), fail_if=topic("x"))
        outcomes = await together(log, guarded, plain, guarded, append_of(new_event("", "z"), fail_if=topic("x")))
        assert [span(each) for each in outcomes[:2]] == [(1, 1), (2, 2)]
        assert repeated_span(outcomes[2]) == (1, 1)
        assert isinstance(outcomes[3], Rejected)

    async def test_a_chain_of_expected_versions_of_one_moment_is_accepted(self, log: EventLog) -> None:
        outcomes = await together(log, *(append_of(new_event("Note-1"), expected={"Note-1": n}) for n in range(20)))
        assert [span(each) for each in outcomes] == [(n, n) for n in range(1, 21)]

    async def test_a_rejected_append_does_not_hold_back_the_next_one_on_its_stream(self, log: EventLog) -> None:
        outcomes = await together(
            log,
            append_of(new_event("Note-1"), expected={"Note-1": 0}),
            append_of(new_event("Note-1"), new_event("Note-1"), expected={"Note-1": 0}),
            append_of(new_event("Note-1"), expected={"Note-1": 1}),
        )
        assert (span(outcomes[0]), span(outcomes[2])) == ((1, 1), (2, 2))
        assert isinstance(outcomes[1], Rejected)

    async def test_the_same_append_twice_at_one_moment_is_stored_once(self, log: EventLog) -> None:
        for number, decision in enumerate(
            [
                append_of(new_event("Note-1"), new_event("Note-1")),
                append_of(new_event("Note-2"), new_event("Note-2"), expected={"Note-2": 0}),
                append_of(new_event("", "x"), new_event(), fail_if=topic("x")),
                append_of(new_event("Note-1"), new_event("Note-1"), command=new_command()),
            ]
        ):
            first, *others = await together(log, *[decision] * 5)
            assert isinstance(first, Appended)
            assert (first.first, first.last, first.repeated) == (2 * number + 1, 2 * number + 2, False)
            rows = tuple(await log.read(EVERYTHING, after=first.first - 1, limit=2))
            assert others == [first._replace(repeated=True, rows=rows)] * 4
        assert await log.head() == 8

    async def test_one_command_with_two_contents_at_one_moment_takes_effect_once(self, log: EventLog) -> None:
        command = new_command(b"a" * 32)
        outcomes = await together(
            log,
            append_of(new_event("Note-1"), command=command),
            append_of(new_event("Note-1"), command=command._replace(content_hash=b"b" * 32)),
            append_of(new_event("Note-1"), command=command),
        )
        assert outcomes[0] == Appended(1, 1, result=command.result, version=1)
        assert isinstance(outcomes[1], CommandReusedError)
        rows = tuple(await log.read(EVERYTHING, limit=10))
        assert outcomes[2] == Appended(1, 1, repeated=True, result=command.result, version=1, rows=rows)

    async def test_one_event_id_with_two_contents_at_one_moment_is_stored_once(self, log: EventLog) -> None:
        event = new_event("Note-1")
        outcomes = await together(log, append_of(event), append_of(event._replace(stream_id="Note-2")))
        assert span(outcomes[0]) == (1, 1)
        assert isinstance(outcomes[1], DuplicateEventIdError)
        assert await log.head() == 1

    async def test_reads_among_appends_see_a_prefix_of_the_log(self, log: EventLog) -> None:
        async def watch() -> None:
            while len(rows := await log.read(EVERYTHING, limit=1000)) < 200:
                assert [row.position for row in rows] == list(range(1, len(rows) + 1))
                assert len(rows) % 2 == 0, "half an append was seen"
                await asyncio.sleep(0)  # a log in memory never lets the writers run by itself

        async def write(stream: str) -> None:
            for version in range(0, 50, 2):
                both = (new_event(stream), new_event(stream))
                assert isinstance(await log.append(append_of(*both, expected={stream: version})), Appended)

        async with asyncio.timeout(30):
            await asyncio.gather(watch(), *(write(f"Note-{n}") for n in range(4)))

    async def test_what_was_acknowledged_is_seen_by_the_next_read(self, log: EventLog) -> None:
        async def write_and_read(stream: str) -> None:
            for version in range(1, 20):
                appended = await log.append(append_of(new_event(stream, stream)))
                assert isinstance(appended, Appended)
                assert await log.head() >= appended.last
                assert len(await log.read_stream(stream, limit=100)) == version
                assert (await log.read(topic(stream), limit=100))[-1].position == appended.last

        await asyncio.gather(*(write_and_read(f"Note-{n}") for n in range(8)))

    @pytest.mark.parametrize("steps", [0, 1, 2, 3])
    async def test_a_cancelled_caller_leaves_the_log_consistent(self, log: EventLog, steps: int) -> None:
        decision = append_of(new_event("Note-1"), new_event("Note-2"), expected={"Note-1": 0})
        beside = [asyncio.create_task(log.append(append_of(new_event("Note-3")))) for _ in range(3)]
        task = asyncio.create_task(log.append(decision))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not any(isinstance(outcome, Rejected) for outcome in await asyncio.gather(*beside))
        assert isinstance(await log.append(decision), Appended)
        rows = await log.read(EVERYTHING, limit=100)
        assert [row.position for row in rows] == [1, 2, 3, 4, 5]
        places = [row.position for row in rows if row.stream_id != "Note-3"]
        assert places[1] - places[0] == 1
