"""What an append stores."""
# ruff: noqa: D102  # a test's name is its sentence; asserts are its point

from __future__ import annotations

from decimal import Decimal
from typing import get_type_hints

from msgspec.structs import astuple

from twofold.messages.event_query import EventQuery
from twofold.messages.ids import uuid7
from twofold.messages.stored_event import BROUGHT, COLUMNS, StoredEvent, is_intact
from twofold.ports.event_log import EventLog, Rejected
from twofold.testing.samples import EVENT_TYPES, Noted, append_of, new_event, span, topic

EVERYTHING = EventQuery.all()
AWKWARD = (
    "",
    " ",
    "it's \"quoted\" and \\ escaped \\u0000 \\' '; DROP TABLE events; --",
    "%s $1 ? :name {braces} %(key)s",
    "Grüße 你好 🦆 \u200f\u202e e\u0301 é",
    "tab\tnewline\r\n\u2028\x1f\x7f",
)


class AppendPromises:
    """Rows come back as they were given, at contiguous places, as a whole or not at all."""

    async def test_the_first_append_starts_at_position_one(self, log: EventLog) -> None:
        assert span(await log.append(append_of(new_event("Note-1")))) == (1, 1)

    async def test_an_append_answers_with_the_contiguous_range_of_its_positions(self, log: EventLog) -> None:
        await log.append(append_of(new_event("Note-1")))
        assert span(await log.append(append_of(*(new_event("Note-2") for _ in range(3))))) == (2, 4)

    async def test_positions_are_contiguous_in_the_order_of_the_appends(self, log: EventLog) -> None:
        events = [new_event("Note-1"), new_event("Note-2"), new_event(), new_event("Note-1")]
        for event in events:
            await log.append(append_of(event))
        rows = await log.read(EVERYTHING, limit=100)
        assert [(row.position, row.event_id) for row in rows] == [(n, e.event_id) for n, e in enumerate(events, 1)]

    async def test_the_events_of_one_append_keep_their_order(self, log: EventLog) -> None:
        events = [new_event("Note-1", text=str(n)) for n in range(50)]
        await log.append(append_of(*events))
        assert [row.event_id for row in await log.read(EVERYTHING, limit=100)] == [e.event_id for e in events]

    async def test_a_rejected_append_leaves_no_gap_in_the_positions(self, log: EventLog) -> None:
        await log.append(append_of(new_event("Note-1")))
        assert isinstance(await log.append(append_of(new_event("Note-1"), expected={"Note-1": 0})), Rejected)
        assert span(await log.append(append_of(new_event("Note-1")))) == (2, 2)

    async def test_versions_count_the_events_of_each_stream_from_one(self, log: EventLog) -> None:
        await log.append(append_of(new_event("Note-a"), new_event("Note-b"), new_event("Note-a")))
        await log.append(append_of(new_event("Note-b"), new_event("Note-a")))
        rows = await log.read(EVERYTHING, limit=100)
        placed = [(row.stream_id, row.version) for row in rows]
        assert placed == [("Note-a", 1), ("Note-b", 1), ("Note-a", 2), ("Note-b", 2), ("Note-a", 3)]

    async def test_an_event_of_no_stream_has_version_zero(self, log: EventLog) -> None:
        await log.append(append_of(new_event("", "x"), new_event("Note-1"), new_event("", "y")))
        await log.append(append_of(new_event("", "z")))
        rows = await log.read(EVERYTHING, limit=100)
        placed = [(row.position, row.stream_id, row.stream_type, row.version) for row in rows]
        assert placed == [(1, "", "", 0), (2, "Note-1", "Note", 1), (3, "", "", 0), (4, "", "", 0)]

    async def test_every_field_comes_back_as_it_was_given(self, log: EventLog) -> None:
        event = new_event("Note-1", "x", "y", text="hello", metadata=b'{"user":"u1"}')
        await log.append(append_of(event))
        (row,) = await log.read_stream("Note-1", limit=10)
        assert {name: getattr(row, name) for name in BROUGHT} == {name: getattr(event, name) for name in BROUGHT}
        assert (row.stream_id, row.stream_type, row.type) == ("Note-1", "Note", "Noted")
        assert (row.metadata, row.tags) == (b'{"user":"u1"}', b'["topic:x","topic:y"]')

    async def test_the_fields_have_the_types_that_the_row_declares(self, log: EventLog) -> None:
        await log.append(append_of(new_event("Note-1", "x")))
        (row,) = await log.read(EVERYTHING, limit=10)
        declared = get_type_hints(StoredEvent)
        assert [type(each) for each in astuple(row)] == [declared[name] for name in COLUMNS]

    async def test_awkward_text_comes_back_byte_for_byte(self, log: EventLog) -> None:
        events = [new_event("Note-1", text=text, metadata=b'{"user":"\xc3\xa9"}') for text in AWKWARD]
        await log.append(append_of(*events))
        rows = await log.read_stream("Note-1", limit=100)
        assert [row.payload for row in rows] == [event.payload for event in events]
        assert [recorded.event.text for recorded in EVENT_TYPES.decode(rows)] == list(AWKWARD)

    async def test_awkward_names_and_tags_are_told_apart(self, log: EventLog) -> None:
        names = [f"Note-{name}" for name in (*AWKWARD[1:], "note", "NOTE", "note ", "é", "e\u0301")]
        for name in names:
            await log.append(append_of(new_event(name, name), expected={name: 0}))
        for place, name in enumerate(names, 1):
            assert [row.position for row in await log.read_stream(name, limit=10)] == [place]
            assert [row.position for row in await log.read(topic(name), limit=10)] == [place]

    async def test_a_large_payload_comes_back_byte_for_byte(self, log: EventLog) -> None:
        event = new_event("Note-1", text="ü🦆x" * 150_000)
        assert len(event.payload) > 1_000_000
        await log.append(append_of(event))
        (row,) = await log.read_stream("Note-1", limit=10)
        same = row.payload == event.payload  # told apart here: pytest would spend minutes on the difference
        assert same
        assert is_intact(row)

    async def test_decimals_keep_every_digit(self, log: EventLog) -> None:
        amounts = [Decimal(text) for text in ("1.10", "0.1", "-0.00", "1E+30", "123456789012345678901234567890.12345")]
        await log.append(append_of(*(new_event("Note-1", amount=amount) for amount in amounts)))
        recorded = EVENT_TYPES.decode(await log.read_stream("Note-1", limit=100))
        assert [str(each.event.amount) for each in recorded] == [str(amount) for amount in amounts]

    async def test_a_thousand_events_in_one_append_are_stored_as_one(self, log: EventLog) -> None:
        assert span(await log.append(append_of(*(new_event(f"Note-{n % 7}", "x") for n in range(1000))))) == (1, 1000)
        rows = await log.read(topic("x"), limit=2000)
        assert [row.position for row in rows] == list(range(1, 1001))

    async def test_every_row_matches_its_checksum_on_every_way_of_reading(self, log: EventLog) -> None:
        await log.append(append_of(*(new_event("Note-1", "x", text=text, kind=Noted) for text in AWKWARD)))
        await log.append(append_of(new_event("", "x")))
        ways = [
            await log.read(EVERYTHING, limit=100),
            await log.read(EVERYTHING, limit=100, backwards=True),
            await log.read(topic("x"), limit=100),
            await log.read(topic(kinds=(Noted,)), limit=100),
            await log.read_stream("Note-1", limit=100),
        ]
        rejected = await log.append(append_of(new_event("Note-1"), expected={"Note-1": 0}))
        assert isinstance(rejected, Rejected)
        assert all(is_intact(row) for rows in (*ways, rejected.conflicts) for row in rows)

    async def test_the_time_of_recording_never_runs_far_from_one_append_to_its_events(self, log: EventLog) -> None:
        await log.append(append_of(new_event("Note-1"), new_event("Note-1")))
        first, second = await log.read_stream("Note-1", limit=10)
        assert abs(first.recorded_at - second.recorded_at) < 60_000_000
        assert first.recorded_at > 1_700_000_000_000_000  # microseconds, not milliseconds

    async def test_a_rejected_append_of_several_streams_stores_nothing_of_any(self, log: EventLog) -> None:
        await log.append(append_of(new_event("Note-b")))
        events = (new_event("Note-a", "x"), new_event("Note-b", "x"), new_event("", "x"), new_event("Note-c", "x"))
        assert isinstance(await log.append(append_of(*events, expected={"Note-a": 0, "Note-b": 0})), Rejected)
        assert await log.head() == 1
        assert await log.read(topic("x"), limit=100) in ([], ())
        assert not await log.read_stream("Note-a", limit=10)

    async def test_the_events_of_a_rejected_append_can_be_appended_afterwards(self, log: EventLog) -> None:
        await log.append(append_of(new_event("Note-1")))
        again = new_event("Note-1", "x")
        assert isinstance(await log.append(append_of(again, expected={"Note-1": 0})), Rejected)
        assert span(await log.append(append_of(again, expected={"Note-1": 1}))) == (2, 2)
        assert [row.event_id for row in await log.read(topic("x"), limit=10)] == [again.event_id]

    async def test_event_ids_of_any_bytes_are_kept(self, log: EventLog) -> None:
        event = new_event("Note-1", event_id=uuid7())._replace(event_id=bytes(16))
        await log.append(append_of(event))
        assert [row.event_id for row in await log.read_stream("Note-1", limit=10)] == [bytes(16)]
