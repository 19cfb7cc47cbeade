"""The state of a stream after any of its events, as the application's own code folds it."""

from __future__ import annotations

from decimal import Decimal

import pytest
from tests.accounts import ACCOUNT, Account, Deposit, Open, Withdraw, wire
from tests.synchronizing import opened

from twofold import Application, DeciderHandler
from twofold.errors import EventNotFoundError
from twofold.inspection import document_of, stream_state


async def _moved(app: Application) -> None:
    await app.commands.execute(Open(account="a"))
    for amount in (5, 7):
        await app.commands.execute(Deposit(account="a", amount=Decimal(amount)))
    await app.commands.execute(Withdraw(account="a", amount=Decimal(2)))


async def test_a_stream_has_a_state_at_each_version(any_url: str) -> None:
    async with Application(any_url) as app:
        wire(app)
        await _moved(app)
        states = [await stream_state(app.store, "Account-a", version=n) for n in range(5)]
        assert [each.state.balance for each in states] == [0, 0, 5, 12, 10]
        last = await stream_state(app.store, "Account-a")
        assert (last.version, last.fold, last.state.id, last.state.version) == (4, "aggregate Account", "a", 4)
        assert document_of(last)["state"] == {"id": "a", "version": 4, "owner": "ann", "balance": "10"}
        with pytest.raises(EventNotFoundError, match="has 4 events, and no version 5"):
            await stream_state(app.store, "Account-a", version=5)
        with pytest.raises(EventNotFoundError, match="'Account-b' is empty"):
            await stream_state(app.store, "Account-b")


async def test_where_several_fold_such_streams_one_is_named() -> None:
    async with Application("memory://") as app:
        wire(app)
        await _moved(app)
        DeciderHandler(app.store, ACCOUNT, lambda command: "a")
        with pytest.raises(ValueError, match="there are aggregate Account, decider Account evolve"):
            await stream_state(app.store, "Account-a")
        found = await stream_state(app.store, "Account-a", fold="decider Account evolve", version=3)
        assert found.state == Decimal(12)
        with pytest.raises(ValueError, match="and no aggregate Safe"):
            await stream_state(app.store, "Account-a", fold="aggregate Safe")


async def test_a_stream_that_nothing_folds_says_so(any_url: str) -> None:
    async with Application(any_url) as app:
        app.store.events.register(*Account.event_types())
        await app.store.append_events("Safe-1", "Safe", [opened("a")], expected_version=0)
        with pytest.raises(ValueError, match="folds streams of the type 'Safe'; there is none"):
            await stream_state(app.store, "Safe-1")
