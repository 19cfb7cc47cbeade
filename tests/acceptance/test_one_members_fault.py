"""One member's fault hits that member: an event, an argument or a key that is wrong stops nothing else."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from contextvars import Context
from dataclasses import dataclass
from decimal import Decimal
from multiprocessing import get_context
from pathlib import Path
from typing import Any, ClassVar

import pytest
import pytest_asyncio
from tests.accounts import Account, Balance, Balances, Deposit, Deposited, Opened
from tests.synchronizing import PATIENCE, deposited, opened, until, write

from twofold import (
    ANY,
    AggregateNotFoundError,
    AppendCondition,
    Application,
    ConflictError,
    DecisionModel,
    Event,
    EventQuery,
    EventStore,
    Projection,
    Query,
    RawEvent,
    Reaction,
    RecordedEvent,
    Repository,
    SqlProjection,
    Subscription,
    event_type,
    on,
    open_event_store,
)
from twofold.cli.commands import run
from twofold.errors import (
    InvalidCursorError,
    InvalidProjectionError,
    NewerSchemaError,
    OutcomeUnknownError,
    UnknownEventTypeError,
    UnreadableEventError,
)
from twofold.messages.event import stored_names
from twofold.queries.scope import Scope, places_of


@dataclass(frozen=True, kw_only=True)
class Audited(Event):
    """Of another application, whose code this one does not have."""

    account: str
    note: str = "seen"


@pytest_asyncio.fixture
async def other(url: str) -> AsyncIterator[EventStore]:
    """Return the store of an application that has all classes."""
    async with open_event_store(url) as store:
        yield store


@pytest_asyncio.fixture
async def reader(url: str, other: EventStore) -> AsyncIterator[EventStore]:
    """Return a store that knows `Opened` and `Deposited` only."""
    async with open_event_store(url) as store:
        store.events.register(Opened, Deposited)
        yield store


async def batch_of(subscribed: Subscription) -> list[Any]:
    async with asyncio.timeout(PATIENCE):
        return [each.event for each in (await anext(subscribed)).events]


RAW = RawEvent("Audited", 1, b'{"account":"a","note":"seen"}')


# -- events of unknown types ------------------------------------------------------------------------------------


async def test_a_subscriber_to_everything_can_take_what_it_does_not_know_as_raw_events(
    other: EventStore, reader: EventStore
) -> None:
    await write(other, opened("a"), Audited(account="a"), deposited("a"))
    subscribed = reader.subscribe(unknown="raw")
    assert await batch_of(subscribed) == [opened("a"), RAW, deposited("a")]
    await write(other, Audited(account="a"))
    assert (await batch_of(subscribed), subscribed.position) == ([RAW], 4)


async def test_a_raw_event_has_all_that_its_record_has(other: EventStore, reader: EventStore) -> None:
    await other.append_events("Audit-1", "Audit", [Audited(account="a")], expected_version=0)
    [recorded] = [each async for each in reader.read(unknown="raw")]
    assert (recorded.type, recorded.stream_id, recorded.version, recorded.position) == ("Audited", "Audit-1", 1, 1)
    assert recorded.metadata is not None
    assert json.loads(recorded.event.payload) == {"account": "a", "note": "seen"}


async def test_a_subscriber_can_leave_out_what_it_does_not_know(other: EventStore, reader: EventStore) -> None:
    await write(other, Audited(account="a"), opened("a"), Audited(account="a"))
    subscribed = reader.subscribe(unknown="skip")
    assert (await batch_of(subscribed), subscribed.position) == ([opened("a")], 3)


async def test_by_default_the_events_before_an_unknown_one_are_handed_out_and_then_the_error(
    other: EventStore, reader: EventStore
) -> None:
    await write(other, opened("a"), deposited("a"), Audited(account="a"), opened("b"))
    subscribed = reader.subscribe()
    assert await batch_of(subscribed) == [opened("a"), deposited("a")]
    for _ in range(2):
        with pytest.raises(UnknownEventTypeError, match=r'event 3 is a .Audited.*register.*unknown="raw"'):
            await batch_of(subscribed)
    reader.events.register(Audited)
    assert await batch_of(subscribed) == [Audited(account="a"), opened("b")]


@pytest.mark.parametrize("of", ["log", "stream", "log backwards"])
async def test_reading_hands_out_the_events_before_an_unknown_one(
    other: EventStore, reader: EventStore, of: str
) -> None:
    events = [opened("a"), Audited(account="a"), deposited("a")]
    await other.append_events("Account-a", "Account", events, expected_version=0)
    read = {
        "log": reader.read(),
        "stream": reader.read_stream("Account-a"),
        "log backwards": reader.read(backwards=True),
    }[of]
    found: list[RecordedEvent[Any]] = []
    with pytest.raises(UnknownEventTypeError):
        async for recorded in read:
            found.append(recorded)
    assert [each.event for each in found] == [events[-1 if of == "log backwards" else 0]]


async def test_a_stream_can_be_read_with_its_unknown_events(other: EventStore, reader: EventStore) -> None:
    await other.append_events("A-a", "A", [opened("a"), Audited(account="a")], expected_version=0)
    assert [each.event async for each in reader.read_stream("A-a", unknown="raw")] == [opened("a"), RAW]
    assert [each.event async for each in reader.read_stream("A-a", unknown="skip")] == [opened("a")]


@dataclass(frozen=True, kw_only=True)
class Opened2(Event):
    account: str
    owner: str = "ann"
    bank: str


async def test_raw_stands_for_newer_schemas_and_misfits_and_skip_does_not(other: EventStore, url: str) -> None:
    await write(other, opened("a"))
    misfit = event_type("Opened")(Opened2)
    async with open_event_store(url) as older:
        older.events.register(misfit)
        with pytest.raises(UnreadableEventError):
            [each async for each in older.read(unknown="skip")]
        assert [each.event.type async for each in older.read(unknown="raw")] == ["Opened"]
    newer = event_type("Opened", version=2, upcasters={1: lambda data: data | {"bank": "b"}})(Opened2)
    async with open_event_store(url) as deployed:
        await write(deployed, newer(account="b", bank="c"))
    with pytest.raises(NewerSchemaError):
        [each async for each in other.read(unknown="skip")]
    assert [each.event async for each in other.read(unknown="raw")][1].schema_version == 2


async def test_a_policy_that_there_is_not_is_refused_at_once(reader: EventStore) -> None:
    with pytest.raises(ValueError, match=r"unknown='ignore' is none; write one of: 'raise', 'raw', 'skip'"):
        reader.subscribe(unknown="ignore")  # type: ignore[arg-type]


async def test_an_append_that_an_unknown_event_is_in_the_way_of_is_a_conflict(
    other: EventStore, reader: EventStore
) -> None:
    await other.append_events("Account-a", "Account", [Audited(account="a")], expected_version=0)
    with pytest.raises(ConflictError) as refused:
        await reader.append_events("Account-a", "Account", [opened("a")], expected_version=0)
    assert [each.event for each in refused.value.conflicts] == [RAW]
    with pytest.raises(ConflictError):
        await reader.append([opened("a")], condition=AppendCondition(EventQuery.all()))


async def test_a_command_decides_on_no_history_with_an_event_that_it_does_not_know(other: EventStore, url: str) -> None:
    app, handled = Application(url), 0
    accounts = app.repository(Account)

    async def deposit(command: Deposit) -> None:
        nonlocal handled
        handled += 1
        account = await accounts.load(command.account)
        if handled == 1:  # it comes in between: the command learns of it by the conflict
            foreign = other.append_events("Account-a", "Account", [Audited(account="a")], expected_version=ANY)
            await asyncio.create_task(foreign, context=Context())  # as of another application, no part of the command
        account.deposit(command.amount)
        await accounts.save(account)

    app.commands.register(Deposit, deposit)
    await other.append_events("Account-a", "Account", [opened("a")], expected_version=0)
    async with app:
        with pytest.raises(UnknownEventTypeError, match="event 2 is a 'Audited'"):
            await app.commands.execute(Deposit(account="a"))
    assert (handled, await other.head()) == (2, 2)


# -- consumers that want every event ---------------------------------------------------------------------------


class Archive(Reaction):
    name = "archive"

    def __init__(self) -> None:
        self.taken: list[tuple[str, bytes]] = []

    def handles(self) -> tuple[type, ...]:
        return (RawEvent,)

    async def apply(self, event: RawEvent, recorded: RecordedEvent[RawEvent]) -> None:
        self.taken.append((recorded.type, event.payload))


class Ledger(SqlProjection):
    name = "ledger"
    tables = ("entries",)

    def handles(self) -> tuple[type, ...]:
        return (RawEvent,)

    connection = "sqlalchemy"

    def create(self, connection: Any) -> None:
        connection.exec_driver_sql(f"CREATE TABLE {self.table('entries')} (position bigint PRIMARY KEY, type text)")

    def apply(self, event: RawEvent, connection: Any, recorded: RecordedEvent[RawEvent]) -> None:
        values = f"({recorded.position}, '{event.type}')"
        connection.exec_driver_sql(f"INSERT INTO {self.table('entries')} VALUES {values}")


async def test_a_reaction_can_take_every_event_also_of_types_that_the_application_does_not_have(
    other: EventStore, url: str
) -> None:
    app = Application(url)
    archive = Archive()
    app.projections.add(archive, start="beginning")
    await write(other, opened("a"), Audited(account="a"))
    async with app:

        async def taken() -> bool:
            return len(archive.taken) == 2

        await until(taken)
    assert [name for name, _ in archive.taken] == ["Opened", "Audited"]
    assert archive.taken[1][1] == RAW.payload


@dataclass(frozen=True)
class GetEntries(Query[Any]):
    """The ledger's entries."""


