"""What each of five generations has written in plain text is sealed, and its persons are forgotten by today's code."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pytest_asyncio
from tests.log.generations.record import RECORDED
from tests.log.generations.second import in_cents
from tests.log.generations.third import split_name
from tests.log.generations.today import ITEM_VIEWED, OrderDispatched, OrderPaid, with_city
from tests.privacy.guests import MASTER_KEY, OPTIONS
from tests.synchronizing import PATIENCE

from twofold import (
    Aggregate,
    Application,
    Event,
    EventStore,
    Into,
    Key,
    Personal,
    Projection,
    RetiredType,
    Subject,
    Tag,
    event_type,
    export_log,
    import_log,
    on,
    open_event_store,
)
from twofold.log.integrity.keys import damaged_keys
from twofold.log.integrity.snapshots import stored_snapshots
from twofold.privacy.sealing import seal_log
from twofold.processes import Process, evolve, starts

OrderId = Annotated[str, Subject(), Tag("order")]
Text = Annotated[str, Personal()]
ORDERS = ("g1", "g2", "g3", "g4", "g5")
WORDS = (b"Lovelace", b"Main St", b"Oslo", b"Side St", b"Low St", b"High St", b"New St", b"Kyiv")


def without_address(old: dict[str, Any]) -> Iterator[dict[str, Any] | Into]:
    street = old.pop("street")
    yield old
    yield Into(AddressChanged, {"order_id": old["order_id"], "street": street})


def moved(old: dict[str, Any]) -> Iterator[Into]:
    yield Into(AddressChanged, {"order_id": old["order_id"], "street": old["street"]})
    yield Into(PhoneChanged, {"order_id": old["order_id"], "phone": old["phone"]})


@event_type(version=4, upcasters={1: in_cents, 2: split_name, 3: without_address})
@dataclass(frozen=True, kw_only=True)
class OrderPlaced(Event):
    order_id: OrderId
    given: Text
    family: Text
    cents: int


ORDER_MOVED = RetiredType("OrderMoved", upcasters={1: moved})


@event_type(version=2, upcasters={1: with_city}, made_of=(OrderPlaced, ORDER_MOVED))
@dataclass(frozen=True, kw_only=True)
class AddressChanged(Event):
    order_id: OrderId
    street: Text
    city: Text


@event_type(made_of=(ORDER_MOVED,))
@dataclass(frozen=True, kw_only=True)
class PhoneChanged(Event):
    order_id: OrderId
    phone: Text


@event_type("PhoneChanged")
@dataclass(frozen=True, kw_only=True)
class PlainPhoneChanged(Event):
    order_id: Annotated[str, Tag("order")]
    phone: str


ALL = (OrderPlaced, AddressChanged, PhoneChanged, OrderDispatched, OrderPaid, ITEM_VIEWED)


class Order(Aggregate):
    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.family = self.city = ""

    @on(OrderPlaced)
    def placed(self, event: OrderPlaced) -> None:
        self.family = event.family

    @on(AddressChanged)
    def moved(self, event: AddressChanged) -> None:
        self.city = event.city

    @on(PhoneChanged, OrderDispatched, OrderPaid)
    def noted(self, event: object) -> None:
        """Change nothing."""


@dataclass(frozen=True, kw_only=True)
class Buyer:
    order_id: Annotated[str, Key()]
    family: str
    city: str = ""


class Buyers(Projection[Buyer]):
    name = "buyers"

    @on(OrderPlaced)
    def placed(self, event: OrderPlaced) -> Buyer:
        return Buyer(order_id=event.order_id, family=event.family)

    @on(AddressChanged)
    def moved(self, row: Buyer, event: AddressChanged) -> Buyer:
        return replace(row, city=event.city)


async def test_a_field_that_became_personal_after_others_were_is_sealed_too() -> None:
    @event_type("Called")
    @dataclass(frozen=True, kw_only=True)
    class Earlier(Event):
        order_id: OrderId
        family: Text
        phone: str

    @event_type("Called")
    @dataclass(frozen=True, kw_only=True)
    class Called(Event):
        order_id: OrderId
        family: Text
        phone: Text

    async with open_event_store("memory://") as source, open_event_store("memory://") as target:
        await source.append([Earlier(order_id="g1", family="Lovelace", phone="0171 555")])
        store = EventStore(source.log, keys=source.keys)
        store.events.register(Called)
        await store.append([Called(order_id="g2", family="Lovelace", phone="0171 555")])
        sealed = EventStore(target.log, keys=source.keys)
        sealed.events.register(Called)
        await seal_log(store, sealed)
        read = [each async for each in sealed.read()]
        assert [each.event.phone for each in read] == ["0171 555"] * 2
        assert [each.stored.payload for each in read if b"0171" in each.stored.payload] == []
        [unchanged] = [each.stored async for each in store.read(after=1)]
        assert read[1].stored == unchanged


class Calls(Process[tuple[str, ...]]):
    """Remembers which numbers a person has had, in the events that its steps keep."""

    name, initial = "calls", ()
    seen: ClassVar[list[tuple[str, ...]]] = []

    @starts(PhoneChanged, key="order_id")
    def changed(self, phones: tuple[str, ...], event: PhoneChanged) -> Iterator[object]:
        self.seen.append(phones)
        yield from ()

    @evolve(PhoneChanged)
    def add(self, phones: tuple[str, ...], event: PhoneChanged) -> tuple[str, ...]:
        return (*phones, event.phone)

    def is_completed(self, phones: tuple[str, ...]) -> bool:
        return False


class PlainCalls(Process[tuple[str, ...]]):
    """As it was before phones were personal."""

    name, initial = "calls", ()

    @starts(PlainPhoneChanged, key="order_id")
    def changed(self, phones: tuple[str, ...], event: PlainPhoneChanged) -> Iterator[object]:
        yield from ()

    @evolve(PlainPhoneChanged)
    def add(self, phones: tuple[str, ...], event: PlainPhoneChanged) -> tuple[str, ...]:
        return (*phones, event.phone)

    def is_completed(self, phones: tuple[str, ...]) -> bool:
        return False


async def test_the_events_that_steps_of_processes_keep_are_sealed_too(tmp_path: Path) -> None:
    urls = [f"sqlite:///{tmp_path}/{name}.db" for name in ("plain", "sealed", "keys")]
    before = Application(urls[0], options=OPTIONS)
    before.processes.add(PlainCalls(), start="beginning")
    async with before:
        for number in ("0171 1", "0171 2"):
            await before.store.append([PlainPhoneChanged(order_id="g1", phone=number)])
        names = [runner.name for runner in before.projections.runners]
        await before.projections.wait(await before.store.head(), PATIENCE, names)
    app = Application(urls[1], keys_url=urls[2], master_key=MASTER_KEY, options=OPTIONS)
    app.processes.add(Calls(), start="now")
    async with open_event_store(urls[0]) as plain, open_event_store(urls[1]) as target:
        await seal_log(EventStore(plain.log, app.store.events, keys=app.store.keys), target)
    async with app:
        rows = [each.stored async for each in app.store.read(unknown="raw")]
        assert [row.type for row in rows].count("twofold.ProcessStep") == 2
        assert [row.position for row in rows if b"0171" in row.payload] == []
        await app.store.append([PhoneChanged(order_id="g1", phone="0171 3")])
        names = [runner.name for runner in app.projections.runners]
        await app.projections.wait(await app.store.head(), PATIENCE, names)
        assert Calls.seen[-1] == ("0171 1", "0171 2", "0171 3")


@pytest_asyncio.fixture
async def app(url: str, tmp_path: Path) -> AsyncIterator[Application]:
    """Run today's code on the sealed log of all generations."""
    keys_url = f"sqlite:///{tmp_path}/keys.db" if url.startswith("sqlite") else url
    app = Application(url, keys_url=keys_url, master_key=MASTER_KEY, options=OPTIONS)
    app.store.events.register(*ALL)
    async with open_event_store("memory://") as plain, open_event_store(url) as target:
        await import_log(plain, RECORDED / "all.jsonl")
        source = EventStore(plain.log, app.store.events, keys=app.store.keys)
        moved = await seal_log(source, target)
        assert moved.written > moved.read  # what is several events today stands there as several
        assert await seal_log(source, target) == moved._replace(already=moved.written)
    app.projections.add(Buyers())
    async with app:
        yield app


