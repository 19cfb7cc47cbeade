"""No path to personal fields asks the key store on the event loop, where its answer would hold up all other tasks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import pytest_asyncio
from tests.privacy.guests import (
    GUEST,
    MASTER_KEY,
    OPTIONS,
    Greeter,
    Guest,
    GuestRegistered,
    Hotel,
    RoomCleaned,
    WishNoted,
    check_in,
    hotel,
)
from tests.synchronizing import PATIENCE, until

from twofold import AppendCondition, ConflictError, DecisionModel, EventQuery, RecordedEvent, open_event_store
from twofold.log.add_tags import add_tags
from twofold.options import PrivacyOptions
from twofold.processes import Process, evolve, on, starts

PATIENT = replace(OPTIONS, privacy=PrivacyOptions(recheck=PATIENCE, settling=0.05))
"""The time after which the store is asked again is no part of what is looked at."""


class OffTheLoop:
    """Passes all on to a key store, and notes what is called on the event loop."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.asked, self.blocking = list[str](), list[str]()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        def call(*args: Any, **named: Any) -> Any:
            self.asked.append(name)
            try:
                asyncio.get_running_loop()
            except RuntimeError:
                return method(*args, **named)
            self.blocking.append(name)
            return method(*args, **named)

        return call


class Eager(Greeter):
    """Counts how often it tries."""

    tried = 0

    async def apply(self, event: WishNoted, recorded: RecordedEvent[Any]) -> None:
        Eager.tried += 1
        await super().apply(event, recorded)


class Stays(Process[int]):
    """Keeps the events of guests, which hold personal fields, in its steps."""

    name, initial = "stays", 0
    seen: ClassVar[dict[str, int]] = {}

    @starts(GuestRegistered, key="guest_id")
    def registered(self, wishes: int, event: GuestRegistered) -> Iterator[object]:
        yield from ()

    @on(WishNoted, key="guest_id")
    def noted(self, wishes: int, event: WishNoted) -> Iterator[object]:
        self.seen[event.guest_id] = wishes
        yield from ()

    @evolve(WishNoted)
    def count(self, wishes: int, event: WishNoted) -> int:
        return wishes + (event.wish == GUEST["wish"])

    def is_completed(self, wishes: int) -> bool:
        return False


WISHES = EventQuery.of(WishNoted, tags=["guest:g1"])
COUNTED: DecisionModel[int] = DecisionModel(
    query=WISHES, initial_state=0, evolve=lambda count, event: count + (event.wish == GUEST["wish"])
)


@pytest_asyncio.fixture
async def app(url: str, tmp_path: Path) -> AsyncIterator[Hotel]:
    """Run an application that begins with a log of another process, without any keys."""
    keys_url = f"sqlite:///{tmp_path}/keys.db" if url.startswith("sqlite") else url
    async with open_event_store(url, keys_url=keys_url, master_key=MASTER_KEY) as store:
        for guest in ("g1", "g2"):
            sent = [WishNoted(guest_id=guest, wish=GUEST["wish"], number=number) for number in range(4)]
            registered = GuestRegistered(guest_id=guest, name=GUEST["name"], email=GUEST["email"])
            await store.append_events(f"Guest-{guest}", "Guest", [registered, *sent], expected_version=0)
    app = hotel(url, keys_url, options=PATIENT)
    app.projections.add(Eager(), start="beginning")
    app.processes.add(Stays(), start="beginning")
    assert app.store.keys is not None
    app.store.keys.store = OffTheLoop(app.store.keys.store)
    async with app:
        yield app


async def folded(app: Hotel) -> None:
    names = [runner.name for runner in app.projections.runners]
    await app.projections.wait(await app.store.head(), PATIENCE, names)
    for model in app.models.values():
        row = await model.get("g1")
        assert row is not None
        assert row.name == GUEST["name"]


async def read(app: Hotel) -> None:
    assert [each.event.wish async for each in app.store.read(WISHES)] == 4 * [GUEST["wish"]]


async def read_stream(app: Hotel) -> None:
    assert len([each async for each in app.store.read_stream("Guest-g1")]) == 5


async def subscribed(app: Hotel) -> None:
    for subscription in (app.store.subscribe(WISHES), app.store.subscribe(stream_id="Guest-g1")):
        batch = await anext(subscription)
        assert batch.events[-1].event.guest_id == "g1"


async def loaded(app: Hotel) -> None:
    assert (await app.repository(Guest).load("g1")).name == GUEST["name"]


async def of_the_past(app: Hotel) -> None:
    async with app.models["guests"].as_of(await app.store.head()) as model:
        row = await model.get("g1")
    assert row is not None
    assert row.name == GUEST["name"]


async def decided(app: Hotel) -> None:
    assert (await app.store.decide(COUNTED)).state == 4


async def refused(app: Hotel) -> None:
    event = RoomCleaned(room="1")
    with pytest.raises(ConflictError) as conflict:
        await app.store.append([event], condition=AppendCondition(WISHES, after=0))
    assert conflict.value.conflicts[0].event.wish == GUEST["wish"]


async def stepped(app: Hotel) -> None:
    await app.store.append([WishNoted(guest_id="g2", wish="a lamp")])  # for which its earlier steps are folded
    await app.projections.wait(await app.store.head(), PATIENCE, [runner.name for runner in app.projections.runners])
    assert Stays.seen["g2"] == 4


async def retried(app: Hotel) -> None:
    before, control = Eager.tried, app.projections.control("greeter")
    assert await control.retry() == 2

    async def tried() -> bool:
        return not await control.retrying()

    await until(tried)
    assert Eager.tried >= before + 2


async def rebuilt(app: Hotel) -> None:
    for name in ("guests", "inline_guests"):
        await app.projections.rebuild_projection(name)


async def tagged(app: Hotel) -> None:
    await add_tags(app.store, "WishNoted")


async def exported(app: Hotel) -> None:
    told = [each async for each in app.privacy.export("g1")]
    steps = [each["data"]["input"]["payload"] for each in told if each["type"] == "twofold.ProcessStep"]
    assert len(told) == 5 + len(steps)
    assert [each.get("name") or each["wish"] for each in steps] == [GUEST["name"], *[GUEST["wish"]] * (len(steps) - 1)]
    assert "~personal" not in repr(told)


async def appended(app: Hotel) -> None:
    await check_in(app, f"g-{await app.store.head()}", "Bob", "bob@example.com", "a lamp", wishes=20)
    await folded(app)


WAYS = (folded, read, read_stream, subscribed, loaded, of_the_past, decided, refused, retried, rebuilt, tagged,
        exported, stepped, appended)  # fmt: skip


async def test_no_way_to_personal_fields_asks_the_key_store_on_the_event_loop(app: Hotel) -> None:
    assert app.store.keys is not None
    store: Any = app.store.keys.store
    for way in WAYS:
        for is_due in (False, True):
            app.store.keys.known.clear()
            if is_due:
                app.store.keys._due = time.monotonic() + PATIENCE / 4
            store.asked.clear()
            await way(app)
            assert (way.__name__, store.blocking) == (way.__name__, [])
            assert store.asked, f"{way.__name__} has needed no key"
