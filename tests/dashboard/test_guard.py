"""Who may look at the dashboard, who may change something, and what another site can make a browser do: nothing."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping

import httpx2
import pytest
import pytest_asyncio
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from tests.dashboard.showing import BASE, showing

from twofold import Application
from twofold.dashboard import Access, dashboard
from twofold.dashboard.guard import COOKIE

LOCAL = ("127.0.0.1", 4321)
OWN = {"sec-fetch-site": "same-origin"}


def browser(app: object, host: str = "127.0.0.1:8000", client: tuple[str, int] = LOCAL) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app=app, client=client)  # type: ignore[arg-type]
    return httpx2.AsyncClient(transport=transport, base_url=f"http://{host}")


@pytest_asyncio.fixture
async def app() -> AsyncIterator[Application]:
    async with Application("memory://") as app:
        yield app


@pytest.mark.parametrize(
    ("host", "client", "headers", "status"),
    [
        ("127.0.0.1:8000", "127.0.0.1", {}, 200),
        ("localhost", "127.0.0.1", {}, 200),
        ("[::1]:8000", "::1", {}, 200),
        ("127.0.0.1:8000", "192.168.1.7", {}, 403),
        ("shop.example", "127.0.0.1", {}, 403),  # a name that was made to lead here
        ("127.0.0.1:8000", "127.0.0.1", {"x-forwarded-for": "203.0.113.9"}, 403),
        ("127.0.0.1:8000", "127.0.0.1", {"forwarded": "for=203.0.113.9"}, 403),
    ],
)
async def test_without_a_hook_only_this_machine_looks(
    app: Application, host: str, client: str, headers: Mapping[str, str], status: int
) -> None:
    async with browser(dashboard(app), host, (client, 4321)) as asker:
        answer = await asker.get("/", headers=headers)
        assert answer.status_code == status
        assert status == 200 or "dashboard(app, grant=" in answer.text


async def test_the_hook_decides_and_may_be_asynchronous(app: Application) -> None:
    async def grant(request: Request) -> Access | Response:
        match request.headers.get("authorization"):
            case "Bearer reader":
                return Access.READ
            case "Bearer operator":
                return Access.CHANGE
            case "Bearer stranger":
                return Access.NONE
        return RedirectResponse("/login", 303)

    async with browser(dashboard(app, grant=grant), "shop.example", ("203.0.113.9", 1)) as asker:
        answers = {
            who: await asker.get("/projections", headers={"authorization": f"Bearer {who}"} if who else {})
            for who in ("reader", "operator", "stranger", "")
        }
        assert {who: each.status_code for who, each in answers.items()} == {
            "reader": 200, "operator": 200, "stranger": 403, "": 303,
        }  # fmt: skip
        assert answers[""].headers["location"] == "/login"
        change = await asker.post("/projections/x/pause", headers={"authorization": "Bearer reader", **OWN})
        assert (change.status_code, "change nothing" in change.text) == (403, True)


async def test_every_answer_is_protected(app: Application) -> None:
    async with browser(dashboard(app)) as asker:
        for path in ("/", "/events", "/none", "/assets/dashboard.js", "/events/77"):
            answer = await asker.get(path)
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"
        cookie = (await asker.get("/")).request.headers["cookie"]
        assert COOKIE in cookie
    async with browser(dashboard(app)) as asker:
        said = (await asker.get("/")).headers["set-cookie"]
        assert "HttpOnly" in said
        assert "SameSite=Strict" in said


async def test_another_site_cannot_change_anything(url: str) -> None:
    async with showing(url) as (app, site), browser(site) as asker:
        page = (await asker.get(f"{BASE}/projections/parcels")).text
        [word] = set(re.findall(r'name="word" value="([^"]+)"', page))
        path, good = f"{BASE}/projections/parcels/pause", {"word": word}
        refused = [
            await asker.post(path, data=good, headers={"sec-fetch-site": "cross-site"}),
            await asker.post(path, data=good, headers={"sec-fetch-site": "same-site"}),
            await asker.post(path, data=good, headers={"origin": "https://evil.example"}),
            await asker.post(path, data=good),  # neither header: no browser of today
            await asker.post(path, data={"word": "guessed"}, headers=OWN),
            await asker.post(path, headers=OWN),
            await asker.get(path),
        ]
        assert [each.status_code for each in refused] == [403, 403, 403, 403, 403, 403, 405]
        long = await asker.post(path, data={"word": word, "reason": "x" * 70_000}, headers=OWN)
        assert long.status_code == 413
        assert (await app.projections.control("parcels").status()).state != "paused"
        assert (await asker.post(path, data=good, headers=OWN)).status_code == 303
        assert (await app.projections.control("parcels").status()).state == "paused"


async def test_a_reader_is_shown_no_buttons() -> None:
    async with showing("memory://", grant=lambda _: Access.READ) as (_, site), browser(site) as asker:
        for path in ("/projections/parcels", "/processes/enquiry"):
            assert 'method="post"' not in (await asker.get(BASE + path)).text
