"""What an answer must show, which read models are waited for, and what happens when it is too late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio
from tests.accounts import Balance, Balances, Deposit, Deposited, GetBalance, Open, Opened, Withdraw, wire

from twofold import ANY, Application, Position, Projection, Receipt, on
from twofold.errors import InvalidHandlerError, StaleReadError, VersionMismatchError
from twofold.messages.answer import Answer
from twofold.messages.read_policy import Policy, WhenLate
from twofold.messages.session import Written, current_session, session
from twofold.queries.consistency import Progress
from twofold.queries.consistent_query import ConsistentQueryHandler
from twofold.synchronizer import read_model_progress

PATIENCE = 20.0
AT_ONCE = Policy(0.0, WhenLate.REFUSE)
STALE = Policy(0.0, WhenLate.ANSWER_STALE)
OVERLAY = Policy(0.0, WhenLate.OVERLAY)


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

    policy = Policy(0.1, WhenLate.OVERLAY)


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


async def test_two_hundred_waiters_cost_no_more_queries_than_one(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    [database] = app.projections.databases
    ask, asked = database.query, 0

    async def counted(sql: str, **values: Any) -> Any:
        nonlocal asked
        asked += 1
        return await ask(sql, **values)

    monkeypatch.setattr(database, "query", counted)
    monkeypatch.setattr(read_model_progress, "POLL", 0.1)
    await ask_of(app, Balances())
    await app.projections.wait(0, PATIENCE)
    asked = 0
    waiters = [asyncio.create_task(app.projections.wait(1, PATIENCE)) for _ in range(200)]
    with pytest.raises(StaleReadError):
        await app.projections.wait(1, 1.0)  # and so they have waited for ten polls
    assert not any(waiter.done() for waiter in waiters)
    assert asked <= 2 * 10 + 6, "of each poll, one where it is and one which generation serves"
    await opened(app)
    async with synchronizing(app):
        await asyncio.gather(*waiters)


async def test_by_default_a_query_waits_for_all_projections(app: Application) -> None:
    await ask_of(app, Owners(), Balances(), policy=AT_ONCE)
    with pytest.raises(StaleReadError, match="owners at 0, balances at 0"):
        await app.queries.dispatch(GetBalance("a"), after=await opened(app))


async def test_a_projection_that_does_not_handle_what_was_written_is_not_waited_for(app: Application) -> None:
    await ask_of(app, Owners(), reads=["owners"], policy=AT_ONCE)
    await opened(app)
    deposited = await app.commands.execute(Deposit(account="a"))
    assert await app.queries.dispatch(GetBalance("a"), after=deposited) is None
    with pytest.raises(StaleReadError):
        await app.queries.dispatch(GetBalance("a"), after=deposited.position)


async def test_a_query_about_one_key_does_not_wait_for_what_was_written_about_another(app: Application) -> None:
    await ask_of(app, Balances(), reads=["balances"], tag=tag_of, policy=AT_ONCE)
    receipt = await opened(app, "a")
    assert await app.queries.dispatch(GetBalance("b"), after=receipt) is None
    with pytest.raises(StaleReadError):
        await app.queries.dispatch(GetBalance("a"), after=receipt)


async def test_a_receipt_that_does_not_say_what_was_written_is_waited_for(app: Application) -> None:
    await ask_of(app, Owners(), reads=["owners"], tag=tag_of, policy=AT_ONCE)
    receipt = replace(await opened(app, "b"), types=(), tags=())
    with pytest.raises(StaleReadError):
        await app.queries.dispatch(GetBalance("a"), after=receipt)


async def test_a_projection_that_is_not_there_is_named(app: Application) -> None:
    await ask_of(app, Owners(), reads=["owner"])
    with pytest.raises(InvalidHandlerError, match="reads owner, which is no projection; there are owners"):
        await app.queries.dispatch(GetBalance("a"))


async def test_a_query_that_is_too_late_is_answered_stale_with_the_age_of_what_is_missing(app: Application) -> None:
    await ask_of(app, Balances(), reads=["balances"], policy=STALE)
    receipt = await opened(app)
    answer = await app.queries.ask(GetBalance("a"), after=receipt)
    assert (answer.value, answer.stale) == (None, True)
    assert answer.age
    assert timedelta(0) < answer.age < timedelta(seconds=PATIENCE)
    async with synchronizing(app):
        answer = await app.queries.ask(GetBalance("a"), after=receipt, timeout=PATIENCE)
    assert answer == Answer(Balance("a", "ann"))


async def test_a_row_that_is_late_is_answered_fresh_by_folding_what_is_missing_over_it(app: Application) -> None:
    await ask_of(app, Balances(), policy=Policy(0.0, WhenLate.OVERLAY))
    async with synchronizing(app):
        await app.projections.wait((await opened(app)).position, PATIENCE)
    receipt = await app.commands.execute(Deposit(account="a"))
    assert await app.queries.ask(GetBalance("a"), after=receipt) == Answer(Balance("a", "ann", Decimal(1), 1))


async def test_what_cannot_be_overlaid_is_answered_stale(app: Application) -> None:
    balances = app.projections.add(Balances())
    await app.projections.prepare()

    async def first(query: GetBalance) -> Balance | None:
        return next(iter((await balances.page()).items), None)

    app.queries.register(GetBalance, first, policy=Policy(0.0, WhenLate.OVERLAY))
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


async def test_a_query_waits_for_a_read_model_that_is_behind_by_more_than_its_max_lag(app: Application) -> None:
    await ask_of(app, Punctual(), policy=Policy(PATIENCE))
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
    first, second = Written.of(await opened(app, "a")), Written.of(await opened(app, "b"))
    both = first.merge(second)
    assert both == second.merge(first) == both.merge(Written())
    assert both.position == 2
    assert all(both.concerns([tag]) for tag in ("account:a", "account:b", "Opened"))
    assert not both.concerns(["account:c", "Deposited"])
    assert both.merge(Written(7, None)) == Written(7, None)
    assert Written.of(3).concerns(["anything"])


async def test_of_very_much_it_is_only_known_that_it_was_written(app: Application) -> None:
    written = Written()
    for number in range(40):
        written = written.merge(
            Written.of(Receipt(value=None, position=Position(number + 1), types=(f"Type{number}",)))
        )
    assert written == Written(40, None)


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
    progress: Progress | None = app.queries.progress
    assert progress
    assert list(progress.projections()) == ["owners", "balances"]
    assert progress.handled("balances") == {"Opened", "Deposited", "Withdrawn"}
    position = (await opened(app)).position
    assert (progress.reached("owners"), await progress.head()) == (0, position)
    async with synchronizing(app):
        await progress.wait(position, PATIENCE)
        assert progress.reached("owners") >= position
        assert await progress.lag("owners") == timedelta(0)
