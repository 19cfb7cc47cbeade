"""What an answer must show, which read models are waited for, and what happens when it is too late."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio
from tests.accounts import Balance, Balances, Deposit, Deposited, GetBalance, Open, Opened, Withdraw, wire

from twofold import ANY, Application, Position, Projection, Query, QueryBus, Receipt, on
from twofold.errors import InvalidHandlerError, StaleReadError, VersionMismatchError
from twofold.messages.query import Answer
from twofold.messages.read_policy import ReadPolicy, WhenLate
from twofold.messages.session import WriteToken, current_session, session
from twofold.options import Options, QueryOptions
from twofold.queries.consistent_query import ConsistentQueryHandler

PATIENCE = 20.0
AT_ONCE = ReadPolicy(0.0, WhenLate.REFUSE)
STALE = ReadPolicy(0.0, WhenLate.ANSWER_STALE)
OVERLAY = ReadPolicy(0.0, WhenLate.OVERLAY)


@dataclass(frozen=True)
class CountBalances(Query[int]):
    pass


class Owners(Projection[Balance]):
    """Handles one type of events only."""

    name = "owners"

    @on(Opened)
    def opened(self, event: Opened) -> Balance:
        return Balance(event.account, event.owner)


class Punctual(Balances):
    """Is never to be behind."""

    name = "punctual"
    max_lag = timedelta(0)


@pytest_asyncio.fixture
async def app(url: str) -> AsyncIterator[Application]:
    """Return an application whose projections do not run until `synchronizing` runs them."""
    app = Application(url, synchronize=False)
    wire(app)
    async with app:
        yield app


@asynccontextmanager
async def synchronizing(app: Application) -> AsyncIterator[None]:
    running = asyncio.create_task(app.projections.run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def ask_of(app: Application, *projections: Projection[Balance], **options: Any) -> None:
    """Register `GetBalance` to be answered from the first of these projections."""
    models = [app.projections.add(projection) for projection in projections]

    async def answer(query: GetBalance) -> Balance | None:
        return await models[0].get(query.account)

    app.queries.register(GetBalance, answer, **options)
    await app.projections.prepare()


async def opened(app: Application, account: str = "a") -> Receipt[Any]:
    return await app.commands.execute(Open(account=account))


def tag_of(query: GetBalance) -> str:
    return f"account:{query.account}"


async def test_a_query_waits_only_for_the_projections_that_it_reads(app: Application, url: str) -> None:
    await ask_of(app, Owners(), Balances(), reads=["owners"])
    worker = Application(url)
    worker.projections.add(Owners())  # and nobody runs the other one
    receipt = await opened(app)
    async with worker:
        assert await app.queries.dispatch(GetBalance("a"), after=receipt, timeout=PATIENCE) == Balance("a", "ann")
    with pytest.raises(StaleReadError, match="balances at 0"):
        await app.projections.wait(receipt.position, 0)


class Indulgent(Balances):
    """Has queries answered as it stands."""

    policy = STALE


class Foldable(Owners):
    """Has queries answered afresh."""

    policy = ReadPolicy(0.1, WhenLate.OVERLAY)


@pytest.mark.parametrize(
    ("projections", "options", "result"),
    [
        ([Indulgent()], {}, (None, True)),
        ([Indulgent()], {"policy": OVERLAY}, (Balance("a", "ann"), False)),
        ([Foldable()], {}, (Balance("a", "ann"), False)),
        ([Foldable(), Indulgent()], {}, (Balance("a", "ann"), False)),
        ([Foldable(), Indulgent()], {"reads": ["balances"]}, (Balance("a", "ann"), True)),
    ],
    ids=["its own", "the query's goes before", "another", "the strictest of several", "of those that it reads"],
)
async def test_a_query_without_a_policy_has_that_of_its_projections(
    app: Application, projections: list[Projection[Balance]], options: dict[str, Any], result: tuple[Any, bool]
) -> None:
    await ask_of(app, *projections, **options)
    if "reads" in options:
        async with synchronizing(app):
            await app.projections.wait((await opened(app)).position, PATIENCE, ["owners"])
        receipt = await app.commands.execute(Deposit(account="a"))
    else:
        receipt = await opened(app)
    answer = await app.queries.ask(GetBalance("a"), after=receipt)
    assert (answer.value, answer.stale) == result


async def test_two_hundred_waiters_cost_no_more_queries_than_one(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    app = Application(url, synchronize=False, options=Options(queries=QueryOptions(poll=0.1)))
    wire(app)
    async with app:
        await _count_queries_of_waiters(app, monkeypatch)


async def _count_queries_of_waiters(app: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    [database] = app.projections.databases
    ask, asked = database.query, 0

    async def counted(sql: str, **values: Any) -> Any:
        nonlocal asked
        asked += 1
        return await ask(sql, **values)

    monkeypatch.setattr(database, "query", counted)
    await ask_of(app, Balances())
    await app.projections.wait(0, PATIENCE)
    asked = 0
    waiters = [asyncio.create_task(app.projections.wait(1, PATIENCE)) for _ in range(200)]
    with pytest.raises(StaleReadError):
        await app.projections.wait(1, 1.0)  # and so they have waited for ten polls
    assert not any(waiter.done() for waiter in waiters)
    assert asked <= 10 + 3, "of each poll, one that tells which generation serves and where it is"
    await opened(app)
    async with synchronizing(app):
        await asyncio.gather(*waiters)


async def test_a_query_waits_for_the_read_models_that_its_handler_asks_and_for_no_other(
    app: Application, url: str
) -> None:
    await ask_of(app, Owners(), Balances())
    worker = Application(url)
    worker.projections.add(Owners())  # and nobody runs the other one
    receipt = await opened(app)
    with pytest.raises(StaleReadError, match=r"(?m)in time: owners at 0$"):
        await app.queries.dispatch(GetBalance("a"), after=receipt, timeout=0)
    async with worker:
        assert await app.queries.dispatch(GetBalance("a"), after=receipt, timeout=PATIENCE) == Balance("a", "ann")


async def test_a_handler_with_sql_of_its_own_that_says_nothing_waits_for_all_projections(app: Application) -> None:
    await ask_of(app, Owners(), Balances())
    database = app.projections.databases[0]

    async def count(query: CountBalances) -> int:
        [(number,)] = await database.query("SELECT count(*) FROM balances")
        return int(number)

    app.queries.register(CountBalances, count, policy=AT_ONCE)
    receipt = await opened(app)
    for _ in range(2):
        with pytest.raises(StaleReadError, match="owners at 0, balances at 0"):
            await app.queries.dispatch(CountBalances(), after=receipt)
    async with synchronizing(app):
        assert await app.queries.dispatch(CountBalances(), after=receipt, timeout=PATIENCE) == 1
        receipt = await opened(app, "b")
        assert await app.queries.dispatch(CountBalances(), after=receipt, timeout=PATIENCE) == 2


async def test_the_first_answer_of_a_handler_with_sql_of_its_own_shows_what_was_written(app: Application) -> None:
    await ask_of(app, Balances())
    database = app.projections.databases[0]

    async def count(query: CountBalances) -> int:
        [(number,)] = await database.query("SELECT count(*) FROM balances")
        return int(number)

    app.queries.register(CountBalances, count)
    receipt = await opened(app)
    asking = asyncio.create_task(app.queries.dispatch(CountBalances(), after=receipt, timeout=PATIENCE))
    async with synchronizing(app):
        assert await asking == 1


async def test_a_projection_that_does_not_handle_what_was_written_is_not_waited_for(app: Application) -> None:
    await ask_of(app, Owners(), policy=AT_ONCE)
    await opened(app)
    deposited = await app.commands.execute(Deposit(account="a"))
    assert await app.queries.dispatch(GetBalance("a"), after=deposited) is None
    with pytest.raises(StaleReadError):
        await app.queries.dispatch(GetBalance("a"), after=deposited.position)


async def test_a_query_about_one_key_does_not_wait_for_what_was_written_about_another(app: Application) -> None:
    await ask_of(app, Balances(), policy=AT_ONCE)
    receipt = await opened(app, "a")
    assert await app.queries.dispatch(GetBalance("b"), after=receipt) is None
    with pytest.raises(StaleReadError):
        await app.queries.dispatch(GetBalance("a"), after=receipt)


async def test_a_receipt_that_does_not_say_what_was_written_is_waited_for(app: Application) -> None:
    await ask_of(app, Owners(), policy=AT_ONCE)
    receipt = replace(await opened(app, "b"), types=(), tags=())
    with pytest.raises(StaleReadError):
        await app.queries.dispatch(GetBalance("a"), after=receipt)


async def test_a_projection_that_is_not_there_is_named(app: Application) -> None:
    await ask_of(app, Owners(), reads=["owner"])
    with pytest.raises(InvalidHandlerError, match="reads owner, which is no projection; there are owners"):
        await app.queries.dispatch(GetBalance("a"))


async def test_an_application_whose_query_reads_what_is_no_projection_does_not_start(url: str) -> None:
    app = Application(url)

    async def count(query: CountBalances) -> int:
        raise AssertionError("it is never asked")

    app.queries.register(CountBalances, count, reads=["balance"])
    app.projections.add(Balances())
    with pytest.raises(InvalidHandlerError, match="reads balance, which is no projection; there are balances"):
        await app.start()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reads": "balances"}, r"write `reads=\['balances'\]`"),
        ({"tag": tag_of}, "has a `tag` and no `reads`; leave it out"),
    ],
)
def test_what_a_query_reads_is_checked_when_it_is_registered(options: dict[str, Any], message: str) -> None:
    async def answer(query: GetBalance) -> None:
        return None

    with pytest.raises(InvalidHandlerError, match=message):
        QueryBus().register(GetBalance, answer, **options)


async def test_a_query_that_is_too_late_is_answered_stale_with_the_age_of_what_is_missing(app: Application) -> None:
    await ask_of(app, Balances(), policy=STALE)
    receipt = await opened(app)
    answer = await app.queries.ask(GetBalance("a"), after=receipt)
    assert (answer.value, answer.stale) == (None, True)
    assert answer.age
    assert timedelta(0) < answer.age < timedelta(seconds=PATIENCE)
    async with synchronizing(app):
        answer = await app.queries.ask(GetBalance("a"), after=receipt, timeout=PATIENCE)
    assert answer == Answer(Balance("a", "ann"))


async def test_a_row_that_is_late_is_answered_fresh_by_folding_what_is_missing_over_it(app: Application) -> None:
    await ask_of(app, Balances(), policy=ReadPolicy(0.0, WhenLate.OVERLAY))
    async with synchronizing(app):
        await app.projections.wait((await opened(app)).position, PATIENCE)
    receipt = await app.commands.execute(Deposit(account="a"))
    assert await app.queries.ask(GetBalance("a"), after=receipt) == Answer(Balance("a", "ann", Decimal(1), 1))


class Unlucky(Balances):
    """Fails on deposits of 13."""

    @on(Deposited)
    def deposited(self, row: Balance, event: Deposited) -> Balance:
        if event.amount == 13:
            raise ArithmeticError("unlucky")
        return super().deposited(row, event)


@pytest.mark.parametrize("lookup", [0.0, 1.0], ids=["looked up", "known"])
async def test_an_answer_about_a_row_with_parked_events_is_stale(url: str, lookup: float) -> None:
    options = Options(queries=QueryOptions(lookup=lookup))
    app = Application(url, options=options)
    wire(app)
    balances = app.projections.add(Unlucky())

    async def get(query: GetBalance) -> Balance | None:
        return await balances.get(query.account)

    async def count(query: CountBalances) -> int:
        return (await balances.page()).total

    app.queries.register(GetBalance, get, policy=ReadPolicy(PATIENCE))
    app.queries.register(CountBalances, count)
    async with app:
        await opened(app, "a")
        await opened(app, "b")
        receipt = await app.commands.execute(Deposit(account="a", amount=Decimal(13)))
        await app.projections.wait(receipt, PATIENCE)
        for after in (receipt, None):
            assert await app.queries.ask(GetBalance("a"), after=after) == Answer(Balance("a", "ann"), stale=True)
            assert await app.queries.ask(GetBalance("b"), after=after) == Answer(Balance("b", "ann"))
            assert await app.queries.ask(CountBalances(), after=after) == Answer(2, stale=True)


async def test_what_cannot_be_overlaid_is_answered_stale(app: Application) -> None:
    balances = app.projections.add(Balances())
    await app.projections.prepare()

    async def first(query: GetBalance) -> Balance | None:
        return next(iter((await balances.page()).items), None)

    app.queries.register(GetBalance, first, policy=ReadPolicy(0.0, WhenLate.OVERLAY))
    answer = await app.queries.ask(GetBalance("a"), after=await opened(app))
    assert (answer.value, answer.stale, answer.age is not None) == (None, True, True)


async def test_a_default_policy_holds_for_queries_without_one_and_a_call_may_have_its_own(app: Application) -> None:
    await ask_of(app, Balances())
    receipt = await opened(app)
    with pytest.raises(StaleReadError):
        await app.queries.ask(GetBalance("a"), after=receipt, timeout=0)
    assert (await app.queries.ask(GetBalance("a"), after=receipt, policy=STALE)).stale


async def test_a_read_model_within_its_max_lag_is_asked_without_waiting(app: Application) -> None:
    class Patient(Balances):
        max_lag = timedelta(hours=1)

    await ask_of(app, Patient(), policy=AT_ONCE)
    await opened(app)
    assert await app.queries.ask(GetBalance("a")) == Answer(None)


async def test_a_read_model_that_is_behind_by_more_than_its_max_lag_is_refused_or_marked(app: Application) -> None:
    await ask_of(app, Punctual(), policy=AT_ONCE)
    assert await app.queries.ask(GetBalance("a")) == Answer(None)
    await opened(app)
    with pytest.raises(StaleReadError, match="punctual at 0"):
        await app.queries.dispatch(GetBalance("a"))
    answer = await app.queries.ask(GetBalance("a"), policy=STALE)
    assert (answer.value, answer.stale, answer.age is not None) == (None, True, True)


async def test_a_read_model_that_keeps_up_is_compared_with_the_log_now_and_then_and_told_late_in_time(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Brisk(Balances):
        max_lag = timedelta(seconds=1)

    await ask_of(app, Brisk(), policy=STALE)
    head, looks = app.store.log.head, 0

    async def counted() -> int:
        nonlocal looks
        looks += 1
        return await head()

    monkeypatch.setattr(app.store.log, "head", counted)
    start = time.monotonic()
    for _ in range(50):
        assert await app.queries.ask(GetBalance("a")) == Answer(None)
    assert looks <= 1 + (time.monotonic() - start)
    await opened(app)
    async with asyncio.timeout(PATIENCE):
        while not (await app.queries.ask(GetBalance("a"))).stale:  # noqa: ASYNC110 - time makes it late, no event
            await asyncio.sleep(0.05)
    async with synchronizing(app):
        await app.projections.wait(1, PATIENCE)
        assert await app.queries.ask(GetBalance("a")) == Answer(Balance("a", "ann"))


async def test_a_query_waits_for_a_read_model_that_is_behind_by_more_than_its_max_lag(app: Application) -> None:
    await ask_of(app, Punctual(), policy=ReadPolicy(PATIENCE))
    await opened(app)
    asking = asyncio.create_task(app.queries.ask(GetBalance("a")))
    async with synchronizing(app):
        assert await asking == Answer(Balance("a", "ann"))


async def test_events_that_a_projection_does_not_handle_do_not_make_it_late(app: Application) -> None:
    class PunctualOwners(Owners):
        max_lag = timedelta(0)

    await ask_of(app, PunctualOwners(), policy=AT_ONCE)
    await opened(app)
    async with synchronizing(app):
        await app.projections.wait(1, PATIENCE)
    await app.commands.execute(Deposit(account="a"))
    assert await app.queries.ask(GetBalance("a")) == Answer(Balance("a", "ann"))


async def test_within_a_session_every_query_shows_what_its_commands_wrote(app: Application) -> None:
    await ask_of(app, Balances(), policy=AT_ONCE)
    with session() as own:
        assert await app.queries.dispatch(GetBalance("a")) is None
        await opened(app)
        with pytest.raises(StaleReadError):
            await app.queries.dispatch(GetBalance("a"))
    assert own.receipt
    assert current_session() is None
    await app.queries.dispatch(GetBalance("a"))
    with session(own.written, wait=PATIENCE):
        asking = asyncio.create_task(app.queries.dispatch(GetBalance("a")))
        async with synchronizing(app):
            assert await asking == Balance("a", "ann")


async def test_a_session_tells_how_stale_its_answers_were(app: Application) -> None:
    await ask_of(app, Balances(), policy=STALE)
    with session() as own:
        await app.queries.ask(GetBalance("a"))
        assert (own.asked, own.stale, own.age) == (True, False, None)
        await opened(app)
        answer = await app.queries.ask(GetBalance("a"))
        assert (own.stale, own.age) == (True, answer.age)


async def test_what_two_commands_wrote_is_shown_by_what_shows_both(app: Application) -> None:
    first, second = WriteToken.of(await opened(app, "a")), WriteToken.of(await opened(app, "b"))
    both = first.merge(second)
    assert both == second.merge(first) == both.merge(WriteToken())
    assert both.position == 2
    assert all(both.concerns([tag]) for tag in ("account:a", "account:b", "Opened"))
    assert not both.concerns(["account:c", "Deposited"])
    assert both.merge(WriteToken(7, None)) == WriteToken(7, None)
    assert WriteToken.of(3).concerns(["anything"])


async def test_of_very_much_it_is_only_known_that_it_was_written(app: Application) -> None:
    written = WriteToken()
    for number in range(40):
        written = written.merge(
            WriteToken.of(Receipt(value=None, position=Position(number + 1), types=(f"Type{number}",)))
        )
    assert written == WriteToken(40, None)


# -- expected versions ------------------------------------------------------------------------------------------


async def test_a_command_is_refused_when_its_stream_is_not_at_the_version_that_the_caller_expects(
    app: Application,
) -> None:
    await opened(app)
    with session(expected_version=2), pytest.raises(VersionMismatchError, match="at version 1, the caller expects 2"):
        await app.commands.execute(Deposit(account="a"))
    with session(expected_version=1):
        assert (await app.commands.execute(Deposit(account="a"))).version == 2
        assert (await app.commands.execute(Deposit(account="a"))).version == 3  # what is expected holds once


async def test_of_two_that_expect_the_same_version_one_is_refused(app: Application) -> None:
    await opened(app)

    async def deposit() -> Receipt[Any]:
        with session(expected_version=1):
            return await app.commands.execute(Deposit(account="a"))

    outcomes = await asyncio.gather(*(deposit() for _ in range(8)), return_exceptions=True)
    assert sorted(type(each).__name__ for each in outcomes) == ["Receipt"] + ["VersionMismatchError"] * 7


async def test_a_repeat_of_a_command_is_answered_alike_whatever_it_expects(app: Application) -> None:
    await opened(app)
    command = Deposit(account="a")
    receipts = []
    for _ in range(2):
        with session(expected_version=1):
            receipts.append(await app.commands.execute(command))
    assert [(each.version, each.repeated) for each in receipts] == [(2, False), (2, True)]


async def test_the_version_is_checked_also_where_the_handler_expects_none(app: Application) -> None:
    async def deposit(command: Withdraw) -> None:
        event = Deposited(account=command.account, amount=Decimal(1))
        await app.store.append_events(f"Account-{command.account}", "Account", [event], expected_version=ANY)

    other = type(app.commands)(app.store)
    other.register(Withdraw, deposit)
    await opened(app)
    with session(expected_version=7), pytest.raises(VersionMismatchError, match="at version 1, the caller expects 7"):
        await other.execute(Withdraw(account="a"))
    with session(expected_version=1):
        assert (await other.execute(Withdraw(account="a"))).version == 2


# -- stream and version -----------------------------------------------------------------------------------------


@pytest.fixture
def handler(app: Application) -> ConsistentQueryHandler:
    return ConsistentQueryHandler(app.queries, app.store)


async def test_a_query_after_a_command_shows_the_version(app: Application, handler: ConsistentQueryHandler) -> None:
    await ask_of(app, Balances())
    async with synchronizing(app):
        for version in range(1, 6):
            await (app.commands.execute(Deposit(account="a")) if version > 1 else opened(app))
            answer = await handler.query_after_command(GetBalance("a"), version, "Account-a", PATIENCE)
            assert answer == Answer(Balance("a", "ann", Decimal(version - 1), version - 1))


async def test_a_version_that_is_not_written_yet_is_waited_for(
    app: Application, handler: ConsistentQueryHandler
) -> None:
    await ask_of(app, Balances())
    async with synchronizing(app):
        asking = asyncio.create_task(handler.query_after_command(GetBalance("a"), 2, "Account-a", PATIENCE))
        await opened(app)
        await app.commands.execute(Deposit(account="a"))
        assert await asking == Answer(Balance("a", "ann", Decimal(1), 1))


@pytest.mark.parametrize("write", [opened, None], ids=["not shown", "not written"])
async def test_after_the_time_out_the_answer_is_stale_and_says_so(
    app: Application, handler: ConsistentQueryHandler, write: Callable[[Application], Any] | None
) -> None:
    await ask_of(app, Balances())
    if write:
        await write(app)
    answer = await handler.query_after_command(GetBalance("a"), 1, "Account-a", 0.05)
    assert (answer.value, answer.stale, answer.age is not None) == (None, True, write is not None)


async def test_version_0_is_shown_at_once(app: Application, handler: ConsistentQueryHandler) -> None:
    await ask_of(app, Balances())
    assert await handler.query_after_command(GetBalance("a"), 0, "Account-a", 0) == Answer(None)


async def test_the_synchronizer_tells_where_its_read_models_are(app: Application) -> None:
    await ask_of(app, Owners(), Balances())
    progress = app.projections.progress
    assert list(progress) == ["owners", "balances"]
    assert progress["balances"].handled == {"Opened", "Deposited", "Withdrawn"}
    owners, position = progress["owners"], (await opened(app)).position
    assert (owners.reached, await owners.head()) == (0, position)
    async with synchronizing(app):
        await app.projections.wait(position, PATIENCE)
        assert owners.reached >= position
        assert await owners.lag() == timedelta(0)
