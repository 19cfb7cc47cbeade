"""`twofold at`, as an operator types it."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal

import pytest
from tests.accounts import ACCOUNT, Account, Balances, Mails, wire
from tests.cli.typed import Fails, Twofold
from tests.synchronizing import PATIENCE

from twofold import Application, DeciderHandler, metadata
from twofold.errors import InvalidProjectionError

APP = "tests.cli.test_past:build"


def build(url: str) -> Application:
    app = Application(url)
    wire(app)
    DeciderHandler(app.store, ACCOUNT, lambda command: command.account)
    app.projections.add(Balances())
    app.projections.add(Mails())
    return app


def build_for_tenants(url: str) -> Application:
    app = Application(url, synchronize=False, tenants=True)
    app.repository(Account)
    app.projections.add(Balances())
    return app


async def write(url: str) -> tuple[str, str]:
    """Append four events, and return when the second and the last one were recorded."""
    app = build(url)
    async with app:
        for name in ("a", "b"):
            account = Account.open(name)
            account.deposit(Decimal(5))
            await app.repository(Account).save(account)
        await app.projections.wait(4, PATIENCE)
        _, second, _, last = [each.recorded_at.isoformat() async for each in app.store.read()]
    return second, last


def test_an_operator_sees_what_was_at_a_position_and_at_a_time(url: str, twofold: Twofold, fails: Fails) -> None:
    second, last = asyncio.run(write(url))

    def told(when: str, *arguments: str) -> list[str]:
        done = twofold("at", when, APP, "--url", url, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    assert told("1")[0].startswith("position 1 of 4, recorded at ")
    assert told("0") == ["position 0 of 4"]
    assert told(second)[0].startswith("position 2 of 4, recorded at ")
    assert told(last)[0].endswith(": Deposited")
    [state] = told("1", "--stream", "Account-a", "--fold", "aggregate Account")
    assert state.startswith("aggregate Account Account-a at version 1: {")
    decided = "decider Account evolve"
    assert told("1", "--stream", "Account-a", "--fold", decided) == [f'{decided} Account-a at version 1: "0"']
    assert told("2", "--stream", "Account-a", "--fold", decided) == [f'{decided} Account-a at version 2: "5"']
    row = {"account": "a", "owner": "ann", "amount": "5", "changes": 1}
    assert [json.loads(each) for each in told("3", "--read-model", "balances", "--key", "a")] == [row]
    assert told("0", "--read-model", "balances", "--key", '["a"]') == ["there is no such row"]
    of_b = {"account": "b", "owner": "ann", "amount": "0", "changes": 0}
    assert [json.loads(each) for each in told("3", "--read-model", "balances")] == [row, of_b]

    def complaint(*arguments: str) -> str:
        return fails("at", *arguments[:1], APP, "--url", url, *arguments[1:])

    assert complaint("5") == "the log ends at position 4; it has not come to position 5 yet"
    assert "has not come to 2999-01-01 00:00:00+00:00 yet" in complaint("2999-01-01T00:00Z")
    assert "has no time zone; write 2026-01-31T12:00Z for UTC" in complaint("2026-01-31T12:00")
    assert complaint("noon").startswith("'noon' is no position and no time; write 1200 or")
    assert "mails has no rows that the framework folds" in complaint("1", "--read-model", "mails")
    assert "the stream 'Account-x' is empty" in complaint("1", "--stream", "Account-x")
    assert "say of which read model" in complaint("1", "--key", "a")


async def open_for(tenant: str, url: str) -> None:
    app = build_for_tenants(url)
    async with app:
        with metadata(tenant=tenant):
            await app.repository(Account).save(Account.open("a", owner=tenant))


def test_an_operator_sees_the_past_of_one_tenant(url: str, twofold: Twofold) -> None:
    asyncio.run(open_for("red", url))
    of_tenants = ("at", "1", "tests.cli.test_past:build_for_tenants", "--url", url, "--read-model", "balances")
    for arguments in (("--key", "a", "--tenant", "red"), ("--tenant", "red"), ()):
        done = twofold(*of_tenants, *arguments)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["owner"] == "red"
    assert twofold(*of_tenants, "--tenant", "blue").stdout == ""


async def test_a_read_model_is_found_by_its_name(url: str) -> None:
    app = build(url)
    assert app.projections.read_model("balances").name == "balances"
    with pytest.raises(InvalidProjectionError, match="mails has no rows"):
        app.projections.read_model("mails")
