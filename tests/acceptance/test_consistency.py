"""A client that creates and reads at once, through two web processes while a third process keeps the read models."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import uuid4

import httpx2
import pytest
import pytest_asyncio
from tests.acceptance.servers import PATIENCE, serving, synchronizing
from tests.acceptance.test_http import assert_problem, body
from tests.postgres_servers import PostgresServer

TOKEN = "Consistency-Token"
CLIENTS = 4
PATIENT = {"Prefer": "wait=30"}


@asynccontextmanager
async def shops(url: str, count: int, **environment: str) -> AsyncIterator[list[httpx2.AsyncClient]]:
    """Run web processes that leave the read models to another process."""
    async with AsyncExitStack() as stack:
        clients = []
        for _ in range(count):
            _, address = await stack.enter_async_context(serving(url, SYNCHRONIZE="0", **environment))
            clients.append(await stack.enter_async_context(httpx2.AsyncClient(base_url=address, timeout=PATIENCE)))
        yield clients


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def two_shops(shared_url: str) -> AsyncIterator[list[httpx2.AsyncClient]]:
    """Return clients of two web processes on one database, for all tests that leave them running."""
    async with shops(shared_url, 2) as clients:
        yield clients


async def missed(writer: httpx2.AsyncClient, reader: httpx2.AsyncClient, tries: int, *, with_token: bool) -> int:
    """Create orders at one process and read each at once at another; return how often it was not there.

    Each is looked for in a customer's list, and at its own address: there the server looks twice before it
    says 404, so that a client whose token is lost is noticed by the list.
    """
    misses = 0
    for _ in range(tries):
        customer = uuid4().hex
        created = await writer.post("/orders", json=body(customer=customer))
        headers = PATIENT | {TOKEN: created.headers[TOKEN]} if with_token else {}
        reader.cookies.clear()
        listed = await reader.get(f"/customers/{customer}/orders", headers=headers)
        found = await reader.get(created.headers["location"], headers=headers)
        assert found.status_code in (200, 404), found.text
        misses += listed.json()["total"] == 0 or found.status_code == 404
    return misses


@pytest.mark.asyncio(loop_scope="module")
async def test_an_order_is_never_missing_for_the_client_that_created_it(
    shared_url: str, two_shops: list[httpx2.AsyncClient]
) -> None:
    await campaign(shared_url, two_shops, tries=120)


@pytest.mark.soak
@pytest.mark.asyncio(loop_scope="module")
async def test_an_order_is_never_missing_in_ten_thousand_tries(
    shared_url: str, two_shops: list[httpx2.AsyncClient]
) -> None:
    await campaign(shared_url, two_shops, tries=10_000)


async def campaign(url: str, two_shops: list[httpx2.AsyncClient], tries: int) -> None:
    one, other = two_shops
    async with synchronizing(url):
        pairs = [(one, other), (other, one)] * (CLIENTS // 2)
        share = tries // CLIENTS
        assert await asyncio.gather(*(missed(*pair, share, with_token=True) for pair in pairs)) == [0] * CLIENTS


async def test_an_order_is_never_missing_if_a_replica_answers(
    own_server: Callable[..., PostgresServer], new_standby: Callable[[PostgresServer], PostgresServer]
) -> None:
    primary = own_server()
    standby, url = new_standby(primary), primary.url("postgres")
    async with shops(url, 2, REPLICA_URL=standby.url("postgres")) as (one, other), synchronizing(url):
        assert await missed(one, other, 100, with_token=True) == 0
        standby.execute("SELECT pg_wal_replay_pause()")
        assert await missed(one, other, 1, with_token=False), "it was not the replica that answered"
        standby.execute("SELECT pg_wal_replay_resume()")


@pytest.mark.asyncio(loop_scope="module")
async def test_the_campaign_notices_a_client_whose_token_is_lost(
    shared_url: str, two_shops: list[httpx2.AsyncClient]
) -> None:
    one, other = two_shops
    async with synchronizing(shared_url):
        misses = 0
        for _ in range(20):  # one miss is enough, and chance decides when it comes
            misses = misses or await missed(one, other, 10, with_token=False)
        assert misses


@pytest.mark.asyncio(loop_scope="module")
async def test_a_synchronizer_that_is_killed_and_started_again_is_waited_for(
    shared_url: str, two_shops: list[httpx2.AsyncClient]
) -> None:
    one, other = two_shops
    async with synchronizing(shared_url) as process:
        customer = uuid4().hex
        token = (await one.post("/orders", json=body(customer=customer))).headers[TOKEN]
        found = await other.get(f"/customers/{customer}/orders", headers=PATIENT | {TOKEN: token})
        assert found.json()["total"] == 1
        process.kill()
        await process.wait()
    created = await one.post("/orders", json=body())
    headers = PATIENT | {TOKEN: created.headers[TOKEN]}
    assert_problem(await other.get(created.headers["location"], headers=headers | {"Prefer": "wait=0"}), 503)
    asking = asyncio.create_task(other.get(created.headers["location"], headers=headers))
    async with synchronizing(shared_url):
        assert (await asking).status_code == 200


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_a_server_that_is_told_to_end_ends_its_watched_answers(url: str) -> None:
    async with serving(url) as (server, address), httpx2.AsyncClient(base_url=address, timeout=PATIENCE) as client:
        created = await client.post("/orders", json=body())
        async with client.stream("GET", f"{created.headers['location']}/live") as stream:
            seen = []
            async for line in stream.aiter_lines():
                seen.append(line)
                if line.startswith("data:"):
                    server.send_signal(signal.SIGTERM)
            assert any('"status":"open"' in line for line in seen)
        await asyncio.wait_for(server.wait(), PATIENCE)
        assert server.returncode in (0, -signal.SIGTERM)
