"""Five generations of code have written one log: today's reads it on every path, split, renamed and dropped."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, ClassVar, cast

import pytest
import pytest_asyncio
from tests.log.generations.record import RECORDED
from tests.log.generations.today import (
    ALL,
    ITEM_VIEWED,
    AddressChanged,
    OrderDispatched,
    OrderPaid,
    OrderPlaced,
    PhoneChanged,
    write,
)
from tests.synchronizing import PATIENCE, QUICK, until

from twofold import (
    Aggregate,
    AppendCondition,
    Application,
    BatchReaction,
    ConflictError,
    DecisionModel,
    EventQuery,
    EventStore,
    GroupedProjection,
    Index,
    Key,
    LogOptions,
    Options,
    Projection,
    RawEvent,
    Reaction,
    RecordedEvent,
    Repository,
    RetiredType,
    SqlProjection,
    combine,
    event_type,
    export_log,
    import_log,
    on,
    open_event_store,
)
from twofold.commands.folds import AggregateFold
from twofold.errors import InvalidMessageTypeError, ProjectionFailedError, UnreadableEventError
from twofold.log.copy import copy_log
from twofold.log.folding.fingerprint import fold_fingerprint
from twofold.ports.maintenance import PortableLog
from twofold.processes import Process, evolve, starts
from twofold.processes import on as takes
from twofold.testing import Stored, scenario


def _life(order: str, *later: object) -> list[object]:
    return [OrderPlaced(order_id=order, given="Ada", family="Lovelace", cents=1990), *later]


def _address(order: str, street: str, city: str) -> AddressChanged:
    return AddressChanged(order_id=order, street=street, city=city)


def _dispatched(order: str, carrier: str, parcels: int) -> OrderDispatched:
    return OrderDispatched(order_id=order, carrier=carrier, parcels=parcels)


def _phone(order: str, phone: str) -> PhoneChanged:
    return PhoneChanged(order_id=order, phone=phone)


def _paid(order: str) -> OrderPaid:
    return OrderPaid(order_id=order, amount=Decimal("19.90"), currency="EUR")


LIVES: dict[str, list[Any]] = {
    "g1": _life("g1", _address("g1", "1 Main St", "Oslo"), _dispatched("g1", "mule", 1)),
    "g2": _life("g2", _address("g2", "1 Main St", "Oslo"), _address("g2", "2 Side St", "Rome"), _phone("g2", "22"),
                _dispatched("g2", "ship", 1)),
    "g3": _life("g3", _address("g3", "1 Main St", "Oslo"), _address("g3", "3 Low St", "Bern"), _phone("g3", "33"),
                _paid("g3"), _dispatched("g3", "rail", 3)),
    "g4": _life("g4", _address("g4", "4 High St", "Lima"), _phone("g4", "44"), _paid("g4"),
                _dispatched("g4", "air", 4)),
    "g5": _life("g5", _address("g5", "5 New St", "Kyiv"), _phone("g5", "55"), _paid("g5"),
                _dispatched("g5", "drone", 5)),
}  # fmt: skip
"""What the events that the generations wrote are today."""
EVERY = [event for life in LIVES.values() for event in life]
VERSIONS = {"g1": 3, "g2": 5, "g3": 5, "g4": 5, "g5": 5}
CITIES = {"g1": "Oslo", "g2": "Rome", "g3": "Bern", "g4": "Lima", "g5": "Kyiv"}
MOVES = EventQuery.of(AddressChanged, PhoneChanged)


def of(*classes: type, order: str = "") -> list[Any]:
    """Return what there is of some classes today."""
    return [each for each in (LIVES[order] if order else EVERY) if isinstance(each, classes)]


@pytest_asyncio.fixture
async def store(any_url: str) -> AsyncIterator[EventStore]:
    """Hold the log that the five generations have written one after the other."""
    options = LogOptions(first_chunk=3, chunk=4, short_stream=1, snapshot_every=1)
    async with open_event_store(any_url) as opened:
        await import_log(EventStore(opened.log), RECORDED / "all.jsonl")
        store = EventStore(opened.log, options=options)
        store.events.register(*ALL)
        yield store
        await store.snapshots.end()


async def events(recorded: AsyncIterator[RecordedEvent[Any]]) -> list[Any]:
    return [each.event async for each in recorded]


@pytest.mark.parametrize("generation", [1, 2, 3, 4, 5])
async def test_what_each_generation_has_recorded_is_read_and_exported(generation: int, tmp_path: Path) -> None:
    async with open_event_store("memory://") as store, open_event_store("memory://") as other:
        store.events.register(*ALL)
        await import_log(store, RECORDED / f"{generation}.jsonl")
        assert await events(store.read()) == LIVES[f"g{generation}"]
        await export_log(store, tmp_path / "again.jsonl")
        await import_log(other, tmp_path / "again.jsonl")
        other.events.register(*ALL)
        assert await events(other.read()) == LIVES[f"g{generation}"]


async def test_all_are_read_forwards_backwards_and_by_numbers(store: EventStore) -> None:
    assert await events(store.read()) == EVERY
    assert await events(store.read(backwards=True)) == EVERY[::-1]
    for count in range(1, len(EVERY) + 1):
        assert await events(store.read(limit=count)) == EVERY[:count]
        assert await events(store.read(backwards=True, limit=count)) == EVERY[::-1][:count]


async def test_the_parts_of_a_stored_event_have_its_place_and_ids_of_their_own(store: EventStore) -> None:
    first, second = [each async for each in store.read(EventQuery.of(OrderPlaced, AddressChanged, tags=["order:g1"]))]
    assert (first.position, first.version, first.part, first.type) == (2, 2, 1, "OrderPlaced")
    assert (second.position, second.version, second.part, second.type) == (2, 2, 2, "AddressChanged")
    assert first.stored is second.stored
    assert first != second
    assert first.event_id != second.event_id
    again = [each async for each in store.read(EventQuery.of(AddressChanged, tags=["order:g1"]))]
    assert [each.event_id for each in again] == [second.event_id]


@pytest.mark.parametrize("cls", [OrderPlaced, AddressChanged, PhoneChanged, OrderDispatched, OrderPaid])
async def test_a_filter_by_type_looks_up_all_that_its_events_were_stored_as(store: EventStore, cls: type) -> None:
    query = EventQuery.of(cls)
    assert await events(store.read(query)) == of(cls)
    assert await events(store.read(EventQuery.of(cls, tags=["order:g3"]))) == of(cls, order="g3")
    subscribed = store.subscribe(query, batch_size=3)
    seen: list[object] = []
    while subscribed.position < await store.head():
        seen += [each.event for each in (await anext(subscribed)).events]
    assert seen == of(cls)


async def test_queries_of_several_classes_give_each_event_once(store: EventStore) -> None:
    assert await events(store.read(MOVES)) == of(AddressChanged, PhoneChanged)
    assert await events(store.read(EventQuery.of(PhoneChanged) | EventQuery.of(OrderPaid, tags=["order:g3"]))) == [
        each for each in EVERY if isinstance(each, PhoneChanged) or each == _paid("g3")
    ]
    assert await events(store.read(EventQuery.of("OrderMoved"))) == []  # events of today have no such type


async def test_streams_and_subscriptions_to_them(store: EventStore) -> None:
    for order, life in LIVES.items():
        assert await events(store.read_stream(f"Order-{order}")) == life
        subscribed = store.subscribe(stream_id=f"Order-{order}")
        seen: list[Any] = []
        while len(seen) < len(life):
            seen += [each.event for each in (await anext(subscribed)).events]
        assert seen == life


class Order(Aggregate):
    """Knows all of an order."""

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.seen: list[tuple[str, int]] = []
        self.city = ""

    @on(OrderPlaced, PhoneChanged, OrderDispatched, OrderPaid)
    def note(self, event: OrderPlaced | PhoneChanged | OrderDispatched | OrderPaid | AddressChanged) -> None:
        self.seen.append((type(event).__name__, self.version))

    @on(AddressChanged)
    def moved(self, event: AddressChanged) -> None:
        self.note(event)
        self.city = event.city


class Address(Aggregate):
    """Knows where an order goes to, and ignores all else, also what an address was split from."""

    stream_type = "Order"
    ignores = (OrderPlaced, PhoneChanged, OrderDispatched, OrderPaid)

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.cities: list[str] = []

    @on(AddressChanged)
    def moved(self, event: AddressChanged) -> None:
        self.cities.append(event.city)


async def test_aggregates_and_their_snapshots(store: EventStore) -> None:
    for is_stored in (False, True):  # from the log, then from snapshots with an event behind them
        process = EventStore(store.log, options=store.options)
        process.events.register(*ALL)
        orders = Repository(process, Order)
        for order, life in LIVES.items():
            loaded = await orders.load(order)
            names = [type(each).__name__ for each in life] + is_stored * ["OrderPaid"]
            assert [name for name, _ in loaded.seen] == names
            assert (loaded.city, loaded.version) == (CITIES[order], VERSIONS[order] + is_stored)
            if not is_stored:
                assert loaded.seen[-1][1] == VERSIONS[order] - (order != "g2") - 2 * (order == "g2")  # of the stream
        await process.snapshots.end()
        if is_stored and hasattr(store.log, "find_snapshot"):
            assert process.snapshots.status().used == len(LIVES)
        for order in LIVES if not is_stored else ():
            await store.append_events(f"Order-{order}", "Order", [_paid(order)], expected_version=VERSIONS[order])


async def test_a_fold_that_ignores_what_an_event_was_split_from_gets_the_event(store: EventStore) -> None:
    addresses = Repository(store, Address)
    assert {order: (await addresses.load(order)).cities for order in LIVES} == {
        order: [each.city for each in of(AddressChanged, order=order)] for order in LIVES
    }
    assert {order: (await addresses.load(order)).version for order in LIVES} == VERSIONS


MODEL: DecisionModel[Any] = DecisionModel(
    query=EventQuery.of(AddressChanged, tags=["order:g3"]), initial_state=(), evolve=lambda s, event: (*s, event.city)
)


async def test_decisions_and_their_conflicts(store: EventStore) -> None:
    decided = await store.decide(MODEL)
    assert decided.state == ("Oslo", "Bern")
    paid = DecisionModel(
        query=EventQuery.of(OrderPaid), initial_state=Decimal(0), evolve=lambda state, event: state + event.amount
    )
    both: DecisionModel[Any] = combine(MODEL, paid)
    assert await store.look(both) == (("Oslo", "Bern"), Decimal("59.70"))
    with pytest.raises(ConflictError) as conflict:
        await store.append([_phone("g3", "1")], condition=AppendCondition(MODEL.query, after=0))
    assert {type(each.event) for each in conflict.value.conflicts} == {OrderPlaced, AddressChanged, PhoneChanged}
    await store.append([_phone("g3", "1")], condition=decided.condition)


async def test_a_split_that_its_class_does_not_name_is_refused(store: EventStore) -> None:
    other = EventStore(store.log)
    with pytest.raises(InvalidMessageTypeError, match="ItemViewed"):
        other.events.register(ITEM_VIEWED, RetiredType("ItemViewed", version=2))

    @event_type("PhoneChanged")
    @dataclass(frozen=True)
    class Unnamed:
        order_id: str
        phone: str

    from twofold import Into

    other.events.register(RetiredType("OrderMoved", upcasters={1: lambda old: Into(Unnamed, {**old})}), Unnamed)
    with pytest.raises(UnreadableEventError, match="made_of"):
        await events(other.read(EventQuery.of("OrderMoved")))


def test_snapshots_are_of_the_upcasters_too() -> None:
    def others(old: dict[str, Any]) -> None:
        return None

    def of_steps(step: Any) -> bytes:
        @event_type("X", made_of=(RetiredType("Y", upcasters={1: step}),))
        @dataclass(frozen=True)
        class X:
            name: str

        return fold_fingerprint([AggregateFold.begin], {}, [X])

    assert of_steps(others) == of_steps(others)
    assert of_steps(others) != of_steps(lambda old: [])


@dataclass(frozen=True, kw_only=True)
class OrderRow:
    """An order."""

    order_id: Annotated[str, Key()]
    cities: tuple[str, ...] = ()
    phone: str = ""
    first: Annotated[str, Index()] = ""


class Orders(Projection[OrderRow]):
    """Reads two classes that were split from others; each effect is there exactly once."""

    name = "orders"
    refused: ClassVar[set[str]] = set()

    @on(AddressChanged)
    def moved(self, row: OrderRow | None, event: AddressChanged) -> OrderRow:
        row = row or OrderRow(order_id=event.order_id, first=event.city)
        return replace(row, cities=(*row.cities, event.city))

    @on(PhoneChanged)
    def reached(self, row: OrderRow | None, event: PhoneChanged) -> OrderRow:
        if event.phone in self.refused:
            raise ValueError("a phone that it cannot take")
        return replace(row or OrderRow(order_id=event.order_id), phone=event.phone)


class InlineOrders(Orders):
    name, refused = "inline_orders", set()


class OnDemandOrders(Orders):
    name, refused = "on_demand_orders", set()


@dataclass(frozen=True, kw_only=True)
class Move:
    """A move of an order."""

    order_id: Annotated[str, Key()]
    number: Annotated[int, Key()]
    city: str


class Moves(GroupedProjection[Move]):
    name = "moves"

    @on(AddressChanged)
    def moved(self, rows: tuple[Move, ...] | None, event: AddressChanged) -> list[Move]:
        rows = rows or ()
        return [*rows, Move(order_id=event.order_id, number=len(rows), city=event.city)]


@dataclass(frozen=True, kw_only=True)
class Contact:
    """What another projection has read of an order."""

    order_id: Annotated[str, Key()]
    was: str = ""


class Contacts(Projection[Contact]):
    name, reads, on_failure = "contacts", (Orders,), "stop"

    @on(PhoneChanged)
    def reached(self, row: Contact | None, event: PhoneChanged) -> Contact:
        order = self.read(Orders, event.order_id)
        return Contact(order_id=event.order_id, was=order.cities[-1] if order else "")


class MovesInSql(SqlProjection):
    name, tables = "moves_sql", ("moves_of_orders",)

    def handles(self) -> tuple[type, ...]:
        return (AddressChanged,)

    def create(self, connection: Any) -> Any:
        return connection.execute(f"CREATE TABLE {self.table('moves_of_orders')} (place integer, city text)")

    def apply(self, event: AddressChanged, connection: Any, recorded: RecordedEvent[Any]) -> Any:
        table = self.table("moves_of_orders")
        return connection.execute(f"INSERT INTO {table} VALUES ({recorded.position}, '{event.city}')")


@dataclass
class Letters(Reaction):
    """Notes what it is given."""

    seen: list[object] = field(default_factory=list)
    name = "letters"

    def handles(self) -> tuple[type, ...]:
        return (AddressChanged, OrderPaid)

    async def apply(self, event: object, /) -> None:
        self.seen.append(event)


@dataclass
class Calls(BatchReaction):
    """Notes what it is given, several at once."""

    seen: list[object] = field(default_factory=list)
    name, batch_size = "calls", 2

    def handles(self) -> tuple[type, ...]:
        return (PhoneChanged,)

    async def apply(self, events: Any, /) -> None:
        self.seen += [each.event for each in events]


@dataclass
class Archive(Reaction):
    """Gets every event as it is stored."""

    seen: list[RawEvent] = field(default_factory=list)
    name = "archive"

    def handles(self) -> tuple[type, ...]:
        return (RawEvent,)

    async def apply(self, event: Any, /) -> None:
        self.seen.append(event)


class Delivery(Process[tuple[str, ...]]):
    """Takes in both parts of one stored event."""

    name, initial = "delivery", ()

    @starts(AddressChanged, key="order_id")
    def moved(self, state: tuple[str, ...], event: AddressChanged) -> Iterator[object]:
        yield from ()

    @takes(PhoneChanged, key="order_id")
    def reached(self, state: tuple[str, ...], event: PhoneChanged) -> Iterator[object]:
        yield from ()

    @evolve(AddressChanged)
    def add_city(self, state: tuple[str, ...], event: AddressChanged) -> tuple[str, ...]:
        return (*state, event.city)

    @evolve(PhoneChanged)
    def add_phone(self, state: tuple[str, ...], event: PhoneChanged) -> tuple[str, ...]:
        return (*state, event.phone)

    def is_completed(self, state: tuple[str, ...]) -> bool:
        return False


ROWS = {
    order: OrderRow(
        order_id=order,
        cities=tuple(each.city for each in of(AddressChanged, order=order)),
        phone=next((each.phone for each in of(PhoneChanged, order=order)), ""),
        first=of(AddressChanged, order=order)[0].city,
    )
    for order in LIVES
}


@pytest_asyncio.fixture
async def app(url: str) -> AsyncIterator[Application]:
    """Run an application of today on the log of all generations."""
    async with open_event_store(url) as opened:
        await import_log(opened, RECORDED / "all.jsonl")
    app = Application(url, options=Options(synchronizer=QUICK, log=LogOptions(first_chunk=3, chunk=4)))
    app.store.events.register(*ALL)
    yield app


async def rows_of(model: Any) -> dict[str, Any]:
    """Return all rows by the order that they are of."""
    return {row.order_id: row for row in (await model.page(page_size=100)).items}


async def test_keyed_projections_of_each_kind_and_their_rebuilds(app: Application) -> None:
    models = [
        app.projections.add(Orders()),
        app.projections.add(InlineOrders(), kind="inline"),
        app.projections.add(OnDemandOrders(), kind="on_demand"),
    ]
    async with app:
        await app.projections.wait(await app.store.head(), PATIENCE, ["orders"])
        for model in models:
            assert await rows_of(model) == ROWS
        await app.projections.rebuild_projection("orders")
        await write(app.store, "g6")
        await app.projections.wait(await app.store.head(), PATIENCE, ["orders"])
        for model in models:
            assert (await rows_of(model)).pop("g6").cities == ("Kyiv",)
            assert {order: row for order, row in (await rows_of(model)).items() if order != "g6"} == ROWS


async def test_other_projections_reactions_and_processes(app: Application) -> None:
    moves, contacts = app.projections.add(Moves()), app.projections.add(Contacts())
    letters, calls, archive = Letters(), Calls(), Archive()
    app.projections.add(MovesInSql())
    for reaction in (letters, calls, archive):
        app.projections.add(reaction, start="beginning")
    app.processes.add(Delivery(), start="beginning")
    async with app:
        names = [runner.name for runner in app.projections.runners]
        await app.projections.wait(await app.store.head(), PATIENCE, names)
        assert sorted((each.order_id, each.number, each.city) for each in (await moves.page(page_size=100)).items) == [
            (order, number, city) for order in LIVES for number, city in enumerate(ROWS[order].cities)
        ]
        assert {order: row.was for order, row in (await rows_of(contacts)).items()} == {
            order: ROWS[order].cities[-1] for order in LIVES if ROWS[order].phone
        }
        [database] = app.projections.databases
        assert [city for (city,) in await database.query("SELECT city FROM moves_of_orders ORDER BY place")] == [
            each.city for each in of(AddressChanged)
        ]
        assert letters.seen == of(AddressChanged, OrderPaid)
        assert calls.seen == of(PhoneChanged)
        assert len(archive.seen) >= sum(VERSIONS.values())
        instance = await app.processes.control("delivery").get("g3")
        assert instance.status == "running"
        steps = await app.processes.control("delivery").steps("g3")
        assert len(steps) == 3  # its first address, and both parts of its move


async def test_the_parts_of_a_parked_event_take_effect_together_once_for_each_row(app: Application) -> None:
    Orders.refused = {"22", "33"}
    model = app.projections.add(Orders())
    try:
        async with app:
            control = app.projections.control("orders")
            await app.projections.wait(await app.store.head(), PATIENCE, ["orders"])
            found = await rows_of(model)
            assert (found["g2"].cities, found["g2"].phone) == (("Oslo",), "")
            assert found["g5"] == ROWS["g5"]
            assert [each.key for each in await control.parked()] == ['["g2"]', '["g3"]']
            Orders.refused = {"33"}
            assert await control.retry() == 2
            await until(lambda: _has(control, 1))
            assert (await rows_of(model))["g2"] == ROWS["g2"]
            Orders.refused = set()
            await control.retry()
            await until(lambda: _has(control, 0))
            assert await rows_of(model) == ROWS
    finally:
        Orders.refused = set()


async def test_rows_on_demand_and_of_the_past_are_refused_by_name_where_a_part_cannot_be_folded(
    app: Application,
) -> None:
    model = app.projections.add(OnDemandOrders(), kind="on_demand")
    OnDemandOrders.refused = {"22"}
    try:
        async with app:
            head = await app.store.head()
            with pytest.raises(ProjectionFailedError, match="a phone that it cannot take"):
                await model.get("g2")
            with pytest.raises(ProjectionFailedError, match="a phone that it cannot take"):
                async with model.as_of(head):
                    pass
    finally:
        OnDemandOrders.refused = set()


class Numbers(SqlProjection):
    """Has two parts of one event in one table, and cannot take the second of them at first."""

    name, tables = "numbers", ("numbers_of_orders",)
    refused: ClassVar[set[str]] = set()

    def handles(self) -> tuple[type, ...]:
        return (AddressChanged, PhoneChanged)

    def key(self, event: Any) -> str:
        return str(event.order_id)

    def create(self, connection: Any) -> Any:
        return connection.execute(f"CREATE TABLE {self.table('numbers_of_orders')} (place integer, said text)")

    def apply(self, event: AddressChanged | PhoneChanged, connection: Any, recorded: RecordedEvent[Any]) -> Any:
        said = event.city if isinstance(event, AddressChanged) else event.phone
        if said in self.refused:
            raise ValueError("a number that it cannot take")
        table = self.table("numbers_of_orders")
        return connection.execute(f"INSERT INTO {table} VALUES ({recorded.position}, '{said}')")


@dataclass
class Bulk(Calls):
    """Gets both parts of an event in one batch, and cannot take the second of them at first."""

    name, batch_size = "bulk", 100
    refused: set[str] = field(default_factory=set)

    def handles(self) -> tuple[type, ...]:
        return (AddressChanged, PhoneChanged)

    def key(self, event: Any) -> str:
        return str(event.order_id)

    async def apply(self, events: Any, /) -> None:
        if any(getattr(each.event, "phone", "") in self.refused for each in events):
            raise ValueError("a number that it cannot take")
        self.seen += [each.event for each in events]


async def test_sql_and_batches_take_the_parts_of_an_event_all_or_none(app: Application) -> None:
    Numbers.refused, bulk = {"33"}, Bulk(refused={"33"})
    app.projections.add(Numbers())
    app.projections.add(bulk, start="beginning")
    [database] = app.projections.databases
    sql = "SELECT said FROM numbers_of_orders ORDER BY place"

    async def said() -> list[str]:
        return sorted(each for (each,) in await database.query(sql))

    every = sorted(getattr(each, "city", "") or getattr(each, "phone", "") for each in of(AddressChanged, PhoneChanged))
    async with app:
        controls = [app.projections.control(name) for name in ("numbers", "bulk")]
        await app.projections.wait(await app.store.head(), PATIENCE, ["numbers", "bulk"])
        assert await said() == [each for each in every if each not in ("33", "Bern")]
        assert sorted(map(repr, bulk.seen)) == sorted(
            repr(each) for each in of(AddressChanged, PhoneChanged) if each not in LIVES["g3"][2:]
        )
        assert [len(await control.parked()) for control in controls] == [1, 1]
        Numbers.refused, bulk.refused = set(), set()
        for control in controls:
            await control.retry()
            await until(lambda control=control: _has(control, 0))  # type: ignore[misc]
        assert await said() == every
        assert bulk.seen[-2:] == LIVES["g3"][2:4]


def test_scenarios_take_what_earlier_code_has_stored_as_parts() -> None:
    moved = Stored("OrderMoved", version=1, payload={"order_id": "a", "street": "6 Far St, Baku", "phone": "66"})
    scenario(Orders())(moved).then_rows(OrderRow(order_id="a", cities=("Baku",), phone="66", first="Baku"))


async def _has(control: Any, count: int) -> bool:
    return len(await control.parked()) == count


async def test_a_copy(store: EventStore) -> None:
    async with open_event_store("memory://") as other:
        await copy_log(cast("PortableLog", store.log), cast("PortableLog", other.log))
        other.events.register(*ALL)
        assert await events(other.read()) == EVERY
