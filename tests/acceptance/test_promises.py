"""What the Orders server promises at its edges: to browsers, to careless clients, and to who ends it."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import time
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from fastapi.testclient import TestClient
from tests.acceptance.servers import PATIENCE, serving, serving_by_uvicorn
from tests.acceptance.test_http import CUP, HOME, app, assert_problem, body, client, created

from orders.app import build
from orders.commands import CreateOrder
from orders.http import build_api
from orders.items import MAX_ITEMS, Address, OrderItem
from orders.schemas import MONEY
from twofold import Application

__all__ = ["app", "client"]  # fixtures


# -- the end of a server ----------------------------------------------------------------------------------------


async def ended_after(server: asyncio.subprocess.Process) -> tuple[float, str]:
    """Send SIGTERM; return the seconds until the process has ended, and what it said on standard error."""
    began = time.monotonic()
    server.send_signal(signal.SIGTERM)
    _, err = await asyncio.wait_for(server.communicate(), PATIENCE)
    return time.monotonic() - began, err.decode()


async def test_sigterm_ends_a_server_with_an_unfinished_body(tmp_path: Path) -> None:
    async with serving(tmp_path / "orders.db", GRACE="1") as (server, url):
        address = urlsplit(url)
        _, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(b"POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        await writer.drain()
        seconds, _ = await ended_after(server)
        writer.close()
    assert seconds < 10
    assert server.returncode in (0, -signal.SIGTERM)


async def test_sigterm_ends_a_server_with_an_unread_stream(tmp_path: Path) -> None:
    async with serving(tmp_path / "orders.db", GRACE="1") as (server, url), httpx2.AsyncClient(base_url=url) as client:
        big = [{**CUP, "product_id": f"cup-{n}", "description": "x" * 190} for n in range(1000)]
        order = (await client.post("/orders", json=body(*big))).json()["order_id"]
        address = urlsplit(url)
        _, writer = await asyncio.open_connection(address.hostname, address.port, limit=1)
        writer.write(f"GET /orders/{order}/live HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        for n in range(40):  # more than the buffers of the kernel hold
            await client.post(f"/orders/{order}/items", json={**CUP, "product_id": f"more-{n}"})
        seconds, _ = await ended_after(server)
        writer.close()
    assert seconds < 10


OF_ONES_OWN = """
import os
from fastapi import FastAPI, Request, Response
from twofold import Application
from twofold.fastapi import add_consistency

app = Application(os.environ["DATABASE_URL"])
api = FastAPI(lifespan=app.lifespan)
add_consistency(api, app, grace=0.5)

@api.post("/orders")
async def order(request: Request) -> int:
    return len(await request.body())

@api.get("/big")
async def big() -> Response:
    return Response(b"x" * 50_000_000)
