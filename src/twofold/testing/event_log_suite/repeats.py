"""What a second try of the same append answers."""
# ruff: noqa: D102  # a test's name is its sentence; asserts are its point

from __future__ import annotations

import asyncio
from uuid import UUID

import msgspec
import pytest

from twofold.errors import CommandReusedError, DuplicateEventIdError
from twofold.messages.event_query import EventQuery
from twofold.messages.ids import uuid7
from twofold.messages.stored_event import NewEvent, is_intact
from twofold.ports.event_log import Append, Appended, EventLog, Rejected
from twofold.testing.samples import EVENT_TYPES, Noted, Revised, append_of, new_command, new_event, repeated_span, topic

EVERYTHING = EventQuery.all()


def variant(event: NewEvent, *, stream_id: str | None = None, topics: tuple[str, ...] = (), text: str = "") -> NewEvent:
    """Return an event of the same id with other content."""
    kept = event.stream_id if stream_id is None else stream_id
    return new_event(kept, *topics, text=text, event_id=UUID(bytes=event.event_id))


class RepeatPromises:
    """A repeat stores nothing and answers as the first call did; misused ids are errors."""

    @pytest.mark.parametrize(
        "decision",
        [
            pytest.param(append_of(new_event("Note-1")), id="unconditional"),
            pytest.param(append_of(new_event("Note-1"), expected={"Note-1": 0}), id="expected version"),
            pytest.param(append_of(new_event("", "x"), fail_if=topic("x")), id="condition"),
            pytest.param(append_of(new_event("Note-1"), new_event("Note-2"), new_event("", "x")), id="several"),
            pytest.param(append_of(new_event("Note-1"), command=new_command()), id="command"),
        ],
    )
    async def test_a_repeat_gets_the_first_receipt_and_stores_nothing(self, log: EventLog, decision: Append) -> None:
        await log.append(append_of(new_event("Other-1")))
        first = await log.append(decision)
        assert isinstance(first, Appended)
        assert not first.repeated
        await log.append(append_of(new_event("Note-1", "x"), new_event("Note-2", "x")))
        head = await log.head()
        rows = tuple(await log.read(EVERYTHING, after=first.first - 1, limit=len(decision.events)))
        for _ in range(2):
            assert await log.append(decision) == first._replace(repeated=True, rows=rows)
        assert await log.head() == head

    async def test_a_repeat_is_recognised_under_another_expectation(self, log: EventLog) -> None:
        event = new_event("Note-1", "x")
        await log.append(append_of(event, expected={"Note-1": 0}))
        for retried in (
            append_of(event),
            append_of(event, expected={"Note-1": 1}),
            append_of(event, expected={"Note-1": 0}, fail_if=EVERYTHING),
        ):
            assert repeated_span(await log.append(retried)) == (1, 1)

    async def test_a_repeat_may_carry_other_metadata(self, log: EventLog) -> None:
        event = new_event("Note-1", metadata=b'{"user":"first"}')
        await log.append(append_of(event))
        again = EVENT_TYPES.encode(Noted(), UUID(bytes=event.event_id), "Note-1", "Note", b'{"user":"second"}')
        assert repeated_span(await log.append(append_of(again))) == (1, 1)
        assert [row.metadata for row in await log.read_stream("Note-1", limit=10)] == [b'{"user":"first"}']

    async def test_an_event_id_with_other_content_is_an_error(self, log: EventLog) -> None:
        event = new_event("Note-1", "x")
        await log.append(append_of(event))
        same = variant(event, topics=("x",))
        for other in (
            variant(event, topics=("x",), text="other"),
            variant(event, topics=("x",), stream_id="Note-2"),
            variant(event, topics=("y",)),
            EVENT_TYPES.encode(Revised(topics=("x",)), UUID(bytes=event.event_id), "Note-1", "Note", b"{}"),
            same._replace(schema_version=2),
        ):
            for decision in (append_of(other), append_of(other, expected={"Note-1": 0})):
                with pytest.raises(DuplicateEventIdError) as caught:
                    await log.append(decision)
                assert caught.value.event_id == UUID(bytes=event.event_id)
        assert await log.head() == 1

    async def test_an_append_that_is_partly_known_is_an_error_and_stores_nothing(self, log: EventLog) -> None:
        known, unknown = new_event("Note-1"), new_event("Note-1")
        await log.append(append_of(known))
        for events in ((known, unknown), (unknown, known)):
            with pytest.raises(DuplicateEventIdError) as caught:
                await log.append(append_of(*events))
            assert caught.value.event_id == UUID(bytes=known.event_id)
        assert await log.head() == 1
        assert isinstance(await log.append(append_of(unknown)), Appended)

    async def test_the_known_events_of_two_appends_are_not_one_repeat(self, log: EventLog) -> None:
        first, second = new_event("Note-1"), new_event("Note-1")
        await log.append(append_of(first))
        await log.append(append_of(new_event("Note-2")))
        await log.append(append_of(second))
        for events in ((first, second), (second, first)):
            with pytest.raises(DuplicateEventIdError):
                await log.append(append_of(*events))
        assert await log.head() == 3

    async def test_one_id_twice_in_an_append_is_an_error_and_stores_nothing(self, log: EventLog) -> None:
        event = new_event("Note-1")
        for twin in (event, variant(event, text="other")):
            with pytest.raises(DuplicateEventIdError):
                await log.append(append_of(event, new_event("Note-1"), twin))
        assert await log.head() == 0

    async def test_the_first_call_of_a_command_answers_with_its_result(self, log: EventLog) -> None:
        command = new_command(result=b'{"id":"n1"}')
        appended = await log.append(append_of(new_event("Note-1"), command=command))
        assert appended == Appended(1, 1, repeated=False, result=b'{"id":"n1"}', version=1)

    async def test_a_repeated_command_answers_with_the_recorded_result(self, log: EventLog) -> None:
        command = new_command(result='{"id":"ü"}'.encode())
        await log.append(append_of(new_event("Note-1"), new_event("Note-1"), command=command))
        retried = command._replace(result=b'{"id":"decided again"}')
        again = append_of(new_event("Note-1", text="new ids"), expected={"Note-1": 0}, command=retried)
        rows = tuple(await log.read(EVERYTHING, limit=10))
        assert await log.append(again) == Appended(1, 2, repeated=True, result=command.result, version=2, rows=rows)
        assert await log.head() == 2

    async def test_a_command_id_with_another_hash_is_an_error_and_stores_nothing(self, log: EventLog) -> None:
        event, command = new_event("Note-1"), new_command(b"a" * 32)
        await log.append(append_of(event, command=command))
        reused = command._replace(content_hash=b"b" * 32)
        for decision in (
            append_of(event, command=reused),
            append_of(new_event("Note-2"), command=reused),
            append_of(new_event("Note-1"), expected={"Note-1": 0}, command=reused),
        ):
            with pytest.raises(CommandReusedError) as caught:
                await log.append(decision)
            assert caught.value.command_id == UUID(bytes=command.command_id)
        assert await log.head() == 1

    async def test_a_rejected_command_is_not_recorded(self, log: EventLog) -> None:
        await log.append(append_of(new_event("Note-1")))
        command = new_command()
        rejected = await log.append(append_of(new_event("Note-1"), expected={"Note-1": 0}, command=command))
        assert isinstance(rejected, Rejected)
        assert await log.find_command(command.command_id) is None
        changed = command._replace(content_hash=b"other" * 6)
        assert isinstance(await log.append(append_of(new_event("Note-1"), command=changed)), Appended)

    async def test_a_command_that_took_effect_is_found(self, log: EventLog) -> None:
        command = new_command(result='{"text":"it\'s ü \\\\ \\""}'.encode())
        assert await log.find_command(command.command_id) is None
        await log.append(append_of(new_event("Note-0")))
        await log.append(append_of(new_event("Note-1"), new_event("Note-1"), command=command))
        found = await log.find_command(command.command_id)
        assert found is not None
        assert found[0] == command
        assert (found[1].first, found[1].last, found[1].version) == (2, 3, 2)
        assert list(found.rows) == list(await log.read(EVERYTHING, after=1, limit=10))
        assert await log.find_command(uuid7().bytes) is None

    async def test_different_commands_are_recorded_side_by_side(self, log: EventLog) -> None:
        commands = [new_command(result=msgspec.json.encode(n)) for n in range(5)]
        for command in commands:
            await log.append(append_of(new_event("Note-1"), command=command))
        for place, command in enumerate(commands, 1):
            repeat = await log.append(append_of(new_event("Note-1"), command=command))
            rows = tuple(await log.read(EVERYTHING, after=place - 1, limit=1))
            assert repeat == Appended(place, place, repeated=True, result=command.result, version=place, rows=rows)

    async def test_repeats_carry_the_events_of_the_first_calls(self, log: EventLog) -> None:
        """Byte by byte: a checksum is taken over them."""
        plain = append_of(new_event("Note-1", "x", "y", text="é\n"), new_event())
        decisions = [
            append_of(*(new_event(f"Note-{n}", f"ü{n}", text="'\\\"") for _ in range(n)), command=new_command())
            for n in (1, 3)
        ]
        for decision in (plain, *decisions):
            appended = await log.append(decision)
            assert isinstance(appended, Appended)
            assert appended.rows == ()
        stored = tuple(await log.read(EVERYTHING, limit=10))
        again = [append_of(new_event("Note-9"), command=decision.command) for decision in decisions]
        appends = [*again, append_of(new_event("Note-5")), *decisions[:1], plain]
        repeats = await asyncio.gather(*map(log.append, appends))
        assert [each.rows for each in repeats if isinstance(each, Appended)] == [
            stored[2:3], stored[3:], (), stored[2:3], stored[:2]
        ]  # fmt: skip
        assert all(is_intact(row) for row in stored)
