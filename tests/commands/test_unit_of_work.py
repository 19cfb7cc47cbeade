"""There is one way to write within a command handler: whatever it is done with, it is part of the command."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, NamedTuple
from uuid import uuid5

import pytest
import pytest_asyncio
from tests.accounts import Account, Deposit, Deposited, Open, Opened, OverdrawnError, Withdraw
from tests.recording_log import RecordingLog

from twofold import (
    ANY,
    NO_STREAM,
    STREAM_EXISTS,
    AppendCondition,
    Command,
    CommandBus,
    Event,
    EventQuery,
    EventStore,
    Repository,
    Tag,
    open_event_store,
)
from twofold.errors import (
    CommandReusedError,
    ConflictError,
    InvalidHandlerError,
    NotCommittedError,
    UnitOfWorkError,
)
from twofold.ports.event_log import Append


@dataclass(frozen=True, kw_only=True)
class Audited(Event):
    account: Annotated[str, Tag("account")]


@dataclass(frozen=True, kw_only=True)
class Audit(Command[None]):
    account: str


class Bank(NamedTuple):
    store: EventStore
    commands: CommandBus
    accounts: Repository[Account]

    async def types(self) -> list[str]:
        return [recorded.type async for recorded in self.store.read()]


@pytest_asyncio.fixture
async def log(url: str) -> AsyncIterator[RecordingLog]:
    behind = open_event_store(url).log
    log = RecordingLog(behind)
    log.transaction = behind.transaction  # type: ignore[attr-defined]
    await log.open()
    yield log
    await log.close()


@pytest.fixture
def bank(log: RecordingLog) -> Bank:
    store = EventStore(log)
    store.events.register(Audited)
    commands = CommandBus(store)

    async def audit(command: Audit) -> None:
        await store.append([Audited(account=command.account)])

    commands.register(Audit, audit)
    return Bank(store, commands, Repository(store, Account))


# -- appends within a handler ------------------------------------------------------------------------------------


def guides_handler(store: EventStore) -> Callable[[Deposit], Awaitable[Decimal]]:
    """The handler of the CQRS guide: it reads its stream and appends to it."""

    async def handle(command: Deposit) -> Decimal:
        version = 0
        async for recorded in store.read_stream(f"Account-{command.account}"):
            version = recorded.version
        event = Deposited(account=command.account, amount=command.amount)
        await store.append_events(f"Account-{command.account}", "Account", [event], expected_version=version)
        if command.amount < 0:
            raise ValueError("an amount is positive")
        return command.amount

    return handle


async def test_the_handler_of_the_guide_stores_all_or_nothing(bank: Bank) -> None:
    bank.commands.register(Deposit, guides_handler(bank.store))
    wrong = Deposit(account="a", amount=Decimal(-1))
    with pytest.raises(ValueError, match="positive"):
        await bank.commands.dispatch(wrong)
    assert await bank.types() == []
    right = Deposit(account="a", amount=Decimal(1), command_id=wrong.command_id)
    assert await bank.commands.dispatch(right) == 1, "nothing of the attempt that failed is in the way"
    assert await bank.types() == ["Deposited"]


async def test_the_handler_of_the_guide_takes_effect_once(bank: Bank) -> None:
    bank.commands.register(Deposit, guides_handler(bank.store))
    command = Deposit(account="a", amount=Decimal(3))
    receipts = await asyncio.gather(*(bank.commands.execute(command) for _ in range(10)))
    assert sorted(receipt.repeated for receipt in receipts) == [False] + [True] * 9
    assert {(receipt.position, receipt.version, receipt.value) for receipt in receipts} == {(1, 1, Decimal(3))}
    with pytest.raises(CommandReusedError):
        await bank.commands.dispatch(Deposit(account="a", amount=Decimal(4), command_id=command.command_id))
    assert await bank.types() == ["Deposited"]


async def test_the_handler_of_the_guide_is_tried_again_on_conflicts(bank: Bank) -> None:
    bank.commands.register(Deposit, guides_handler(bank.store))
    await asyncio.gather(*(bank.commands.dispatch(Deposit(account="a")) for _ in range(100)))
    assert await bank.types() == ["Deposited"] * 100


async def test_whatever_a_handler_writes_with_is_one_append(bank: Bank, log: RecordingLog) -> None:
    async def open_account(command: Open) -> None:
        await bank.accounts.save(Account.open(command.account))
        await bank.store.append([Audited(account=command.account)])
        await bank.store.append_events("Account-b", "Account", [Opened(account="b")], expected_version=NO_STREAM)
        await bank.commands.dispatch(Audit(account="b"))

    bank.commands.register(Open, open_account)
    receipt = await bank.commands.execute(Open(account="a"))
    assert (log.calls["append"], receipt.position) == (1, 4)
    assert await bank.types() == ["Opened", "Audited", "Opened", "Audited"]


async def test_an_append_within_a_handler_has_no_position_yet_and_says_so(bank: Bank) -> None:
    seen: list[Any] = []

    async def open_account(command: Open) -> None:
        event = Opened(account=command.account)
        receipt = await bank.store.append_events("Account-a", "Account", [event], expected_version=NO_STREAM)
        assert (receipt.is_staged, receipt.stream_id, receipt.types) == (True, "Account-a", ("Opened",))
        for fact in ("position", "version"):
            with pytest.raises(NotCommittedError, match=f"the events of 'Account-a' have no {fact} yet") as caught:
                getattr(receipt, fact)
            seen.append(caught.value.stream_id)

    bank.commands.register(Open, open_account)
    receipt = await bank.commands.execute(Open(account="a"))
    assert (receipt.is_staged, receipt.version, receipt.position) == (False, 1, 1)
    assert seen == ["Account-a"] * 2


@pytest.mark.parametrize("is_nested", [False, True])
async def test_a_handler_cannot_return_a_receipt_that_has_no_position_yet(bank: Bank, is_nested: bool) -> None:
    async def open_account(command: Open) -> Any:
        receipt = await bank.store.append([Opened(account=command.account)])
        return {"receipts": [receipt]} if is_nested else receipt

    bank.commands.register(Open, open_account)
    with pytest.raises(InvalidHandlerError, match="`execute` returns the receipt of the whole command"):
        await bank.commands.dispatch(Open(account="a"))
    assert await bank.types() == []


async def test_a_save_may_depend_on_a_condition(bank: Bank) -> None:
    await bank.store.append([Audited(account="a")])
    condition = AppendCondition(EventQuery.of(Audited, tags=["account:a"]))
    with pytest.raises(ConflictError) as caught:
        await bank.accounts.save(Account.open("a"), condition=condition)
    assert [recorded.event for recorded in caught.value.conflicts] == [Audited(account="a")]
    await bank.accounts.save(Account.open("b"), condition=AppendCondition(condition.fail_if, after=1))
    assert await bank.types() == ["Audited", "Opened"]


# -- what appends within one command expect of each other --------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "stored"),
    [
        (ANY, ANY, 5),
        (ANY, STREAM_EXISTS, 5),
        (ANY, 4, 5),
        (3, 4, 5),
        (3, ANY, 5),
        (STREAM_EXISTS, 4, 5),
        (ANY, 3, 3),  # the log holds three events, and the command has added one
        (STREAM_EXISTS, 5, 3),
        (ANY, 0, 3),
        (STREAM_EXISTS, 1, 3),
        (3, 3, 3),
        (3, 5, 3),
        (2, 3, 3),
    ],
)
async def test_a_second_append_to_a_stream_builds_on_the_first(
    bank: Bank, first: Any, second: Any, stored: int
) -> None:
    await bank.store.append_events("Account-a", "Account", [Opened(account="a")] * 3, expected_version=NO_STREAM)

    async def deposit(command: Deposit) -> None:
        for expected in (first, second):
            event = Deposited(account="a", amount=Decimal(1))
            await bank.store.append_events("Account-a", "Account", [event], expected_version=expected)

    bank.commands.register(Deposit, deposit)
    if stored == 5:
        assert (await bank.commands.execute(Deposit(account="a"))).version == 5
    else:
        with pytest.raises(ConflictError, match="'Account-a' is at version"):
            await bank.commands.dispatch(Deposit(account="a"))
    assert await bank.store.head() == stored


async def test_an_aggregate_that_was_loaded_before_another_save_of_it_is_refused(bank: Bank) -> None:
    async def open_twice(command: Open) -> None:
        await bank.accounts.save(Account.open("a"))
        await bank.accounts.save(Account.open("a"))

    bank.commands.register(Open, open_twice)
    with pytest.raises(ConflictError, match="within this command, expected 0; load what the command has saved"):
        await bank.commands.dispatch(Open(account="a"))
    assert await bank.types() == []


@pytest.mark.parametrize("wrong", [None, "1", 1.0, True, -1])
async def test_what_is_no_expected_version_is_refused(bank: Bank, wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="expected version is"):
        await bank.store.append_events("Account-a", "Account", [Opened(account="a")], expected_version=wrong)
    with pytest.raises((TypeError, ValueError), match="expected version is"):
        async with bank.store.transaction() as tx:
            tx.append_events("Account-a", "Account", [Opened(account="a")], expected_version=wrong)
    assert await bank.types() == []


# -- commands within commands ------------------------------------------------------------------------------------


def audited_deposits(bank: Bank, failing: int = 0) -> None:
    """Let each deposit dispatch an audit, which an inner handler appends."""

    async def deposit(command: Deposit) -> None:
        account = await bank.accounts.load(command.account)
        await bank.commands.dispatch(Audit(account=command.account))
        account.deposit(command.amount)
        await bank.accounts.save(account)

    bank.commands.register(Deposit, deposit)


async def test_ten_deposits_on_one_account_give_ten_audits(bank: Bank) -> None:
    audited_deposits(bank)
    await bank.accounts.save(Account.open("a"))
    await asyncio.gather(*(bank.commands.dispatch(Deposit(account="a")) for _ in range(10)))
    types = await bank.types()
    assert (types.count("Audited"), types.count("Deposited")) == (10, 10)


async def test_the_ids_of_a_command_within_a_command_follow_from_the_outer_one(bank: Bank) -> None:
    audited_deposits(bank)
    await bank.accounts.save(Account.open("a"))
    command = Deposit(account="a")
    await bank.commands.dispatch(command)
    assert (await bank.commands.execute(command)).repeated
    ids = [recorded.event_id async for recorded in bank.store.read(after=1)]
    assert ids == [uuid5(uuid5(command.command_id, "command 1"), "0"), uuid5(command.command_id, "0")]


async def test_what_an_inner_command_has_appended_is_dropped_if_it_fails(bank: Bank) -> None:
    async def withdraw(command: Withdraw) -> None:
        await bank.store.append([Audited(account=command.account)])
        raise OverdrawnError(command.account)

    async def deposit(command: Deposit) -> str:
        await bank.accounts.save(Account.open(command.account))
        try:
            await bank.commands.dispatch(Withdraw(account=command.account))
        except OverdrawnError:
            return "went on"
        return "was allowed"

    bank.commands.register(Withdraw, withdraw)
    bank.commands.register(Deposit, deposit)
    assert await bank.commands.dispatch(Deposit(account="a")) == "went on"
    assert await bank.types() == ["Opened"]


async def test_inner_commands_at_the_same_time_decide_one_after_the_other(bank: Bank) -> None:
    async def withdraw(command: Withdraw) -> None:
        account = await bank.accounts.load(command.account)
        await asyncio.sleep(0)
        account.withdraw(command.amount)
        await bank.accounts.save(account)

    async def deposit(command: Deposit) -> int:
        account = Account.open(command.account)
        account.deposit(command.amount)
        await bank.accounts.save(account)
        two = [bank.commands.dispatch(Withdraw(account=command.account, amount=command.amount)) for _ in range(2)]
        outcomes = await asyncio.gather(*two, return_exceptions=True)
        return [type(each) for each in outcomes].count(OverdrawnError)

    bank.commands.register(Withdraw, withdraw)
    bank.commands.register(Deposit, deposit)
    assert await bank.commands.dispatch(Deposit(account="a", amount=Decimal(5))) == 1
    assert (await bank.accounts.load("a")).balance == 0


async def test_an_inner_command_sees_what_the_outer_one_has_saved_and_the_other_way_round(bank: Bank) -> None:
    async def deposit(command: Deposit) -> Decimal:
        account = await bank.accounts.load(command.account)
        account.deposit(command.amount)
        await bank.accounts.save(account)
        return account.balance

    async def open_account(command: Open) -> list[Decimal]:
        await bank.accounts.save(Account.open(command.account))
        inner = await bank.commands.dispatch(Deposit(account=command.account, amount=Decimal(2)))
        return [inner, (await bank.accounts.load(command.account)).balance]

    bank.commands.register(Deposit, deposit)
    bank.commands.register(Open, open_account)
    receipt = await bank.commands.execute(Open(account="a"))
    assert (receipt.value, receipt.version) == ([Decimal(2), Decimal(2)], 2)


# -- what cannot be part of a command ----------------------------------------------------------------------------


async def test_a_transaction_of_its_own_within_a_handler_is_refused_by_name(bank: Bank) -> None:
    async def open_account(command: Open) -> None:
        await bank.store.append([Audited(account=command.account)])
        async with bank.store.transaction() as tx:
            tx.append([Opened(account=command.account)])

    bank.commands.register(Open, open_account)
    with pytest.raises(UnitOfWorkError, match=r"a command handler cannot open store\.transaction\(\)"):
        await bank.commands.dispatch(Open(account="a"))
    assert await bank.types() == []


async def in_transaction(bank: Bank) -> None:
    async with bank.store.transaction() as tx:
        tx.append([Audited(account="late")])


async def all_events(bank: Bank) -> int:
    return len(await bank.types())


WRITES: dict[str, Callable[[Bank], Awaitable[Any]]] = {
    "append": lambda bank: bank.store.append([Audited(account="late")]),
    "append_events": lambda bank: bank.store.append_events(
        "Account-late", "Account", [Opened(account="late")], expected_version=ANY
    ),
    "close_stream": lambda bank: bank.store.close_stream(
        "Account-late", "Account", reason="over", expected_version=ANY
    ),
    "transaction": in_transaction,
    "close": lambda bank: bank.accounts.close(Account.open("late"), reason="over"),
    "save": lambda bank: bank.accounts.save(Account.open("late")),
    "dispatch": lambda bank: bank.commands.dispatch(Audit(account="late")),
    "execute": lambda bank: bank.commands.execute(Audit(account="late")),
}
"""What an application writes with."""
OTHERS = {
    "read", "read_stream", "head", "position_at", "decide", "look", "subscribe", "load", "find",
    "register", "handle", "compare_tags",
}  # fmt: skip
"""What it reads and is wired with."""
SCHEDULING = {"schedule", "cancel_scheduled", "find_scheduled", "scheduled"}
"""What takes a process: `tests/processes/test_scheduling.py` tries it out."""
APART = {"tombstone_stream"}
"""What is never part of a command: `tests/log/test_tombstones.py` tries it out."""


def test_every_public_verb_is_known_to_these_tests() -> None:
    verbs = {
        name
        for cls in (EventStore, CommandBus, Repository)
        for name, verb in vars(cls).items()
        if callable(verb) and not name.startswith("_")
    }
    assert verbs == WRITES.keys() | OTHERS | SCHEDULING | APART


@pytest.mark.parametrize("write", WRITES)
async def test_a_task_that_outlives_its_handler_reads_the_log_and_is_refused_to_write(bank: Bank, write: str) -> None:
    go, balances = asyncio.Event(), list[Decimal]()

    async def follow() -> None:
        await go.wait()
        balances.append((await bank.accounts.load("a")).balance)
        await WRITES[write](bank)

    async def open_account(command: Open) -> None:
        await bank.accounts.find(command.account)
        await bank.accounts.save(Account.open(command.account))
        tasks.append(asyncio.create_task(follow()))

    tasks: list[asyncio.Task[None]] = []
    bank.commands.register(Open, open_account)
    await bank.commands.dispatch(Open(account="a"))
    account = await bank.accounts.load("a")
    account.deposit(Decimal(7))
    await bank.accounts.save(account)
    go.set()
    with pytest.raises(UnitOfWorkError, match="the command's handler has returned"):
        await tasks[0]
    assert balances == [7], "it reads what is stored by now"
    assert await bank.types() == ["Opened", "Deposited"]


@pytest.mark.parametrize("write", WRITES)
async def test_a_task_with_a_context_of_its_own_writes_on_its_own(bank: Bank, write: str) -> None:
    async def open_account(command: Open) -> None:
        await bank.accounts.save(Account.open(command.account))
        tasks.append(asyncio.create_task(WRITES[write](bank), context=contextvars.Context()))  # type: ignore[arg-type]

    tasks: list[asyncio.Task[None]] = []
    bank.commands.register(Open, open_account)
    await bank.commands.dispatch(Open(account="a"))
    await tasks[0]
    opened, *written = sorted(await bank.types(), key=["Opened", "Audited", "twofold.StreamClosed"].index)
    wanted = {"close_stream": ["twofold.StreamClosed"], "close": ["Opened", "twofold.StreamClosed"]}
    assert opened == "Opened"
    assert written in ([wanted[write]] if write in wanted else (["Audited"], ["Opened"]))


async def test_a_task_of_an_earlier_attempt_does_not_write_into_the_next(bank: Bank, log: RecordingLog) -> None:
    tasks: list[asyncio.Task[Any]] = []
    await bank.accounts.save(Account.open("a"))

    async def write_late(go: asyncio.Event) -> None:
        await go.wait()
        await bank.store.append([Audited(account="late")])

    async def deposit(command: Deposit) -> None:
        account = await bank.accounts.load(command.account)
        if tasks:  # the second attempt
            go.set()
            await asyncio.wait(tasks)
        else:
            tasks.append(asyncio.create_task(write_late(go)))
        account.deposit(command.amount)
        await bank.accounts.save(account)

    async def write_first(append: Append) -> None:
        if append.command:
            log.before_append = None
            rival = await bank.accounts.load("a")
            rival.deposit(Decimal(1))
            await bank.accounts.save(rival)

    go = asyncio.Event()
    bank.commands.register(Deposit, deposit)
    log.before_append = write_first
    await bank.commands.dispatch(Deposit(account="a"))
    assert await bank.types() == ["Opened", "Deposited", "Deposited"]
    assert isinstance(tasks[0].exception(), UnitOfWorkError)
