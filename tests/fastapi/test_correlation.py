"""A request, its answer, what follows from it and the server's own records have one correlation id."""

from __future__ import annotations

import json
import logging
import logging.config
from collections.abc import AsyncIterator, Iterator, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from starlette.types import Receive, Scope, Send
from tests.dashboard.serving import served
from tests.flows.test_log_records import Sell, shop
from tests.synchronizing import PATIENCE, until

from fastapi import FastAPI
from twofold import Application, metadata
from twofold.fastapi import add_correlation, add_problem_details
from twofold.fastapi.correlation import Correlation

HEADER = "X-Correlation-Id"
LOGGERS = ("shop", "uvicorn.access", "uvicorn.error")


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Path]:
    """Let the loggers of the application and of the server write JSON into one file, and yield that."""
    file = tmp_path / "log"
    before = {name: (logging.getLogger(name).level, logging.getLogger(name).propagate) for name in LOGGERS}
    logger = {"handlers": ["file"], "level": "INFO", "propagate": False}
    logging.config.dictConfig({
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"correlation": {"()": "twofold.telemetry.CorrelationFilter"}},
        "formatters": {"json": {
            "()": "pythonjsonlogger.json.JsonFormatter", "fmt": "%(name)s %(message)s %(correlation_id)s %(user)s",
        }},
        "handlers": {"file": {
            "class": "logging.FileHandler", "filename": file, "filters": ["correlation"], "formatter": "json",
        }},
        "loggers": dict.fromkeys(LOGGERS, logger),
    })  # fmt: skip
    yield file
    for name, (level, propagate) in before.items():
        each = logging.getLogger(name)
        for handler in tuple(each.handlers):
            each.removeHandler(handler)
            handler.close()
        each.setLevel(level)
        each.propagate = propagate


def told(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@asynccontextmanager
async def served_shop() -> AsyncIterator[tuple[Application, httpx2.AsyncClient]]:
    app, api = shop("memory://"), FastAPI()
    add_problem_details(api)
    add_correlation(api)

    @api.post("/sales/{what}")
    async def post(what: str) -> None:
        if what == "air":
            raise ZeroDivisionError(what)
        with metadata(user="ann"):
            await app.commands.dispatch(Sell(what=what))

    options = {"log_config": None, "log_level": None}  # as the fixture has configured it
    async with app, served(api, **options) as address, httpx2.AsyncClient(base_url=address) as client:
        yield app, client


async def test_all_records_of_a_request_have_the_id_that_its_client_sent(records: Path) -> None:
    given = uuid4()
    async with served_shop() as (app, client):
        answer = await client.post("/sales/tea", headers={HEADER: str(given)})
        assert answer.headers[HEADER] == str(given)

        async def is_labelled() -> bool:
            return "label for tea" in records.read_text()

        await until(is_labelled, PATIENCE)
        [sold] = [each async for each in app.store.read()]
        assert sold.metadata.correlation_id == given
    of_it = {
        (each["name"], each["message"].partition(" - ")[2] or each["message"], each["user"])
        for each in told(records)
        if each["correlation_id"] == str(given)
    }
    assert of_it == {
        ("shop", "sell tea", "ann"),
        ("shop", "label for tea", "ann"),
        ("uvicorn.access", '"POST /sales/tea HTTP/1.1" 200', ""),
    }


async def test_the_servers_record_of_an_error_names_the_request(records: Path) -> None:
    given = uuid4()
    async with served_shop() as (_, client):
        assert (await client.post("/sales/air", headers={HEADER: str(given)})).status_code == 500
        assert (await client.post("/sales/tea")).status_code == 200
    [failed] = [each for each in told(records) if "ZeroDivisionError" in each.get("exc_info", "")]
    assert failed["correlation_id"] == str(given)
    [sold] = [each for each in told(records) if each["message"] == "sell tea"]
    assert sold["correlation_id"] != str(given)  # although the connection may be the same


async def test_an_answer_without_headers_gets_the_id() -> None:
    sent: list[MutableMapping[str, Any]] = []

    async def bare(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204})  # ASGI lets the headers be left out

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.disconnect"}

    await Correlation(bare)({"type": "http", "headers": []}, receive, send)
    assert [name for name, _ in sent[0]["headers"]] == [HEADER.lower().encode()]


@pytest.mark.parametrize("given", [None, "", "no id", "4f7a3a52"])
async def test_a_request_without_an_id_gets_one(given: str | None) -> None:
    async with served_shop() as (app, client):
        headers = {} if given is None else {HEADER: given}
        answers = [await client.post("/sales/tea", headers=headers) for _ in range(2)]
        ids = [UUID(each.headers[HEADER]) for each in answers]
        assert ids[0] != ids[1]
        assert [each.metadata.correlation_id async for each in app.store.read()] == ids


@pytest.mark.parametrize("header", ["X Correlation", "X-Ünique", "X-Id:", "X-Id\n", "日本"])
def test_what_can_be_the_name_of_no_header_is_refused_before_a_request_comes(header: str) -> None:
    with pytest.raises(ValueError, match=r"such as 'X-Correlation-Id', got"):
        add_correlation(FastAPI(), header=header)
