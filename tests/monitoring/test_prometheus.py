"""A scrape of Prometheus is told all that the dashboard shows, for one look at the databases, by any worker."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import REGISTRY, CollectorRegistry, Gauge
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from tests.dashboard.showing import showing
from tests.docs.pages import ROOT
from tests.synchronizing import PATIENCE

from fastapi import FastAPI
from twofold import Application
from twofold.errors import StorageUnavailableError
from twofold.fastapi import add_metrics
from twofold.monitoring.figures import FIGURES
from twofold.prometheus import metrics, name_of
from twofold.synchronizer.status import ProjectionStatus
from twofold.telemetry import COUNTED, tallies

Values = dict[tuple[str, ...], float]


def samples(text: str) -> list[Sample]:
    return [each for family in text_string_to_metric_families(text) for each in family.samples]


def values(text: str, name: str) -> Values:
    """Return the values of a metric, by those of its labels."""
    return {tuple(each.labels.values()): each.value for each in samples(text) if each.name == name}


@asynccontextmanager
async def scraping(app: Application, **options: Any) -> AsyncIterator[httpx2.AsyncClient]:
    api = FastAPI()
    add_metrics(api, app, **options)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(api), base_url="http://test") as client:
        yield client


async def scrape(app: Application, **options: Any) -> str:
    async with scraping(app, **options) as client:
        answer = await client.get("/metrics")
        assert answer.status_code == 200
        return answer.text


async def test_a_scrape_is_told_what_the_dashboard_shows(url: str) -> None:
    async with showing(url) as (app, _):
        text = await scrape(app)
        found, counted = await app.status.ask(), tallies()
        projections = {(each.name,): each for each in found.projections}
        processes = {(each.name,): each for each in found.processes}
        assert values(text, "twofold_up") == {(): 1}
        assert values(text, "twofold_log_head") == {(): found.head}
        assert values(text, "twofold_projection_parked") == {name: each.parked for name, each in projections.items()}
        assert values(text, "twofold_projection_parked")[("parcels",)] == 1
        assert values(text, "twofold_projection_max_lag_seconds")[("parcels",)] == 60
        assert values(text, "twofold_projection_lag_seconds").keys() == projections.keys()
        held = values(text, "twofold_projection_segments_held")
        assert held[("parcels",)] == values(text, "twofold_projection_segments")[("parcels",)] == 1
        for what in ("problems", "timer_late_seconds", "command_age_seconds", "ignored"):
            assert values(text, f"twofold_process_{what}").keys() == processes.keys()
        assert values(text, "twofold_process_problems")[("enquiry",)] >= 1
        assert values(text, "twofold_process_instances")[("enquiry", "stuck")] == 1
        states = values(text, "twofold_projection_state")
        assert {key for key, value in states.items() if value} == {
            (name, each.state.value) for (name,), each in projections.items()
        }
        assert values(text, "twofold_commands_refused_total")[()] == counted.commands_refused > 0
        assert values(text, "twofold_events_total")[()] == counted.events > 0

        own = [each for each in samples(text) if each.name.startswith("twofold_")]
        assert {label for each in own for label in each.labels} == {"projection", "process", "state"}
        assert len(own) < 400  # none of them for each order, event or customer


async def test_scrapes_at_once_ask_each_read_model_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Application("memory://") as app, scraping(app) as client:
        asked, ask = list[int](), app.projections.status

        async def counted() -> Sequence[ProjectionStatus]:
            asked.append(1)
            return await ask()

        monkeypatch.setattr(app.projections, "status", counted)
        answers = await asyncio.gather(*(client.get("/metrics") for _ in range(5)))
        assert [each.status_code for each in answers] == [200] * 5
        assert asked == [1]


@pytest.mark.parametrize("fault", [StorageUnavailableError("away"), None], ids=["away", "silent"])
async def test_counters_are_told_while_the_databases_do_not_answer(
    fault: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Application("memory://") as app:

        async def fail() -> int:
            if fault is not None:
                raise fault
            await asyncio.sleep(PATIENCE)
            raise AssertionError("the scrape has waited")

        monkeypatch.setattr(app.store, "head", fail)
        text = await scrape(app, max_wait=0.05)
        assert values(text, "twofold_up") == {(): 0}
        assert values(text, "twofold_log_head") == {}
        assert values(text, "twofold_appends_total") == {(): tallies().appends}


async def test_a_scrape_gets_openmetrics_compressed_or_a_part_if_it_asks_for_that() -> None:
    async with Application("memory://") as app, scraping(app) as client:
        wanted = {"Accept": "application/openmetrics-text; version=1.0.0", "Accept-Encoding": "gzip"}
        answer = await client.get("/metrics", headers=wanted)
        assert answer.headers["content-encoding"] == "gzip"
        families = openmetrics_families(answer.text)  # type: ignore[no-untyped-call]
        assert "twofold_up" in {family.name for family in families}
        part = (await client.get("/metrics", params={"name[]": "twofold_log_head"})).text
        assert {each.name for each in samples(part)} == {"twofold_log_head"}


async def test_what_the_program_measures_by_itself_stands_there_too_and_what_opentelemetry_tells_only_once() -> None:
    registry = CollectorRegistry()
    Gauge("shop_open", "Whether the shop is open", registry=registry).set(1)
    Gauge("twofold_up", "As an exporter tells it", registry=registry).set(5)
    async with Application("memory://") as app:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}
        await metrics(app, registry=registry)(scope, receive, send)
        text = sent[1]["body"].decode()
        assert values(text, "shop_open") == {(): 1}
        assert values(text, "twofold_up") == {(): 1}


def test_opentelemetry_has_the_same_names_for_prometheus() -> None:
    reader = PrometheusMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    try:
        meter = provider.get_meter("twofold")
        for figure in FIGURES:
            meter.create_gauge(figure.name, figure.unit).set(1)
        for what in COUNTED:
            meter.create_counter(f"twofold.{what.replace('_', '.')}", "1").add(1)
        names = {each.name for family in REGISTRY.collect() for each in family.samples}
    finally:
        provider.shutdown()
    assert {name_of(each.name, each.unit) for each in FIGURES} <= names
    assert {f"twofold_{what}_total" for what in COUNTED} <= names


SERVED = """
import os
from dataclasses import dataclass