async def test_a_projection_by_sql_can_take_every_event_and_is_waited_for_by_any_receipt(
    other: EventStore, url: str
) -> None:
    app = Application(url)
    app.projections.add(Ledger())

    async def entries(query: GetEntries) -> Any:
        [database] = app.projections.databases
        return [tuple(row) for row in await database.query("SELECT position, type FROM entries ORDER BY position")]

    app.queries.register(GetEntries, entries, reads=["ledger"])
    await write(other, Audited(account="a"))
    async with app:
        for number in range(3, 6):
            receipt = await app.store.append([opened("a")])
            found = await app.queries.dispatch(GetEntries(), after=receipt)
            assert found[:2] == [(1, "Audited"), (2, "Opened")]
            assert len(found) == number - 1


def test_an_answer_from_every_event_is_looked_for_again_after_an_event_of_any_type() -> None:
    depends = Scope(stored_names([RawEvent]), {})
    assert not set(depends.places()).isdisjoint(places_of("Audited", ()))
    assert not set(depends.places()).isdisjoint(places_of("Opened", ("account:a",)))


async def test_every_event_is_taken_by_itself_and_not_by_rows_with_keys(url: str) -> None:
    class Both(Archive):
        def handles(self) -> tuple[type, ...]:
            return (RawEvent, Opened)

    class Keyed(Projection[Balance]):
        name: ClassVar[str] = "keyed"

        def key(self, event: RawEvent) -> str:
            return event.type

        @on(RawEvent)
        def seen(self, row: Balance | None, event: RawEvent) -> Balance:
            return Balance(event.type, "all")

    app = Application(url)
    for projection in (Both(), Keyed()):
        with pytest.raises(InvalidProjectionError, match="RawEvent stands for every event"):
            app.projections.add(projection)


