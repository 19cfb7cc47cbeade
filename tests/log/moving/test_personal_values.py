"""A transform of a log with personal fields: they are encrypted again for what they become, and none is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import pytest
import pytest_asyncio

from twofold import (
    Event,
    EventStore,
    Moved,
    Personal,
    PlainEvent,
    SourceEvent,
    Subject,
    TransformFailedError,
    event_type,
    open_event_store,
    transform_log,
)

KEY = b"0" * 32


@dataclass(frozen=True, kw_only=True)
class Registered(Event):
    guest_id: Annotated[str, Subject()]
    name: Annotated[str, Personal()]
    phone: Annotated[str, Personal(placeholder="")] = ""
    room: int = 1


@event_type("Welcomed")
@dataclass(frozen=True, kw_only=True)
class Welcomed(Event):
    """What the transform makes of it: another type, in which the name has another name."""

    guest_id: Annotated[str, Subject()]
    full_name: Annotated[str, Personal()]


@dataclass(frozen=True, kw_only=True)
class Called(Event):
    """The second event that the transform makes."""

    guest_id: Annotated[str, Subject()]
    phone: Annotated[str, Personal(placeholder="")] = ""


ANN = Registered(guest_id="g1", name="Ann", phone="55")
BOB = Registered(guest_id="g2", name="Bob", phone="66")


@pytest_asyncio.fixture
async def source(any_url: str, tmp_path: Path) -> AsyncIterator[EventStore]:
    """Hold an event of each guest; the second one is forgotten."""
    async with open_event_store(any_url, keys_url=f"sqlite:///{tmp_path}/keys.db", master_key=KEY) as store:
        for each in (ANN, BOB):
            await store.append_events(f"Guest-{each.guest_id}", "Guest", [each], expected_version=0)
        assert store.keys is not None
        store.keys.forget("g2", reason="asked", by="test")
        yield store


@pytest_asyncio.fixture
async def target(source: EventStore) -> AsyncIterator[EventStore]:
    async with open_event_store("memory://") as opened:
        yield EventStore(opened.log, keys=source.keys)


def split(source: SourceEvent) -> Iterable[PlainEvent]:
    """Rename the type and a personal field, and move another one into an event of its own."""
    event = source.event
    data = {"guest_id": event.data["guest_id"]}
    names = {key: {"full_name": each["name"]} for key, each in event.personal.items()}
    phones = {key: {"phone": each["phone"]} for key, each in event.personal.items()}
    yield replace(event, type="Welcomed", data=data | {"full_name": event.data["name"]}, personal=names)
    yield replace(event, type="Called", data=data | {"phone": event.data["phone"]}, personal=phones)


async def events(store: EventStore) -> list[Any]:
    store.events.register(Registered, Welcomed, Called)
    return [each.event async for each in store.read()]


async def payloads(store: EventStore) -> list[bytes]:
    return [each.stored.payload async for each in store.read(unknown="raw")]


async def test_what_a_transform_changes_is_encrypted_again_for_its_new_id_and_type(
    source: EventStore, target: EventStore
) -> None:
    for _ in range(2):  # a repeat finds that all is there: what is encrypted is always the same
        moved: Moved = await transform_log(source, target, split)
    assert (moved.already, moved.written) == (4, 4)
    assert await events(target) == [
        Welcomed(guest_id="g1", full_name="Ann"),
        Called(guest_id="g1", phone="55"),
        Welcomed(guest_id="g2", full_name="(forgotten)"),
        Called(guest_id="g2"),
    ]
    assert b"Ann" not in b"".join(await payloads(target))
    assert repr(moved.examples).count("Ann") == 0


def retyped(source: SourceEvent) -> Iterable[PlainEvent]:
    return [replace(source.event, type="Enrolled")]


async def test_a_type_that_is_renamed_binds_its_events_again_although_their_data_stay(
    source: EventStore, target: EventStore
) -> None:
    @event_type("Enrolled")
    @dataclass(frozen=True, kw_only=True)
    class Enrolled(Registered):
        """The same fields."""

    await transform_log(source, target, retyped)
    target.events.register(Enrolled)
    assert [each.event.name async for each in target.read()] == ["Ann", "(forgotten)"]
    with pytest.raises(TransformFailedError, match="name the key store of the source"):
        await transform_log(EventStore(source.log), None, retyped)


async def test_what_a_transform_leaves_stays_byte_for_byte_and_without_keys_too(
    source: EventStore, target: EventStore
) -> None:
    def to_another_stream(source: SourceEvent) -> Iterable[PlainEvent]:
        return [replace(source.event, stream_id="Visitor-1", stream_type="Visitor", tags=("a:b",))]

    await transform_log(EventStore(source.log), target, to_another_stream)
    assert await payloads(source) == await payloads(target)
    assert (await events(target))[0] == ANN


def with_data(**data: Any) -> Any:
    return lambda source: [replace(source.event, data={**source.event.data, **data})]


async def test_a_public_field_may_change_and_the_personal_ones_stay(source: EventStore, target: EventStore) -> None:
    await transform_log(source, target, with_data(room=7))
    assert await events(target) == [replace(ANN, room=7), Registered(guest_id="g2", name="(forgotten)", room=7)]


async def test_a_personal_field_that_is_dropped_does_not_come_back(source: EventStore, target: EventStore) -> None:
    def without_phone(source: SourceEvent) -> Iterable[PlainEvent]:
        event = source.event
        data = {name: value for name, value in event.data.items() if name != "phone"}
        return [
            replace(event, data=data, personal={key: {"name": each["name"]} for key, each in event.personal.items()})
        ]

    await transform_log(source, target, without_phone)
    assert (await events(target))[0] == replace(ANN, phone="")


@pytest.mark.parametrize(
    ("transform", "remedy"),
    [
        (lambda source: [replace(source.event, data={"guest_id": "g1", "name": "x"})], "no such field"),
        (lambda source: [replace(source.event, personal={})], "of 'name' would be lost"),
        (with_data(**{"~personal": {}}), "Twofold's own"),
    ],
)
async def test_what_would_lose_personal_values_is_refused(
    source: EventStore, target: EventStore, transform: Any, remedy: str
) -> None:
    with pytest.raises(TransformFailedError, match=remedy):
        await transform_log(source, target, transform)


async def test_a_forgotten_person_gets_no_values(source: EventStore, target: EventStore) -> None:
    def of_the_other(source: SourceEvent) -> Iterable[PlainEvent]:
        if source.event.personal:
            known.update(source.event.personal)
            return [source.event]
        return [replace(source.event, data={"guest_id": "g2", "name": ""}, personal={forgotten: {"name": "Bob"}})]

    known: dict[str, Any] = {}
    assert source.keys is not None
    forgotten = source.keys.digest("g2")
    with pytest.raises(TransformFailedError, match="is destroyed"):
        await transform_log(source, target, of_the_other)


@pytest.mark.parametrize("transform", [split, with_data(room=7)], ids=["split", "changed"])
async def test_without_keys_it_is_refused_by_name(source: EventStore, target: EventStore, transform: Any) -> None:
    def of_plain(source: SourceEvent) -> Iterable[PlainEvent]:
        changed = {"name": "x", "phone": "y"} if transform is split else {}
        return transform(replace(source, event=replace(source.event, personal={"0" * 32: changed} if changed else {})))  # type: ignore[no-any-return]

    with pytest.raises(TransformFailedError, match="name the key store of the source"):
        await transform_log(EventStore(source.log), target, of_plain)
