"""Input that cannot be stored, and data that this code cannot read: named errors, and the log goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated

import msgspec
import pytest
import pytest_asyncio

from twofold import ANY, AppendCondition, Event, EventQuery, EventStore, QueryItem, Tag, event_type, open_event_store
from twofold.errors import (
    InvalidEventError,
    LimitExceededError,
    NewerSchemaError,
    UnknownEventTypeError,
    UnreadableEventError,
)
from twofold.log.codec.payload import MAX_PAYLOAD
from twofold.log.codec.stored_names import MAX_NAME
from twofold.options import LogOptions
from twofold.ports.event_log import Append, Appended, EventLog, Rejected
from twofold.testing.samples import Revised, append_of, new_event, topic

EVERYTHING = EventQuery.all()
BAD_NAMES = ["", "x" * (MAX_NAME + 1), "Note\0", "\0", "Note-\ud800"]


@event_type("Stored")
@dataclass(frozen=True)
class Stored(Event):
    text: str = ""
    customer: Annotated[str | None, Tag("customer")] = None


@event_type("Stored", version=2, upcasters={1: lambda data: data})
@dataclass(frozen=True)
class StoredByNewerCode(Event):
    text: str = ""


@event_type("Stored")
@dataclass(frozen=True)
class StoredByOtherCode(Event):
    number: int


@event_type("Foreign")
@dataclass(frozen=True)
class Foreign(Event):
    text: str = ""


@pytest_asyncio.fixture
async def store(url: str) -> AsyncIterator[EventStore]:
    async with open_event_store(url) as store:
        yield store


@pytest.fixture
def log(store: EventStore) -> EventLog:
    return store.log


async def go_on(store: EventStore) -> None:
    """Nothing was stored so far, and the next append is."""
    assert await store.head() == 0
    receipt = await store.append_events("Note-1", "Note", [Stored("fine")], expected_version=0)
    assert receipt.position == 1


async def test_a_name_that_cannot_be_stored_is_refused(store: EventStore) -> None:
    for name in BAD_NAMES:
        with pytest.raises(LimitExceededError, match="stream id has 1 to 500 characters and no NUL"):
            await store.append_events(name, "Note", [Stored()], expected_version=ANY)
        with pytest.raises(LimitExceededError, match="stream type has 1 to 500 characters and no NUL"):
            await store.append_events("Note-1", name, [Stored()], expected_version=ANY)
    await go_on(store)


async def test_a_tag_that_cannot_be_stored_is_refused_with_its_whole_append(store: EventStore) -> None:
    for value in ("c\0", "x" * MAX_NAME):
        with pytest.raises((LimitExceededError, InvalidEventError)):
            await store.append([Stored(), Stored(customer=value)])
    await go_on(store)


async def test_names_of_the_greatest_length_are_stored(store: EventStore) -> None:
    longest = "ü" * MAX_NAME
    await store.append_events(longest, longest, [Stored(customer="x" * (MAX_NAME - 9))], expected_version=0)
    (recorded,) = [each async for each in store.read_stream(longest)]
    assert recorded.stream_type == longest


async def test_a_payload_beyond_the_limit_is_refused_and_one_at_it_is_stored(store: EventStore) -> None:
    frame = len(b'{"text":"","customer":null}')
    with pytest.raises(LimitExceededError, match="store large content elsewhere"):
        await store.append([Stored(), Stored("x" * (MAX_PAYLOAD - frame + 1))])
    assert await store.head() == 0
    await store.append([Stored("x" * (MAX_PAYLOAD - frame))])
    (recorded,) = [each async for each in store.read()]
    assert len(recorded.event.text) == MAX_PAYLOAD - frame


async def test_an_append_of_too_many_events_is_refused(store: EventStore) -> None:
    with pytest.raises(LimitExceededError, match="at most 100000 events, got 100001; split it"):
        await store.append([Stored()] * (LogOptions().max_events + 1))
    await go_on(store)


async def test_an_append_of_too_many_bytes_is_refused(store: EventStore) -> None:
    large = [Stored("x" * 8_000_000)] * (LogOptions().max_bytes // 8_000_000)
    with pytest.raises(LimitExceededError, match="at most 67108864 bytes of payload, got 72000243; split it"):
        await store.append([*large, large[0]])
    await go_on(store)
    assert (await store.append(large)).position == 9


async def test_a_nul_in_a_payload_is_refused(store: EventStore) -> None:
    for text in ("\0", "a\0b", "\\\0"):
        with pytest.raises(InvalidEventError, match="NUL character"):
            await store.append([Stored(), Stored(text)])
    await go_on(store)


async def test_an_append_of_no_events_is_refused_by_the_store(store: EventStore) -> None:
    with pytest.raises(ValueError, match="at least one event"):
        await store.append([])
    with pytest.raises(ValueError, match="at least one event"):
        await store.append_events("Note-1", "Note", [], expected_version=0)
    await go_on(store)


def test_an_append_of_no_events_cannot_even_be_made() -> None:
    with pytest.raises(ValueError, match="at least one event"):
        Append(())


async def test_an_event_of_an_unknown_type_is_a_named_error_and_does_not_stop_the_log(store: EventStore) -> None:
    await store.append([Stored("before"), Foreign("?"), Stored("after")])
    reader = EventStore(store.log)
    reader.events.register(Stored)
    with pytest.raises(UnknownEventTypeError, match=r"event 2 is a 'Foreign'.*register") as caught:
        _ = [each async for each in reader.read()]
    assert (caught.value.type_name, caught.value.position) == ("Foreign", 2)
    known = [each.event.text async for each in reader.read(EventQuery.of(Stored))]
    assert known == ["before", "after"]
    assert (await reader.append([Stored("more")])).position == 4


async def test_an_event_of_a_newer_schema_than_the_code_is_a_named_error(store: EventStore) -> None:
    await EventStore(store.log).append([StoredByNewerCode("new")])
    store.events.register(Stored)
    with pytest.raises(NewerSchemaError, match=r"schema version 2, this code knows 1; deploy readers before writers"):
        _ = [each async for each in store.read()]
    assert (await store.append([Stored("old")])).position == 2


async def test_a_payload_that_does_not_fit_the_class_of_today_is_a_named_error(store: EventStore) -> None:
    await store.append([Stored("text")])
    reader = EventStore(store.log)
    reader.events.register(StoredByOtherCode)
    with pytest.raises(UnreadableEventError, match=r"event 1 \(Stored, schema version 1\) cannot be read"):
        _ = [each async for each in reader.read()]


async def test_a_position_beyond_all_numbers_of_the_engine_is_beyond_the_head(log: EventLog) -> None:
    await log.append(append_of(new_event("Note-1", "x")))
    for beyond in (2**63 - 1, 2**63, 2**200):
        for query in (EVERYTHING, topic("x")):
            assert not await log.read(query, after=beyond, limit=10)
            assert len(await log.read(query, before=beyond, limit=beyond)) == 1
        assert not await log.read_stream("Note-1", after=beyond, limit=beyond)
        assert isinstance(await log.append(append_of(new_event(), expected={"Note-1": beyond})), Rejected)
    for beyond in (2**63 - 1, 2**63, 2**200):
        assert isinstance(await log.append(append_of(new_event(), fail_if=topic("x"), after=beyond)), Appended)


@pytest.mark.parametrize("backwards", [False, True])
async def test_an_item_may_have_any_number_of_tags(log: EventLog, backwards: bool) -> None:
    for count in (12, 13, 20, 21, 22, 64, 65, 100, 500):
        names, head = [f"{count} {n}" for n in range(count)], await log.head()
        await log.append(append_of(*(new_event("", *names[: count - lack]) for lack in (0, 1, 0, 2))))
        rows = await log.read(topic(*names), limit=10, backwards=backwards)
        assert sorted(row.position - head for row in rows) == [1, 3]
        assert (rows[0].position > rows[1].position) is backwards
        rejected = await log.append(append_of(new_event(), fail_if=topic(*names)))
        assert isinstance(rejected, Rejected)
        assert [row.position - head for row in rejected.conflicts] == [1, 3]


@pytest.mark.parametrize("tags", [(), ("topic:x",)])
async def test_an_item_may_have_any_number_of_types(log: EventLog, tags: tuple[str, ...]) -> None:
    await log.append(append_of(new_event("", "x")))
    for count in (16, 17, 1000, 1001, 40_000):
        others = tuple(f"Type{n}" for n in range(count - 1))
        for types, expected in ((("Noted", *others), 1), (("Absent", *others), 0)):
            query = EventQuery((QueryItem(types, tags),))
            assert len(await log.read(query, limit=10)) == expected
            outcome = await log.append(Append((new_event("", kind=Revised),), condition=AppendCondition(query, 0)))
            assert isinstance(outcome, Rejected) is bool(expected)


async def test_deeply_nested_metadata_and_large_tags_lists_come_back(log: EventLog) -> None:
    metadata = msgspec.json.encode({"extra": {f"key{n}": "x" * 1000 for n in range(100)}})
    event = new_event("Note-1", *(f"t{n}" for n in range(2000)), metadata=metadata)
    await log.append(append_of(event))
    (row,) = await log.read(topic("t1999", "t0"), limit=10)
    assert (row.metadata, row.tags) == (metadata, event.tags)
