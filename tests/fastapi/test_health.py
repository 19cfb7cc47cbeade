"""Probes: a process that runs is live, and ready while its database and its read models can answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient
from tests.accounts import Balance, Balances, Opened
from tests.fastapi.test_consistency import assert_problem
from tests.synchronizing import PATIENCE

from fastapi import FastAPI
from twofold import Application, Reaction, on
from twofold.fastapi import add_health

READY, LIVE = "/health/ready", "/health/live"


class Late(Balances):
    name = "late"
    max_lag = timedelta(milliseconds=200)


class Letters(Reaction):
    name = "letters"
    max_lag = timedelta(milliseconds=1)

    def handles(self) -> tuple[type, ...]:
        return (Opened,)

    async def apply(self, event: Any, /, *_: Any, **recorded: Any) -> None:
        raise ConnectionError("the mail server is away")


class Broken(Balances):
    name = "broken"

    @on(Opened)
    def opened(self, event: Opened) -> Balance:
        raise ArithmeticError("unlucky")


@contextmanager
def serving(url: str, *added: Any, synchronize: bool = True) -> Iterator[TestClient]:
    app = Application(url, synchronize=synchronize)
    for each in added:
        app.projections.add(each)
    api = FastAPI(lifespan=app.lifespan)
    add_health(api, app)

    @api.post("/")
    async def open_account() -> None:
        await app.store.append_events("Account-a", "Account", [Opened(account="a", owner="ann")], expected_version=0)

    @api.get("/problems")
    async def problems() -> dict[str, list[str]]:
        return {each.name: list(each.problems) for each in await app.projections.status()}

    with TestClient(api) as client:
        yield client


def wait_for(client: TestClient, path: str, status: int) -> Any:
    deadline = time.monotonic() + PATIENCE
    while (answer := client.get(path)).status_code != status:
        assert time.monotonic() < deadline, answer.text
    return answer


def test_a_server_is_ready_again_once_a_worker_has_brought_its_late_read_model_up(url: str) -> None:
    with serving(url, Late(), synchronize=False) as client:
        client.post("/")
        refused = wait_for(client, READY, 503)
        while not refused.json().get("errors"):
            refused = client.get(READY)
        assert_problem(refused, 503, *["late"] * len(refused.json()["errors"]))
        assert refused.headers["retry-after"] == "1"
        assert client.get(LIVE).json() == {"status": "live"}
        with serving(url, Late()):
            assert wait_for(client, READY, 200).json() == {"status": "ready"}


def test_a_reaction_that_is_late_and_a_parked_event_take_no_server_away(url: str) -> None:
    with serving(url, Letters(), Broken()) as client:
        client.post("/")
        deadline = time.monotonic() + PATIENCE
        while not ("s late" in (said := client.get("/problems").text) and "events are parked" in said):
            assert time.monotonic() < deadline, said
        assert client.get(READY).status_code == 200


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_the_probes_stand_below_the_path_that_was_given(url: str) -> None:
    app = Application(url)
    api = FastAPI(lifespan=app.lifespan)
    add_health(api, app, path="/up")
    with TestClient(api) as client:
        assert [client.get(f"/up/{each}").status_code for each in ("live", "ready")] == [200, 200]
        assert client.get(LIVE).status_code == 404


async def test_a_database_that_is_silent_is_told_in_the_time_that_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Application("memory://") as app:
        api, is_back = FastAPI(), asyncio.Event()

        async def silent() -> int:
            await is_back.wait()
            return 0

        monkeypatch.setattr(app.store, "head", silent)
        add_health(api, app, max_wait=0.01)
        async with (
            httpx2.AsyncClient(transport=httpx2.ASGITransport(api), base_url="http://test") as client,
            asyncio.timeout(5),
        ):
            refused = await client.get(READY)
            assert refused.status_code == 503
            assert refused.json()["detail"] == "a database does not answer"
            is_back.set()
            while (await client.get(READY)).status_code != 200:  # the same look goes on
                pass
