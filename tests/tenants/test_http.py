"""Several tenants over HTTP: their clients read what they have written, as those of an application without tenants."""

from __future__ import annotations

import httpx2
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send
from tests.accounts import GetBalance, Open
from tests.tenants.test_read_models import ACME, ZEN, with_balances

from fastapi import FastAPI
from twofold import Application, metadata
from twofold.fastapi import add_consistency
from twofold.projections.runner import ProjectionKind

OF = "x-tenant"
TOKEN = "Consistency-Token"


class OnBehalf:
    """Lets a request be on behalf of the tenant that it names, as a middleware of an application does."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
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
