"""Several tenants over HTTP: their clients read what they have written, as those of an application without tenants."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal

import httpx2
import msgspec
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send
from tests.accounts import Balance, GetBalance, Open
from tests.fastapi.test_consistency import build, listening, next_event
from tests.tenants.test_read_models import ACME, ZEN, with_balances

from fastapi import FastAPI
from twofold import Application, all_tenants, metadata
from twofold.fastapi import add_consistency, add_problem_details
from twofold.projections.runner import ProjectionKind

OF = "x-tenant"
TOKEN = "Consistency-Token"


class OnBehalf:
    """Lets a request be on behalf of the tenant that it names, as a middleware of an application does."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        with metadata(tenant=dict(scope["headers"])[OF.encode()].decode()):
            await self.app(scope, receive, send)


def served(app: Application) -> FastAPI:
    api = FastAPI()
    add_consistency(api, app, cookie=True)
    api.add_middleware(OnBehalf)

    @api.post("/accounts/{account}")
    async def open_account(account: str) -> None:
        await app.commands.dispatch(Open(account=account, owner="Ann"))

    @api.get("/accounts/{account}")
    async def balance(account: str) -> bool:
        return await app.queries.dispatch(GetBalance(account)) is not None

    return api


@pytest.mark.parametrize("kind", ["asynchronous", "inline"])
async def test_a_client_of_a_tenant_reads_what_it_has_written(url: str, kind: ProjectionKind) -> None:
    async with with_balances(url, kind) as (app, _):
        transport = httpx2.ASGITransport(served(app))
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost", headers={OF: ACME}) as client:
            written = await client.post("/accounts/a")
            assert written.status_code == 200
            token = {TOKEN: written.headers[TOKEN]}
            assert (await client.get("/accounts/a")).json() is True  # by the cookie
            assert (await client.get("/accounts/a", headers=token)).json() is True
            other = await client.get("/accounts/a", headers={**token, OF: ZEN})
            assert (other.status_code, other.json()) == (200, False)
            assert (await client.get("/accounts/a", headers={TOKEN: f"{token[TOKEN]}A"})).status_code == 400


@asynccontextmanager
async def accounts_of_both(url: str) -> AsyncIterator[tuple[httpx2.AsyncClient, FastAPI]]:
    """Serve accounts to two tenants from a socket. Each request says by a header whose it is."""
    api = build(url, tenants=True, heartbeat=0.2)
    add_problem_details(api)
    api.add_middleware(OnBehalf)
    async with listening(api) as client:
        yield client, api


async def test_watched_answers_are_the_tenants_own_whatever_id_a_client_sends(url: str) -> None:
    """All of them share their looks, and ask the same question about an account of the same name."""
    async with accounts_of_both(url) as (client, _), AsyncExitStack() as stack:
        streams = {}
        for tenant in (ACME, ZEN):
            assert (await client.post("/accounts/a", headers={OF: tenant})).status_code == 200
            for number in range(2):
                stream = await stack.enter_async_context(client.stream("GET", "/live/a", headers={OF: tenant}))
                streams[tenant, number] = stream.aiter_lines()
        amounts = {ACME: [1, 2, 4], ZEN: [1000, 2000]}
        for tenant, amount in ((ACME, 1), (ZEN, 1000), (ACME, 2), (ZEN, 2000), (ACME, 4)):
            answer = await client.post(f"/accounts/a/deposits?amount={amount}", headers={OF: tenant})
            assert answer.status_code == 200
        own = {tenant: {sum(each[:count]) for count in range(len(each) + 1)} for tenant, each in amounts.items()}
        last = {tenant: await follow(lines, own[tenant]) for (tenant, _), lines in streams.items()}
        for tenant, other in ((ACME, ZEN), (ZEN, ACME)):
            assert (await client.post("/accounts/a/deposits?amount=9", headers={OF: tenant})).status_code == 200
            headers = {OF: tenant, "Last-Event-ID": last[other]}
            async with client.stream("GET", "/live/a", headers=headers) as stream:
                await follow(stream.aiter_lines(), own[tenant] | {max(own[tenant]) + 9})


async def follow(lines: AsyncIterator[str], own: set[int]) -> str:
    """Follow the answers of a stream, all of which show one of a tenant's amounts, up to the last of these; its id."""
    while True:
        event = await next_event(lines)
        if event.get("data", "null") != "null":
            amount = msgspec.json.decode(event["data"], type=Balance).amount
            assert amount in own
            if amount == max(own):
                return event["id"]


@pytest.mark.parametrize("key", ["deposit-1", "1c0b5b5e-6f0c-4f3e-9b43-3d2f7a0c9d11"])
async def test_a_key_of_one_tenant_replays_nothing_to_another(url: str, key: str) -> None:
    async with accounts_of_both(url) as (client, api):
        for tenant in (ACME, ZEN):
            await client.post("/accounts/a", headers={OF: tenant})
        for tenant, amount in ((ACME, "7"), (ZEN, "7"), (ZEN, "7"), (ACME, "7")):
            headers = {OF: tenant, "Idempotency-Key": key}
            answer = await client.post(f"/accounts/a/deposits?amount={amount}", headers=headers)
            assert (answer.status_code, Decimal(answer.json())) == (200, Decimal(7))
        other = await client.post("/accounts/a/deposits?amount=8", headers={OF: ZEN, "Idempotency-Key": key})
        assert other.status_code == 422
        with all_tenants():
            assert await api.state.app.store.head() == 4


async def test_the_versions_of_one_tenants_streams_are_no_other_tenants(url: str) -> None:
    async with accounts_of_both(url) as (client, _):
        opened = await client.post("/accounts/a", headers={OF: ACME})
        assert opened.headers["etag"] == '"1"'
        for if_match in ("*", '"1"'):  # as if the other's account were its own
            headers = {OF: ZEN, "If-Match": if_match}
            assert (await client.post("/accounts/a", headers=headers)).status_code == 412
        assert (await client.post("/accounts/a", headers={OF: ZEN})).headers["etag"] == '"1"'
        for amount in range(3):
            changed = await client.post(f"/accounts/a/deposits?amount={amount + 1}", headers={OF: ACME})
        assert changed.headers["etag"] == '"4"'
        stale = await client.put("/accounts/a/deposits", headers={OF: ZEN, "If-Match": '"4"'})
        assert stale.status_code == 412
        assert (await client.put("/accounts/a/deposits", headers={OF: ZEN, "If-Match": '"1"'})).status_code == 200