"""


@pytest.mark.parametrize(
    "request_begun",
    [
        b"POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{",
        b"POST /orders HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
        b"GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
    ids=["an unfinished body", "an unfinished body in chunks", "an unread answer"],
)
async def test_sigterm_ends_a_server_of_ones_own_that_was_given_no_time_out(
    tmp_path: Path, request_begun: bytes
) -> None:
    (tmp_path / "shop.py").write_text(OF_ONES_OWN)
    async with serving_by_uvicorn(tmp_path / "shop.py", tmp_path / "orders.db") as (server, port):
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        writer.write(request_begun)
        await writer.drain()
        await asyncio.sleep(0.3)  # nothing tells that the server waits for the rest
        seconds, err = await ended_after(server)
        writer.close()
    assert seconds < 10
    assert server.returncode in (0, -signal.SIGTERM)
    assert "timeout graceful shutdown exceeded" in err


async def test_sigterm_ends_a_server_at_once_when_its_streams_are_read(tmp_path: Path) -> None:
    async with serving(tmp_path / "orders.db") as (server, url), httpx2.AsyncClient(base_url=url) as client:
        order = (await client.post("/orders", json=body())).json()["order_id"]
        async with client.stream("GET", f"/orders/{order}/live") as stream:
            lines = stream.aiter_lines()
            await anext(lines)
            ending = asyncio.create_task(ended_after(server))
            assert [line async for line in lines]  # and no error: the response is complete
        seconds, err = await ending
    assert seconds < 5
    assert err == ""


# -- what is refused --------------------------------------------------------------------------------------------


async def test_the_server_answers_for_its_own_names_only(tmp_path: Path) -> None:
    environment = {"ALLOWED_HOSTS": "shop.example, api.shop.example"}
    async with serving(tmp_path / "orders.db", **environment) as (_, url), httpx2.AsyncClient(base_url=url) as client:
        for host in ("127.0.0.1", "localhost", "shop.example", "api.shop.example:443"):
            assert (await client.get("/health", headers={"Host": host})).status_code == 200
        assert_problem(await client.get("/health", headers={"Host": "evil.example"}), 400)


def test_another_sites_page_cannot_ship_an_order(client: TestClient) -> None:
    url = f"/orders/{created(client)}"
    assert_problem(client.post(f"{url}/ship", headers={"Sec-Fetch-Site": "cross-site"}), 403)
    assert_problem(client.post(f"{url}/ship", headers={"Origin": "https://evil.example"}), 403)
    assert client.get(url).json()["status"] == "open"


async def test_headers_without_an_end_are_refused(tmp_path: Path) -> None:
    async with serving(tmp_path / "orders.db") as (_, url):
        address = urlsplit(url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n")
        sent, limit = 0, 50_000_000  # much more than the buffers of the kernel hold
        try:
            while sent < limit and not reader.at_eof():
                writer.write(b"X-Header: " + b"x" * 1000 + b"\r\n")
                await writer.drain()
                sent += 1012
            answer = await asyncio.wait_for(reader.read(), PATIENCE)
        except ConnectionError:
            answer = b""
        writer.close()
    assert sent < limit
    assert answer == b"" or answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 431"))


@pytest.mark.parametrize("price", ["1_000", "1e2", "+5", ".5", "5.", " 5", "5\n", "١٢", "NaN", "0x1", "1.23456", "1,5"])
def test_a_price_is_what_its_documented_grammar_says(client: TestClient, price: str) -> None:
    assert not re.fullmatch(MONEY, price)
    assert_problem(client.post("/orders", json=body({**CUP, "price": price})), 422, "items[0].price")
    assert_problem(client.get("/orders/search", params={"min_amount": price}), 422, "min_amount")


@pytest.mark.parametrize("price", ["5", "5.5", "0.0001", "12345678.1234", 5, 5.25])
def test_every_price_of_the_grammar_is_taken(client: TestClient, price: str | float) -> None:
    assert isinstance(price, int | float) or re.fullmatch(MONEY, price)
    assert client.post("/orders", json=body({**CUP, "price": price})).status_code == 201


def test_the_grammar_of_a_price_is_in_the_documentation(client: TestClient) -> None:
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    text, number = schemas["ItemBody"]["properties"]["price"]["anyOf"]
    assert (text, number["type"]) == ({"type": "string", "pattern": MONEY}, "number")
    assert f"at most {MAX_ITEMS}" in schemas["CreateOrderBody"]["properties"]["items"]["description"]


def test_an_order_has_at_most_the_documented_number_of_items(app: Application, client: TestClient) -> None:
    items = tuple(OrderItem(f"cup-{n}", 1, Decimal("8.75")) for n in range(MAX_ITEMS))
    create = CreateOrder(customer_id="ada", items=items, shipping_address=Address(**HOME))
    assert client.portal is not None
    order = client.portal.call(app.commands.dispatch, create)
    refused = client.post(f"/orders/{order}/items", json={**CUP, "product_id": "one more"})
    assert_problem(refused, 409, "items")
    assert str(MAX_ITEMS) in refused.json()["detail"]
    more_of_one = {**CUP, "product_id": "cup-1"}  # a further piece of an item is no further item
    assert client.post(f"/orders/{order}/items", json=more_of_one).status_code == 200


# -- what is there ----------------------------------------------------------------------------------------------


def test_an_order_is_found_right_after_it_was_created_without_a_token(client: TestClient) -> None:
    for _ in range(20):
        order = created(client)
        client.cookies.clear()
        assert client.get(f"/orders/{order}").status_code == 200


def test_what_may_be_there_in_a_moment_is_a_404_that_says_stale(url: str) -> None:
    with TestClient(build_api(build(url, synchronize=False))) as client:
        order = created(client)
        client.cookies.clear()
        answer = client.get(f"/orders/{order}", headers={"Prefer": "wait=0"})
    assert_problem(answer, 404)
    assert answer.headers["consistency"].startswith("stale")


def test_what_is_not_there_is_a_404_without_a_doubt(client: TestClient) -> None:
    created(client)
    answer = client.get("/orders/none")
    assert_problem(answer, 404)
    assert "consistency" not in answer.headers


def test_an_order_that_has_not_changed_is_not_sent_again(client: TestClient) -> None:
    url = f"/orders/{created(client)}"
    known = {"If-None-Match": client.get(url).headers["etag"]}
    assert (client.get(url, headers=known).status_code, client.head(url, headers=known).status_code) == (304, 304)
    client.post(f"{url}/items", json=CUP)
    assert client.get(url, headers=known).json()["version"] == 2


def test_every_path_says_which_methods_it_takes(client: TestClient) -> None:
    order = created(client)
    for path, operations in client.get("/openapi.json").json()["paths"].items():
        refused = client.request("PATCH", path.replace("{order_id}", order).replace("{", "").replace("}", ""))
        allowed = {*(method.upper() for method in operations), *({"HEAD"} if "get" in operations else ())}
        if path == "/orders/search":
            allowed.add("DELETE")  # an order may be called that
        assert (refused.status_code, set(refused.headers["allow"].split(", "))) == (405, allowed), path


def test_the_root_shows_a_page(client: TestClient) -> None:
    page = client.get("/")
    assert (page.status_code, page.headers["content-type"].partition(";")[0]) == (200, "text/html")
    for link in re.findall(r'href="([^"]+)"', page.text):
        assert client.get(f"/{link}").status_code == 200, link


def test_the_documentation_needs_no_internet(client: TestClient) -> None:
    page = client.get("/docs")
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(loaded) == 3
    for each in loaded:
        assert each.startswith(("/docs/", "data:")), each
        for encoding in ("gzip", "identity"):
            asset = client.get(each, headers={"Accept-Encoding": encoding}) if each.startswith("/") else page
            assert asset.status_code == 200
            assert len(asset.text) > 500
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert client.get("/redoc").status_code == 404


# -- health -----------------------------------------------------------------------------------------------------


def test_health_needs_no_write_lock(url: str, app: Application, client: TestClient, tmp_path: Path) -> None:
    created(client)
    if url.startswith("sqlite"):
        import sqlite3

        other = sqlite3.connect(tmp_path / "twofold.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
    else:
        import psycopg

        other = psycopg.connect(url)  # type: ignore[assignment]
        other.execute("LOCK TABLE twofold_events IN ROW EXCLUSIVE MODE")
    try:
        began = time.monotonic()
        assert client.get("/health").json()["projections"]
        assert time.monotonic() - began < 2
    finally:
        other.rollback()
        other.close()


def test_health_is_red_until_a_worker_says_green(url: str) -> None:
    with TestClient(build_api(build(url, synchronize=False))) as client:
        created(client)
        deadline = time.monotonic() + 60
        while client.get("/health").status_code == 200:
            assert time.monotonic() < deadline, "a read model that nothing keeps is green for ever"


def test_health_names_no_files_and_no_causes(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from orders.schemas import ProjectionHealth

    shown = ProjectionHealth(
        name="x",
        state="faulted",
        position=0,
        head=1,
        behind=1,
        parked=0,
        problems=["stands still: StorageUnavailableError: /srv/orders.db at 10.0.0.7"],
    )
    assert shown.problems == ["stands still"]
    assert "/srv" not in json.dumps(shown.model_dump())


# -- the start --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["postgres"], indirect=True)
async def test_the_banner_shows_no_password(url: str) -> None:
    async with serving(f"{url}&password=tralala") as (server, _):
        server.send_signal(signal.SIGTERM)
        out, err = await asyncio.wait_for(server.communicate(), PATIENCE)
    assert b"password=***" in out
    assert b"tralala" not in out + err
