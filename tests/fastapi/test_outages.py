"""With the database away, every request is answered with 503, within its own wait and five seconds at most."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
from tests.fastapi.test_consistency import TOKEN, assert_problem, build, listening
from tests.postgres_servers import PostgresServer

REQUESTS: list[tuple[str, str, dict[str, str]]] = [
    ("GET", "/accounts/a", {}),
    ("HEAD", "/accounts/a", {}),
    ("GET", "/live/a", {}),
    ("GET", "/health/ready", {}),
    ("POST", "/accounts/b", {}),
    ("POST", "/accounts/a/deposits", {}),
    ("GET", "/accounts/a", {"Prefer": "wait=1"}),
    ("GET", "/accounts/a", {"Prefer": "wait=30"}),
]


WAIT_ONE, WAIT_AT_MOST = 4.0, 10.0
"""Seconds in which a request is answered that waits for one, or for five, on a machine that is busy; without a bound of
its own the first one takes five, and the others half a minute or more."""


async def all_at_once(client: httpx2.AsyncClient, token: str) -> list[tuple[float, Any]]:
    async def one(method: str, path: str, headers: dict[str, str]) -> tuple[float, Any]:
        began = time.monotonic()
        try:
            answer = await client.request(method, path, headers=headers)
        except httpx2.TimeoutException as error:
            raise AssertionError(f"{method} {path} {headers} is not answered") from error
        return time.monotonic() - began, answer

    requests = [*REQUESTS, ("GET", "/accounts/a", {TOKEN: token})]
    return await asyncio.gather(*(one(*request) for request in requests))


@contextmanager
def gone(server: PostgresServer) -> Iterator[None]:
    server.stop()
    yield
    server.start()


@contextmanager
def frozen(server: PostgresServer) -> Iterator[None]:
    processes = server.processes
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)


def assert_all_are_503(answers: list[tuple[float, Any]]) -> None:
    for seconds, answer in answers:
        what = f"{answer.request.method} {answer.request.url} {answer.request.headers}: {seconds:.1f} s"
        assert answer.status_code == 503, what
        assert answer.headers["retry-after"] == "1", what
        assert seconds < (WAIT_ONE if answer.request.headers.get("prefer") == "wait=1" else WAIT_AT_MOST), what
        if answer.request.method != "HEAD":
            assert_problem(answer, 503)


@pytest.mark.parametrize("how", ["gone", "frozen"])
async def test_while_postgresql_is_away_every_request_is_503_in_time(
    own_server: Callable[..., PostgresServer], how: str
) -> None:
    server = own_server()
    with server.database() as url:
        async with listening(build(url)) as client:
            token = (await client.post("/accounts/a")).headers[TOKEN]
            assert (await client.get("/accounts/a", headers={TOKEN: token})).status_code == 200
            with gone(server) if how == "gone" else frozen(server):
                assert_all_are_503(await all_at_once(client, token))
                assert (await client.get("/health/live")).status_code == 200
            async with asyncio.timeout(60):
                while (await client.get("/accounts/a", headers={TOKEN: token})).status_code != 200:
                    pass
                while (await client.get("/health/ready")).status_code != 200:
                    pass
