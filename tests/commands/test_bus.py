"""One handler per command; each command is one unit of work and takes effect once."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import msgspec
import pydantic
import pytest
import pytest_asyncio
from tests.accounts import Account, Deposit, Open, Opened, OverdrawnError, Transfer, Withdraw, wire, wire_commands
from tests.child_processes import CONTEXT
from tests.recording_log import RecordingLog

from twofold import (
    ANY,
    Application,
    Command,
    CommandBus,
    CommandOptions,
    EventStore,
    Position,
    Query,
    Repository,
    metadata,
    open_event_store,
)
from twofold.errors import (
    AggregateNotFoundError,
    CommandReusedError,
    ConflictError,
    DuplicateHandlerError,
    HandlerNotFoundError,
    InvalidHandlerError,
    InvalidMessageTypeError,
    OutcomeUnknownError,
    UnitOfWorkError,
)
from twofold.messages.ids import uuid7
from twofold.ports.event_log import Append


@pytest_asyncio.fixture
async def app(url: str) -> AsyncIterator[Application]:
    app = Application(url)
    wire(app)
    async with app:
        yield app


@pytest_asyncio.fixture
async def log(url: str) -> AsyncIterator[RecordingLog]:
    log = RecordingLog(open_event_store(url).log)
    await log.open()
    yield log
    await log.close()


class Bank(NamedTuple):
    store: EventStore
    commands: CommandBus
    accounts: Repository[Account]


@pytest.fixture
def bank(log: RecordingLog) -> Bank:
    """Return a bus on the recording log whose handlers are still to be registered."""
    store = EventStore(log)
    return Bank(store, CommandBus(store), Repository(store, Account))


async def balance(app: Application, account: str) -> Decimal:
    return (await app.repository(Account).load(account)).balance


# -- register and dispatch ---------------------------------------------------------------------------------------


async def test_dispatch_returns_the_value_of_the_handler(app: Application) -> None:
    assert await app.commands.dispatch(Open(account="a")) == "a"


async def test_execute_returns_a_receipt_for_what_was_written(app: Application) -> None:
    receipt = await app.commands.execute(Open(account="a", owner="bob"))
    assert receipt.value == "a"
    assert (receipt.stream_id, receipt.version, receipt.position) == ("Account-a", 1, 1)
    assert receipt.types == ("Opened",)
    assert set(receipt.tags) == {"account:a", "owner:bob"}
    assert not receipt.repeated


async def test_a_class_gets_its_dependencies_by_its_constructor(bank: Bank) -> None:
    class OpenHandler:
        def __init__(self, accounts: Repository[Account]) -> None:
            self._accounts = accounts

        async def handle(self, command: Open) -> str:
            await self._accounts.save(Account.open(command.account))
            return command.account

    bank.commands.register(Open, OpenHandler(bank.accounts))
    assert await bank.commands.dispatch(Open(account="a")) == "a"
    assert await bank.accounts.find("a")


async def test_a_command_without_a_handler_names_the_line_to_add(app: Application) -> None:
    class Unheard(Command):
        pass

    with pytest.raises(HandlerNotFoundError, match=r"no handler for Unheard; add `commands\.register\(Unheard, handl"):
        await app.commands.dispatch(Unheard())


async def test_an_event_that_is_dispatched_as_a_command_is_told_where_it_belongs(app: Application) -> None:
    with pytest.raises(TypeError, match=r"`command` is the event Opened; append it: store\.append\(\[Opened"):
        await app.commands.dispatch(Opened(account="a"))


async def test_a_query_that_is_dispatched_as_a_command_is_told_where_it_belongs(app: Application) -> None:
    class Asked(Query[int]):
        pass

    with pytest.raises(TypeError, match="`command` is the query Asked; dispatch it with `queries`"):
        await app.commands.dispatch(Asked())


async def test_a_second_handler_is_refused_and_names_the_first(app: Application) -> None:
    async def again(command: Open) -> None: ...

    with pytest.raises(DuplicateHandlerError, match=r"Open is already handled by <function wire.*open_account"):
        app.commands.register(Open, again)


def test_a_handler_for_another_command_is_refused(bank: Bank) -> None:
    async def deposit(command: Deposit) -> None: ...

    with pytest.raises(InvalidHandlerError, match="handles Deposit, not Open"):
        bank.commands.register(Open, deposit)  # type: ignore[arg-type]


def test_a_command_that_is_no_dataclass_is_refused(bank: Bank) -> None:
    class Plain:
        pass

    async def handle(command: Plain) -> None: ...

    with pytest.raises(InvalidMessageTypeError, match="Plain must be a frozen dataclass"):
        bank.commands.register(Plain, handle)


async def test_middleware_is_wrapped_around_the_whole_command_the_first_outermost(log: RecordingLog) -> None:
    seen: list[str] = []

    def named(name: str) -> Any:
        async def middleware(command: Any, call_next: Callable[[Any], Awaitable[Any]]) -> Any:
            seen.append(f"{name} gets {type(command).__name__}")
            receipt = await call_next(command)
            seen.append(f"{name} sees position {receipt.position}")
            return receipt

        return middleware

    store = EventStore(log)
    bus = CommandBus(store, middleware=[named("outer"), named("inner")])

    async def handle(command: Open) -> None:
        seen.append("handled")
        await store.append([Opened(account="a")])

    bus.register(Open, handle)
    await bus.dispatch(Open(account="a"))
    assert seen == [
        "outer gets Open",
        "inner gets Open",
        "handled",
        "inner sees position 1",
        "outer sees position 1",
    ]


async def test_a_middleware_that_returns_nothing_is_refused_before_it_is_ever_called(bank: Bank) -> None:
    async def forgetful(command: Any, call_next: Callable[[Any], Awaitable[Any]]) -> None:
        await call_next(command)

    with pytest.raises(InvalidHandlerError, match=r"middleware .*forgetful returns nothing.*`return await call_next"):
        CommandBus(bank.store, middleware=[forgetful])


@pytest.mark.parametrize("answer", [None, 5, "a value"])
async def test_a_middleware_that_now_and_then_forgets_the_receipt_cannot_lose_it(
    bank: Bank, answer: object, caplog: pytest.LogCaptureFixture
) -> None:
    async def forgetful(command: Any, call_next: Callable[[Any], Awaitable[Any]]) -> Any:
        receipt = await call_next(command)
        return receipt if command.account == "b" else answer

    bus = CommandBus(bank.store, middleware=[forgetful])

    async def open_account(command: Open) -> str:
        await bank.accounts.save(Account.open(command.account))
        return command.account

    bus.register(Open, open_account)
    receipt = await bus.execute(Open(account="a"))
    assert (receipt.value, receipt.position) == ("a", 1)
    assert f"a middleware returned {answer!r} for a Open that is carried out" in caplog.text
    assert await bus.dispatch(Open(account="b")) == "b"


async def test_a_middleware_that_answers_itself_without_a_receipt_is_refused_and_nothing_is_stored(bank: Bank) -> None:
    async def cached(command: Any, call_next: Callable[[Any], Awaitable[Any]]) -> Any:
        return "no" if command.account == "a" else await call_next(command)

    bus = CommandBus(bank.store, middleware=[cached])

    async def open_account(command: Open) -> None:
        await bank.accounts.save(Account.open(command.account))

    bus.register(Open, open_account)
    with pytest.raises(InvalidHandlerError, match=r"a middleware returned 'no' .* not carried out.* let it return"):
        await bus.dispatch(Open(account="a"))
    assert await bank.store.head() == 0


# -- one unit of work --------------------------------------------------------------------------------------------


async def test_several_aggregates_are_saved_in_one_append(bank: Bank, log: RecordingLog) -> None:
    async def open_two(command: Open) -> None:
        for name in "xy":
            await bank.accounts.save(Account.open(command.account + name))

    bank.commands.register(Open, open_two)
    receipt = await bank.commands.execute(Open(account="a"))
    assert log.calls["append"] == 1
    assert (receipt.position, receipt.stream_id) == (2, "Account-ay")
    assert await bank.accounts.find("ax")


async def test_a_handler_that_fails_after_saving_stores_nothing(app: Application) -> None:
    await app.commands.dispatch(Open(account="a"))
    await app.commands.dispatch(Open(account="b"))
    with pytest.raises(OverdrawnError):
        await app.commands.dispatch(Transfer(source="a", target="b", amount=Decimal(5)))
    assert await app.store.head() == 2
    assert await balance(app, "b") == 0


async def test_the_error_of_a_handler_comes_through_as_it_is(app: Application) -> None:
    with pytest.raises(AggregateNotFoundError, match="there is no Account 'nobody'") as caught:
        await app.commands.dispatch(Deposit(account="nobody"))
    assert (caught.value.stream_type, caught.value.id) == ("Account", "nobody")


async def test_what_a_handler_saved_it_finds_when_it_loads_again(bank: Bank) -> None:
    seen: list[Decimal] = []

    async def open_and_use(command: Open) -> None:
        await bank.accounts.save(Account.open(command.account))
        for amount in (1, 2):
            account = await bank.accounts.load(command.account)
            account.deposit(Decimal(amount))
            await bank.accounts.save(account)
            seen.append((await bank.accounts.load(command.account)).balance)

    bank.commands.register(Open, open_and_use)
    receipt = await bank.commands.execute(Open(account="a"))
    assert seen == [1, 3]
    assert (receipt.version, receipt.position) == (3, 3)
    assert (await bank.accounts.load("a")).balance == 3


async def test_one_aggregate_may_be_saved_twice(bank: Bank) -> None:
    async def handle(command: Open) -> None:
        account = Account.open(command.account)
        await bank.accounts.save(account)
        account.deposit(Decimal(4))
        await bank.accounts.save(account)

    bank.commands.register(Open, handle)
    assert (await bank.commands.execute(Open(account="a"))).version == 2


async def test_a_command_that_writes_nothing_has_a_receipt_that_is_visible_everywhere(bank: Bank) -> None:
    async def nothing(command: Open) -> str:
        return "nothing to do"

    bank.commands.register(Open, nothing)
    receipt = await bank.commands.execute(Open(account="a"))
    assert (receipt.value, receipt.position, receipt.types) == ("nothing to do", 0, ())


async def test_a_task_that_outlives_its_handler_cannot_stage_unnoticed(bank: Bank) -> None:
    started: list[asyncio.Task[None]] = []

    async def handle(command: Open) -> None:
        started.append(asyncio.create_task(bank.accounts.save(Account.open(command.account))))

    bank.commands.register(Open, handle)
    await bank.commands.dispatch(Open(account="a"))
    with pytest.raises(UnitOfWorkError, match="the command's handler has returned"):
        await started[0]


# -- takes effect once -------------------------------------------------------------------------------------------


async def test_a_repeated_command_gets_the_first_receipt_and_the_first_value(app: Application) -> None:
    await app.commands.dispatch(Open(account="a"))
    command = Deposit(account="a", amount=Decimal("2.50"))
    first = await app.commands.execute(command)
    await app.commands.dispatch(Deposit(account="a", amount=Decimal(10)))
    again = await app.commands.execute(command)
    assert again == replace(first, repeated=True)
    assert again.value == Decimal("2.50")
    assert await balance(app, "a") == Decimal("12.50")


async def test_a_repeat_that_would_break_a_rule_by_now_gets_the_first_receipt(app: Application) -> None:
    await app.commands.dispatch(Open(account="a"))
    await app.commands.dispatch(Deposit(account="a", amount=Decimal(3)))
    command = Withdraw(account="a", amount=Decimal(2))
    first = await app.commands.execute(command)
    assert await app.commands.execute(command) == replace(first, repeated=True)
    assert await balance(app, "a") == 1


async def test_a_repeat_that_finds_nothing_left_to_do_gets_the_first_receipt(bank: Bank) -> None:
    async def open_once(command: Open) -> str:
        if await bank.accounts.find(command.account):
            return "was open"
        await bank.accounts.save(Account.open(command.account))
        return "opened"

    bank.commands.register(Open, open_once)
    command = Open(account="a")
    first = await bank.commands.execute(command)
    assert await bank.commands.execute(command) == replace(first, repeated=True)
    assert await bank.commands.dispatch(Open(account="a")) == "was open"


async def test_a_repeat_after_a_restart_gets_the_first_receipt(url: str) -> None:
    command, receipts = Open(account="a"), []
    for _ in range(2):
        app = Application(url)
        wire(app)
        async with app:
            receipts.append(await app.commands.execute(command))
    assert receipts[1] == replace(receipts[0], repeated=True)


async def test_one_command_many_times_in_flight_takes_effect_once(app: Application) -> None:
    await app.commands.dispatch(Open(account="a"))
    command = Deposit(account="a", amount=Decimal(7))
    receipts = await asyncio.gather(*(app.commands.execute(command) for _ in range(25)))
    assert sorted(receipt.repeated for receipt in receipts) == [False] + [True] * 24
    assert {(receipt.position, receipt.value) for receipt in receipts} == {(2, Decimal(7))}
    assert await balance(app, "a") == 7


async def test_a_repeat_gets_its_receipt_also_if_the_database_goes_away_behind_the_append(
    bank: Bank, log: RecordingLog
) -> None:
    async def open_blindly(command: Open) -> str:
        await bank.store.append_events("Account-a", "Account", [Opened(account="a")], expected_version=ANY)
        return command.account

    def go_away(append: Append) -> None:
        log.away = True  # the append itself still gets through

    other = CommandBus(bank.store)  # as of another process, which has not sent it
    for commands in (bank.commands, other):
        commands.register(Open, open_blindly)
    command = Open(account="a")
    first = await bank.commands.execute(command)
    log.before_append = go_away
    assert await other.execute(command) == replace(first, repeated=True)


async def test_an_unknown_outcome_stays_unknown_while_the_database_is_away(bank: Bank, log: RecordingLog) -> None:
    async def open_account(command: Open) -> str:
        await bank.accounts.save(Account.open(command.account))
        return command.account

    def cut(append: Append) -> None:
        log.away = True
        raise OutcomeUnknownError("the connection was cut, says the test")

    bank.commands.register(Open, open_account)
    command = Open(account="a")
    log.before_append = cut
    with pytest.raises(OutcomeUnknownError, match="the connection was cut"):
        await bank.commands.execute(command)
    log.away, log.before_append = False, None
    assert not (await bank.commands.execute(command)).repeated


async def test_the_timestamp_is_not_content(app: Application) -> None:
    command = Open(account="a")
    await app.commands.dispatch(command)
    later = replace(command, timestamp=command.timestamp + dt.timedelta(hours=1))
    assert (await app.commands.execute(later)).repeated


async def test_the_same_id_with_other_content_is_refused(app: Application) -> None:
    await app.commands.dispatch(Open(account="a"))
    command = Deposit(account="a", amount=Decimal(1))
    await app.commands.dispatch(command)
    with pytest.raises(CommandReusedError) as caught:
        await app.commands.dispatch(replace(command, amount=Decimal(2)))
    assert caught.value.command_id == command.command_id
    with pytest.raises(CommandReusedError):  # also where the handler would refuse it first
        await app.commands.dispatch(Withdraw(account="a", amount=Decimal(99), command_id=command.command_id))
    assert await balance(app, "a") == 1


async def test_a_command_id_that_is_no_uuid_is_refused_instead_of_being_ignored(bank: Bank) -> None:
    class Pay(msgspec.Struct, frozen=True):
        command_id: str

    async def pay(command: Pay) -> None: ...

    bank.commands.register(Pay, pay)
    with pytest.raises(InvalidMessageTypeError, match=r"Pay\.command_id must be a UUID, not 'p1'"):
        await bank.commands.dispatch(Pay("p1"))


# -- conflicts ---------------------------------------------------------------------------------------------------


async def test_a_conflict_is_decided_again_on_the_delta_without_a_second_read(bank: Bank, log: RecordingLog) -> None:
    balances: list[Decimal] = []

    async def open_account(command: Open) -> None:
        await bank.accounts.save(Account.open(command.account))

    async def deposit(command: Deposit) -> Decimal:
        account = await bank.accounts.load(command.account)
        balances.append(account.balance)
        account.deposit(command.amount)
        await bank.accounts.save(account)
        return account.balance

    bank.commands.register(Open, open_account)
    bank.commands.register(Deposit, deposit)
    await bank.commands.dispatch(Open(account="a"))
    rivals = [Decimal(10), Decimal(100)]

    async def write_first(append: Append) -> None:
        if rivals and append.command:
            rival = await bank.accounts.load("a")
            rival.deposit(rivals.pop(0))
            await bank.accounts.save(rival)

    log.calls.clear()
    log.before_append = write_first
    assert await bank.commands.dispatch(Deposit(account="a", amount=Decimal(1))) == 111
    assert balances == [0, 10, 110]
    assert log.reads == 1 + 2, "one for the command, and one for each of the rivals"


async def test_a_conflict_may_turn_success_into_a_refusal(bank: Bank, log: RecordingLog) -> None:
    account = Account.open("a")
    account.deposit(Decimal(5))
    await bank.accounts.save(account)

    async def withdraw(command: Withdraw) -> None:
        found = await bank.accounts.load(command.account)
        found.withdraw(command.amount)
        await bank.accounts.save(found)

    bank.commands.register(Withdraw, withdraw)
    outcomes = await asyncio.gather(
        *(bank.commands.dispatch(Withdraw(account="a", amount=Decimal(3))) for _ in range(4)), return_exceptions=True
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["NoneType"] + ["OverdrawnError"] * 3
    assert (await bank.accounts.load("a")).balance == 2


async def test_hundreds_of_commands_at_once_on_one_aggregate_all_succeed(app: Application) -> None:
    await app.commands.dispatch(Open(account="a"))
    values = await asyncio.gather(*(app.commands.dispatch(Deposit(account="a")) for _ in range(300)))
    assert sorted(values) == [Decimal(n) for n in range(1, 301)]


async def test_transfers_both_ways_at_once_do_not_wait_for_each_other(app: Application) -> None:
    for name in "ab":
        await app.commands.dispatch(Open(account=name))
        await app.commands.dispatch(Deposit(account=name, amount=Decimal(100)))
    there = [Transfer(source="a", target="b", amount=Decimal(1)) for _ in range(20)]
    back = [Transfer(source="b", target="a", amount=Decimal(2)) for _ in range(20)]
    async with asyncio.timeout(60):
        await asyncio.gather(*(app.commands.dispatch(each) for pair in zip(there, back, strict=True) for each in pair))
    assert (await balance(app, "a"), await balance(app, "b")) == (Decimal(120), Decimal(80))


async def test_a_command_within_a_command_may_contend_for_the_same_aggregate(bank: Bank, log: RecordingLog) -> None:
    async def deposit(command: Deposit) -> None:
        if command.amount > 1:
            await bank.commands.dispatch(Deposit(account="a", command_id=inner[command.command_id]))
        account = await bank.accounts.load(command.account)
        account.deposit(command.amount)
        await bank.accounts.save(account)

    bank.commands.register(Deposit, deposit)
    await bank.accounts.save(Account.open("a"))
    outer = [Deposit(account="a", amount=Decimal(10)) for _ in range(5)]
    inner = {command.command_id: uuid7() for command in outer}
    async with asyncio.timeout(60):
        await asyncio.gather(*(bank.commands.dispatch(command) for command in outer))
    assert (await bank.accounts.load("a")).balance == 55


async def test_a_conflict_that_never_ends_is_raised_with_its_events(log: RecordingLog) -> None:
    store = EventStore(log)
    bus, accounts = CommandBus(store, options=CommandOptions(attempts=3)), Repository(store, Account)
    await accounts.save(Account.open("a"))
    log.calls.clear()

    async def open_again(command: Open) -> None:
        await accounts.save(Account.open(command.account))

    bus.register(Open, open_again)
    with pytest.raises(ConflictError) as caught:
        await bus.dispatch(Open(account="a"))
    assert [each.event for each in caught.value.conflicts] == [Opened(account="a")]
    assert (caught.value.stream_id, caught.value.version) == ("Account-a", 1)
    assert log.calls["append"] == 3


async def test_who_creates_what_exists_is_told_so_without_long_trying(bank: Bank, log: RecordingLog) -> None:
    async def open_account(command: Open) -> None:
        await bank.accounts.save(Account.open(command.account))

    bank.commands.register(Open, open_account)
    await bank.commands.dispatch(Open(account="a"))
    log.calls.clear()
    with pytest.raises(ConflictError):
        await bank.commands.dispatch(Open(account="a"))
    assert log.calls["append"] == CommandOptions().blind_attempts


def deposit_many_times(url: str, count: int, start: Any, results: Any) -> None:
    """Run in a process of its own."""

    async def run() -> list[Decimal]:
        app = Application(url, synchronize=False)
        wire(app)
        async with app:
            await asyncio.to_thread(start.wait)
            return [await app.commands.dispatch(Deposit(account="a")) for _ in range(count)]

    results.put(asyncio.run(run()))


async def test_processes_that_race_on_one_aggregate_lose_nothing(url: str) -> None:
    app = Application(url, synchronize=False)
    wire(app)
    async with app:
        await app.commands.dispatch(Open(account="a"))
    start, results = CONTEXT.Barrier(3), CONTEXT.Queue()
    racers = [CONTEXT.Process(target=deposit_many_times, args=(url, 40, start, results)) for _ in range(3)]
    for racer in racers:
        racer.start()
    values = sorted([value for _ in racers for value in await asyncio.to_thread(results.get, timeout=60)])
    for racer in racers:
        racer.join(30)
    assert values == [Decimal(n) for n in range(1, 121)]
    async with app:
        assert await balance(app, "a") == 120


# -- metadata ----------------------------------------------------------------------------------------------------


async def test_events_know_their_command_correlation_causation_and_user(app: Application) -> None:
    request = uuid4()
    command = Open(account="a")
    with metadata(correlation_id=request, user="ann", tenant="t1", extra={"ip": "::1"}):
        await app.commands.dispatch(command)
    [recorded] = [each async for each in app.store.read()]
    stored = recorded.metadata
    assert (stored.correlation_id, stored.command_id, stored.causation_id) == (
        request, command.command_id, command.command_id,
    )  # fmt: skip
    assert (stored.user, stored.tenant, stored.extra) == ("ann", "t1", {"ip": "::1"})


async def test_a_command_without_context_begins_a_correlation_of_its_own(app: Application) -> None:
    command = Open(account="a")
    await app.commands.dispatch(command)
    [recorded] = [each async for each in app.store.read()]
    assert recorded.metadata.correlation_id == command.command_id


async def test_a_command_within_a_command_is_caused_by_it(bank: Bank) -> None:
    async def open_account(command: Open) -> None:
        await bank.accounts.save(Account.open(command.account))

    async def deposit(command: Deposit) -> None:
        await bank.commands.dispatch(Open(account=command.account, command_id=inner))

    bank.commands.register(Open, open_account)
    bank.commands.register(Deposit, deposit)
    inner, outer = uuid7(), Deposit(account="a")
    await bank.commands.dispatch(outer)
    [recorded] = [each async for each in bank.store.read()]
    stored = recorded.metadata
    assert (stored.command_id, stored.causation_id, stored.correlation_id) == (
        inner, outer.command_id, outer.command_id,
    )  # fmt: skip


# -- kinds of commands and of values -----------------------------------------------------------------------------


class PayAsStruct(msgspec.Struct, frozen=True, kw_only=True):
    account: str
    amount: Decimal = Decimal(1)
    command_id: UUID = msgspec.field(default_factory=uuid7)


class PayAsModel(pydantic.BaseModel, frozen=True):
    account: str
    amount: Decimal = Decimal(1)
    command_id: UUID = pydantic.Field(default_factory=uuid7)


class ReceiveAsModel(PayAsModel, frozen=True):
    pass


@pytest.mark.parametrize("kind", [PayAsStruct, PayAsModel])
async def test_structs_and_pydantic_models_are_commands(bank: Bank, kind: Any) -> None:
    async def pay(command: Any) -> str:
        await bank.accounts.save(Account.open(command.account))
        return "paid"

    bank.commands.register(kind, pay)
    command = kind(account="a")
    first = await bank.commands.execute(command)
    assert await bank.commands.execute(kind(account="a", command_id=command.command_id)) == replace(
        first, repeated=True
    )
    with pytest.raises(CommandReusedError):
        await bank.commands.execute(kind(account="a", amount=2, command_id=command.command_id))


async def test_one_id_under_two_types_of_models_is_refused(bank: Bank) -> None:
    async def pay(command: PayAsModel) -> None:
        await bank.accounts.save(Account.open(command.account))

    bank.commands.register(PayAsModel, pay)
    bank.commands.register(ReceiveAsModel, pay)
    command = PayAsModel(account="a")
    await bank.commands.execute(command)
    with pytest.raises(CommandReusedError):
        await bank.commands.execute(ReceiveAsModel(account="a", command_id=command.command_id))


class Colour(Enum):
    RED = "red"


class Size(StrEnum):
    LARGE = "large"


@dataclass(frozen=True)
class Summary:
    id: UUID
    amounts: tuple[Decimal, ...]
    at: dt.datetime
    colour: Colour = Colour.RED
    more: dict[str, list[int]] = field(default_factory=dict)


class Point(NamedTuple):
    x: int
    y: float


class Reply(pydantic.BaseModel):
    id: UUID
    parts: list[Decimal]


NOON = dt.datetime(2026, 1, 2, 12, tzinfo=dt.UTC)
VALUES: list[tuple[Any, Any]] = [
    (None, None),
    (str, "grüße \N{SNOWMAN}"),
    (int, 2**53 + 1),
    (float, 0.1),
    (bool, True),
    (bytes, b"\x00\xff"),
    (Decimal, Decimal("10.500")),
    (UUID, uuid4()),
    (dt.datetime, NOON),
    (dt.date, NOON.date()),
    (dt.timedelta, dt.timedelta(minutes=5)),
    (Colour, Colour.RED),
    (Size, Size.LARGE),
    (str | None, None),
    (list[UUID], [uuid4(), uuid4()]),
    (tuple[str, Decimal], ("a", Decimal("1.0"))),
    (set[int], {1, 2, 3}),
    (dict[str, Decimal], {"a": Decimal("1.10")}),
    (Point, Point(1, 2.5)),
    (Summary, Summary(uuid4(), (Decimal("1.20"), Decimal(3)), NOON, more={"a": [1]})),
    (PayAsStruct, PayAsStruct(account="a")),
    (Reply, Reply(id=uuid4(), parts=[Decimal("1.50")])),
    (list[Reply], [Reply(id=uuid4(), parts=[])]),
    (Position, Position(7, b"\0" * 16)),
    (list[Position], [Position(7)]),
]


@pytest.mark.parametrize(("kind", "value"), VALUES, ids=[str(kind) for kind, _ in VALUES])
async def test_a_repeat_gets_a_value_of_the_annotated_type(bank: Bank, kind: Any, value: Any) -> None:
    async def handle(command: Open) -> Any:
        await bank.accounts.save(Account.open(command.account))
        return value

    handle.__annotations__["return"] = kind
    bank.commands.register(Open, handle)
    command = Open(account="a")
    first, again = [await bank.commands.execute(command) for _ in range(2)]
    assert (first.value, again.value, again.repeated) == (value, value, True)
    assert type(again.value) is type(value)


@dataclass(frozen=True, kw_only=True)
class Charge(Command[Decimal | None]):
    account: str


@dataclass(frozen=True, kw_only=True)
class ChargeLater(Charge):
    days: int = 7


@pytest.mark.parametrize("kind", [Charge, ChargeLater])
async def test_a_repeat_gets_a_value_of_the_type_that_the_command_names(bank: Bank, kind: type[Charge]) -> None:
    async def pay(command):  # type: ignore[no-untyped-def] # without an annotation
        await bank.accounts.save(Account.open(command.account))
        return Decimal("1.50")

    bank.commands.register(kind, pay)
    command = kind(account="a")
    values = [await bank.commands.dispatch(command) for _ in range(2)]
    assert [(type(value), str(value)) for value in values] == [(Decimal, "1.50")] * 2


@pytest.mark.parametrize("value", [object(), deque([object()]), Account("a")])
async def test_a_value_that_cannot_be_kept_is_refused_and_nothing_is_stored(bank: Bank, value: Any) -> None:
    async def handle(command: Open) -> Any:
        await bank.accounts.save(Account.open(command.account))
        return value

    bank.commands.register(Open, handle)
    with pytest.raises(InvalidHandlerError, match="the handler of Open returned what cannot be kept"):
        await bank.commands.dispatch(Open(account="a"))
    assert await bank.accounts.find("a") is None


async def test_a_command_whose_content_cannot_be_compared_is_refused(bank: Bank) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Strange(Command):
        thing: object

    async def handle(command: Strange) -> None: ...

    bank.commands.register(Strange, handle)
    with pytest.raises(InvalidMessageTypeError, match="Strange cannot be told from another Strange"):
        await bank.commands.dispatch(Strange(thing=object()))


# -- round trips ---------------------------------------------------------------------------------------------------


def calls_of(log: RecordingLog) -> dict[str, int]:
    """Return what the log was asked for since the last call of this function."""
    calls = dict(log.calls)
    log.calls.clear()
    return calls


async def test_a_repeat_costs_one_round_trip_in_the_process_that_has_sent_it(bank: Bank, log: RecordingLog) -> None:
    wire_commands(bank.commands, bank.accounts)
    await bank.commands.dispatch(Open(account="a"))
    command = Deposit(account="a", amount=Decimal(7))
    calls_of(log)
    first = await bank.commands.execute(command)
    assert calls_of(log) == {"read_stream": 1, "append": 1}
    assert await bank.commands.execute(command) == replace(first, repeated=True)
    assert calls_of(log) == {"find_command": 1}


async def test_in_another_process_the_append_of_a_repeat_carries_all_that_its_receipt_needs(
    bank: Bank, log: RecordingLog
) -> None:
    wire_commands(bank.commands, bank.accounts)
    await bank.commands.dispatch(Open(account="a"))
    command = Deposit(account="a", amount=Decimal(7))
    first = await bank.commands.execute(command)
    other = CommandBus(bank.store)  # as of another process, which has not sent it
    wire_commands(other, bank.accounts)
    calls_of(log)
    assert await other.execute(command) == replace(first, repeated=True)
    assert calls_of(log) == {"read_stream": 1, "append": 1}


async def test_a_repeat_whose_handler_refuses_or_has_nothing_to_do_is_found_with_its_receipt(
    bank: Bank, log: RecordingLog
) -> None:
    wire_commands(bank.commands, bank.accounts)
    await bank.commands.dispatch(Open(account="a"))
    withdraw = Withdraw(account="a", amount=Decimal(0))
    first = await bank.commands.execute(withdraw)
    other = CommandBus(bank.store)  # as of another process

    async def refuse(command: Withdraw) -> Decimal:
        raise OverdrawnError

    other.register(Withdraw, refuse)
    calls_of(log)
    assert (await other.execute(withdraw)).position == first.position
    assert calls_of(log) == {"find_command": 1}


async def test_a_bus_forgets_the_earliest_commands(bank: Bank, log: RecordingLog) -> None:
    commands = CommandBus(bank.store, options=CommandOptions(remembered=2))

    async def open_account(command: Open) -> None:
        await bank.store.append_events(
            f"Account-{command.account}", "Account", [Opened(account="a")], expected_version=0
        )

    commands.register(Open, open_account)
    sent = [Open(account=name) for name in "abc"]
    for each in sent:
        await commands.execute(each)
    calls_of(log)
    assert (await commands.execute(sent[0])).repeated
    assert calls_of(log)["append"] == 1
    assert (await commands.execute(sent[2])).repeated
    assert calls_of(log) == {"find_command": 1}


async def test_a_sent_command_that_is_not_stored_is_carried_out_when_it_comes_again(
    bank: Bank, log: RecordingLog
) -> None:
    wire_commands(bank.commands, bank.accounts)

    def cut(append: Append) -> None:
        log.before_append = None
        raise OutcomeUnknownError("the connection was cut, says the test")

    command = Open(account="a")
    log.before_append = cut
    with pytest.raises(OutcomeUnknownError):
        await bank.commands.execute(command)
    assert not (await bank.commands.execute(command)).repeated


@dataclass(frozen=True)
class Ping:
    fails: bool = False


async def test_a_command_without_an_id_that_stores_nothing_asks_no_database(bank: Bank, log: RecordingLog) -> None:
    async def pong(command: Ping) -> str:
        if command.fails:
            raise OverdrawnError
        return "pong"

    bank.commands.register(Ping, pong)
    calls_of(log)
    assert await bank.commands.dispatch(Ping()) == "pong"
    with pytest.raises(OverdrawnError):
        await bank.commands.dispatch(Ping(fails=True))
    assert calls_of(log) == {}


async def test_a_command_without_an_id_whose_outcome_was_unknown_gets_its_receipt(
    bank: Bank, log: RecordingLog
) -> None:
    async def open_account(command: Ping) -> str:
        await bank.accounts.save(Account.open("a"))
        return "a"

    async def store_and_cut(append: Append) -> None:
        log.before_append = None
        await log.append(append)
        raise OutcomeUnknownError("the connection was cut, says the test")

    bank.commands.register(Ping, open_account)
    log.before_append = store_and_cut
    receipt = await bank.commands.execute(Ping())
    assert (receipt.value, receipt.version) == ("a", 1)