async def people(app: Application) -> dict[str, tuple[str, str, str, str]]:
    """Return what the aggregate and the read model know of each order's person."""
    await app.projections.wait(await app.store.head(), PATIENCE)
    orders, buyers, found = app.repository(Order), app.projections.read_model("buyers"), {}
    for order in ORDERS:
        loaded, row = await orders.load(order), await buyers.get(order)
        assert row is not None
        found[order] = (loaded.family, loaded.city, row.family, row.city)
    return found


async def test_what_each_generation_wrote_is_sealed_read_exported_and_forgotten(
    app: Application, tmp_path: Path
) -> None:
    cities = {"g1": "Oslo", "g2": "Rome", "g3": "Bern", "g4": "Lima", "g5": "Kyiv"}
    known = {order: ("Lovelace", city) * 2 for order, city in cities.items()}
    assert await people(app) == known
    await export_log(app.store, tmp_path / "sealed.jsonl")
    exported = (tmp_path / "sealed.jsonl").read_bytes()
    assert [word for word in WORDS if word in exported] == []
    for order in ORDERS:  # one after the other: no other person is touched
        report = await app.privacy.forget(order, reason="asked", by="test")
        assert report.read_models == ("buyers",)
        known[order] = ("(forgotten)", "(forgotten)") * 2
        assert await people(app) == known
    assert {each.event.family async for each in app.store.read() if isinstance(each.event, OrderPlaced)} == {
        "(forgotten)"
    }
    assert app.store.keys is not None
    assert [each async for each in damaged_keys(app.store.log, app.store.keys, await app.store.head())] == []
    assert [each async for each in stored_snapshots(app.store.log) if b"Lovelace" in each.state] == []
