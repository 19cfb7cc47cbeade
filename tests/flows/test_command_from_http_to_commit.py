"""How a command comes from an HTTP request into the log.

1. The endpoint turns the request into a command. The header `Idempotency-Key` becomes the command's id.
2. The command bus calls the one handler for it, in a unit of work: what the handler reads is remembered, what it saves
   is held back.
3. The handler loads an aggregate, which folds the events of its stream; lets it decide; and saves it.
4. When the handler has returned, everything it saved is one append: events, the versions that it expects of its
   streams, the command's id, the value that it returned.
5. The log checks and stores the append in one transaction, and commits it durably.
6. If another command was faster, the append is refused with the events in the way; the handler runs again on top of
   them.
7. The receipt (value, version, position) becomes the response: its body, its `ETag`, its `Consistency-Token`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tests.flows.bank import Account, Bank, Deposit, Deposited, Open, Opened, RefusedError, build

from fastapi import FastAPI
from twofold import EventQuery
from twofold.fastapi import CommandId, add_consistency, add_problem_details

KEY = {"Idempotency-Key": "7f3a-first-deposit"}


def api_of(bank: Bank) -> FastAPI:
    """Return the bank's HTTP API: bodies and parameters become commands, and that is all."""
    api = FastAPI(lifespan=bank.app.lifespan)
    add_problem_details(api, statuses={RefusedError: 409})
    add_consistency(api, bank.app)

    @api.post("/accounts/{account}", status_code=201)
    async def open_account(account: str, command_id: CommandId) -> str:
        return str(await bank.app.commands.dispatch(Open(command_id=command_id, account=account)))

    @api.post("/accounts/{account}/deposits")
    async def deposit(account: str, amount: Decimal, command_id: CommandId) -> dict[str, int]:
        command = Deposit(command_id=command_id, account=account, amount=amount)
        receipt = await bank.app.commands.execute(command)
        return {"version": receipt.version, "position": receipt.position}

    return api


@pytest.fixture
def bank(url: str) -> Bank:
    return build(url)


@pytest.fixture
def client(bank: Bank) -> Iterator[TestClient]:
    with TestClient(api_of(bank)) as client:
        yield client


def stored(bank: Bank, client: TestClient) -> list[Any]:
    """Return the events of the log, in the log's order."""

    async def read() -> list[Any]:
        return [recorded.event async for recorded in bank.app.store.read(EventQuery.all())]

    assert client.portal is not None
    events: list[Any] = client.portal.call(read)
    return events


def test_a_request_becomes_events_of_one_stream(bank: Bank, client: TestClient) -> None:
    assert client.post("/accounts/ann").status_code == 201
    answer = client.post("/accounts/ann/deposits", params={"amount": "12.50"})

    assert answer.json() == {"version": 2, "position": 2}
    assert answer.headers["etag"] == '"2"'
    assert answer.headers["consistency-token"]
    assert stored(bank, client) == [Opened(account="ann"), Deposited(account="ann", amount=Decimal("12.50"))]


def test_a_request_that_is_repeated_takes_effect_once(bank: Bank, client: TestClient) -> None:
    client.post("/accounts/ann")
    first = client.post("/accounts/ann/deposits", params={"amount": "5"}, headers=KEY)
    again = client.post("/accounts/ann/deposits", params={"amount": "5"}, headers=KEY)

    assert again.json() == first.json()
    assert len(stored(bank, client)) == 2


def test_the_same_key_for_another_command_is_refused(bank: Bank, client: TestClient) -> None:
    client.post("/accounts/ann")
    client.post("/accounts/ann/deposits", params={"amount": "5"}, headers=KEY)
    other = client.post("/accounts/ann/deposits", params={"amount": "6"}, headers=KEY)

    assert (other.status_code, other.json()["type"]) == (422, "urn:problem:command-reused")


def test_what_a_rule_forbids_stores_nothing(bank: Bank, client: TestClient) -> None:
    client.post("/accounts/ann")
    refused = client.post("/accounts/ann/deposits", params={"amount": "-1"})

    assert (refused.status_code, refused.json()["detail"]) == (409, "a deposit is positive")
    assert stored(bank, client) == [Opened(account="ann")]


def test_a_change_to_another_version_than_the_client_saw_is_refused(bank: Bank, client: TestClient) -> None:
    seen = client.post("/accounts/ann").headers["etag"]
    client.post("/accounts/ann/deposits", params={"amount": "5"})
    refused = client.post("/accounts/ann/deposits", params={"amount": "5"}, headers={"If-Match": seen})

    assert (refused.status_code, refused.json()["type"]) == (412, "urn:problem:version-mismatch")
    assert len(stored(bank, client)) == 2


async def test_commands_that_race_for_one_stream_all_succeed_one_after_the_other(url: str) -> None:
    bank = build(url)
    async with bank.app as app:
        await app.commands.dispatch(Open(account="ann"))
        deposits = [Deposit(account="ann", amount=Decimal(amount)) for amount in range(1, 21)]
        receipts = await asyncio.gather(*map(app.commands.execute, deposits))

        assert sorted(receipt.version for receipt in receipts) == list(range(2, 22))
        account = await app.repository(Account).load("ann")
        assert (account.is_open, account.committed_version) == (True, 21)