# -- verify and copy --------------------------------------------------------------------------------------------


async def test_a_log_with_unknown_events_is_verified_and_copied_whole(
    other: EventStore, tmp_path: Path, url: str
) -> None:
    await write(other, opened("a"), Audited(account="a"), deposited("a", 2))
    target = f"sqlite:///{tmp_path}/copy.db"
    assert await asyncio.to_thread(run, ["verify", url]) == 0
    assert await asyncio.to_thread(run, ["copy", url, target]) == 0
    async with open_event_store(target) as copied:
        copied.events.register(Opened, Deposited)
        assert [each.event async for each in copied.read(unknown="raw")] == [
            opened("a"),
            RAW,
            Deposited(account="a", amount=Decimal(2)),
        ]


# -- arguments, keys, cursors and errors ------------------------------------------------------------------------


async def test_one_callers_bad_argument_fails_its_own_append_only(store: EventStore) -> None:
    good = [store.append([opened(str(n))]) for n in range(50)]
    bad: list[Any] = [
        store.append_events("A\ud800", "A", [opened("a")], expected_version=ANY),
        store.append_events("A-1", "A", [opened("a")], expected_version=2**70),
        store.append([opened("a")], event_ids=["no id"]),  # type: ignore[list-item]
        store.append([object()]),
    ]
    outcomes = await asyncio.gather(*good[:25], *bad, *good[25:], return_exceptions=True)
    failed = [each for each in outcomes if isinstance(each, BaseException)]
    assert len(failed) == len(bad)
    assert not any(isinstance(each, OutcomeUnknownError) for each in failed), failed
    assert await store.head() == len(good)


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "\0", "x" * 100_000])
async def test_a_text_that_no_log_can_hold_matches_nothing(store: EventStore, text: str) -> None:
    await write(store, opened("a"))
    for query in (EventQuery.of(tags=[text]), EventQuery.of(text), EventQuery.of(text, tags=[text])):
        assert [each async for each in store.read(query)] == []
        decision = await store.decide(DecisionModel(query=query, initial_state=0, evolve=lambda state, event: 1))
        assert decision.state == 0
        await store.append([opened("b")], condition=decision.condition)
        assert await batch_of(store.subscribe(query)) == []
        both = EventQuery.of(Opened) | query
        assert [each.position async for each in store.read(both, limit=1)] == [1]
    assert [each async for each in store.read_stream(text)] == []
    assert await batch_of(store.subscribe(stream_id=text)) == []
    with pytest.raises(AggregateNotFoundError):
        await Repository(store, Account).load(text)


async def test_a_key_that_no_row_can_have_is_none(url: str) -> None:
    app = Application(url)
    balances = app.projections.add(Balances())
    async with app:
        for key in ("a\0b", "\ud800", "x" * 100_000, "", "\uffff"):
            assert await balances.get(key) is None


async def test_a_cursor_that_is_made_up_is_refused_by_name(url: str) -> None:
    app = Application(url)
    balances = app.projections.add(Balances())
    async with app:
        for made_up in ("[" * 1400, '{"a":' * 1400, "[[],[]]", "[1e999]", "null", '["account"]', "\x00"):
            cursor = base64.urlsafe_b64encode(made_up.encode()).decode()
            with pytest.raises(InvalidCursorError):
                await balances.page(cursor=cursor)


async def failing(url: str) -> None:
    async with open_event_store(url) as store:
        await store.append_events("A-a", "A", [opened("a")], expected_version=7)


def fail(url: str) -> None:
    asyncio.run(failing(url))


def test_an_error_comes_through_a_process_pool_with_what_it_knows(url: str) -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        error = pool.submit(fail, url).exception(PATIENCE)
    assert isinstance(error, ConflictError)
    assert (error.stream_id, error.version, error.conflicts) == ("A-a", 0, ())
