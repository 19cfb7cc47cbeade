"""A decider does all that an aggregate does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from tests.accounts import ACCOUNT, Account, Deposit, Deposited, Open, Opened, OverdrawnError, Withdraw, wire

from twofold import Application, CommandBus, DeciderHandler

MOVES = st.lists(st.tuples(st.sampled_from([Deposit, Withdraw]), st.integers(1, 9).map(Decimal)), max_size=12)


def account_of(command: Open | Deposit | Withdraw) -> str:
    return command.account


@pytest_asyncio.fixture
async def app(url: str) -> AsyncIterator[Application]:
    app = Application(url, synchronize=False)
    handler = DeciderHandler(app.store, ACCOUNT, id_of=account_of)
    app.commands.register(Open, handler)
    app.commands.register(Deposit, handler)
    app.commands.register(Withdraw, handler)
    async with app:
        yield app


def test_the_state_is_folded_from_the_events() -> None:
    assert ACCOUNT.fold([]) == 0
    assert ACCOUNT.fold([Opened(account="a"), Deposited(account="a", amount=Decimal(3))]) == 3


@given(moves=MOVES)
def test_it_decides_as_the_aggregate_does(moves: list[tuple[type[Deposit] | type[Withdraw], Decimal]]) -> None:
    account, events = Account.open("a"), [*ACCOUNT.decide(Open(account="a"), Decimal())]
    for kind, amount in moves:
        assert _outcome(lambda: _move(account, kind, amount)) == _outcome(  # noqa: B023
            lambda: events.extend(ACCOUNT.decide(kind(account="a", amount=amount), ACCOUNT.fold(events)))  # noqa: B023
        )
    assert list(account.uncommitted_events) == events
    assert account.balance == ACCOUNT.fold(events)


async def test_both_write_the_same_log(app: Application, tmp_path: Any) -> None:
    other = Application(f"sqlite:///{tmp_path}/aggregates.db", synchronize=False)
    wire(other)
    commands = [Open(account="a"), Deposit(account="a", amount=Decimal(5)), Withdraw(account="a", amount=Decimal(2))]
    logs = []
    async with other:
        for each in (app, other):
            for command in commands:
                await each.commands.dispatch(command)
            rows = [recorded.stored async for recorded in each.store.read()]
            logs.append([msgspec.structs.replace(row, recorded_at=0, checksum=0) for row in rows])
    assert logs[0] == logs[1]


async def test_its_handler_returns_the_id_and_refuses_as_the_decider_does(app: Application) -> None:
    assert await app.commands.dispatch(Open(account="a")) == "a"
    with pytest.raises(OverdrawnError):
        await app.commands.dispatch(Withdraw(account="a", amount=Decimal(5)))
    assert await app.store.head() == 1


async def test_its_commands_take_effect_once(app: Application) -> None:
    await app.commands.dispatch(Open(account="a"))
    command = Deposit(account="a", amount=Decimal(5))
    first, again = [await app.commands.execute(command) for _ in range(2)]
    assert (first.repeated, again.repeated, again.position) == (False, True, first.position)


async def test_its_conflicts_are_decided_again(app: Application) -> None:
    await app.commands.dispatch(Open(account="a"))
    await asyncio.gather(*(app.commands.dispatch(Deposit(account="a")) for _ in range(10)))
    events = [recorded.event async for recorded in app.store.read_stream("Account-a")]
    assert ACCOUNT.fold(events) == 10


async def test_a_decision_for_nothing_stores_nothing(app: Application) -> None:
    quiet = replace(ACCOUNT, decide=lambda command, state: [])
    bus = CommandBus(app.store)
    handler = DeciderHandler(app.store, quiet, id_of=account_of)
    bus.register(Open, handler)
    assert (await bus.execute(Open(account="a"))).position == 0


def _move(account: Account, kind: type[Deposit] | type[Withdraw], amount: Decimal) -> None:
    account.deposit(amount) if kind is Deposit else account.withdraw(amount)


def _outcome(action: Any) -> type[Exception] | None:
    try:
        action()
    except OverdrawnError as error:
        return type(error)
    return None