from fastapi import FastAPI

from twofold import Application, Command, Event
from twofold.fastapi import add_metrics

app = Application("sqlite:///shop.db")
api = FastAPI(lifespan=app.lifespan)
add_metrics(api, app)


@dataclass(frozen=True)
class Sold(Event):
    pass


@dataclass(frozen=True)
class Sell(Command[None]):
    pass


async def sell(command: Sell) -> None:
    await app.store.append([Sold()])


app.commands.register(Sell, sell)


@api.post("/")
async def post() -> int:
    await app.commands.dispatch(Sell())
    return os.getpid()
"""


@contextmanager
def workers(folder: Path, **environment: str) -> Iterator[str]:
    """Serve an application by two workers, and yield its address."""
    (folder / "shop.py").write_text(SERVED)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "shop:api", "--port", str(port), "--workers", "2"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}", **environment}
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(PATIENCE)


def test_a_scrape_is_told_what_all_workers_of_a_server_have_counted_also_those_that_were_killed(tmp_path: Path) -> None:
    shared = tmp_path / "counters"
    shared.mkdir()
    with workers(tmp_path, PROMETHEUS_MULTIPROC_DIR=str(shared)) as address:
        deadline, done, asked = time.monotonic() + PATIENCE, 0, set[int]()
        while len(asked) < 2:  # each request has a connection of its own, which the workers take as it comes
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            try:
                asked.add(httpx2.post(address).json())
                done += 1
            except httpx2.TransportError:
                time.sleep(0.05)
        text = httpx2.get(f"{address}/metrics").text
        assert values(text, "twofold_commands_done_total") == {(): done}
        assert values(text, "twofold_log_head") == {(): done}
        os.kill(asked.pop(), signal.SIGKILL)
        text = httpx2.get(f"{address}/metrics").text
        assert values(text, "twofold_commands_done_total") == {(): done}
