"""OpenTelemetry's gauges tell where everything stands, by looks of which none goes on when no metrics are collected."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.dashboard.showing import showing
from tests.observing import Collector, collected
from tests.synchronizing import PATIENCE, until

from twofold import Application
from twofold.errors import StorageUnavailableError
from twofold.monitoring.figures import FIGURES
from twofold.options import MonitoringOptions, Options

OFTEN = Options(monitoring=MonitoringOptions(look_every=0.02))


def values(collector: Collector, name: str) -> dict[tuple[Any, ...], float]:
    return {tuple(each.attributes.values()): each.value for each in collector.metrics().get(name, [])}


async def until_told(collector: Collector, name: str, expected: dict[tuple[Any, ...], float]) -> None:
    async def is_told() -> bool:
        return values(collector, name) == expected

    await until(is_told, PATIENCE)


async def test_the_gauges_tell_what_the_status_does() -> None:
    with collected() as collector:
        async with showing("memory://") as (app, _):
            found = await app.status.ask()
            measured = collector.metrics()
            assert {each.name for each in FIGURES} - {"twofold.projection.building.position"} <= {
                *measured, "twofold.projection.building.unattended",
            }  # fmt: skip
            names = {(each.name,) for each in found.projections}
            assert set(values(collector, "twofold.projection.lag")) == names
            [point] = [
                each
                for each in measured["twofold.process.instances"]
                if each.attributes == {"twofold.process": "enquiry", "twofold.state": "stuck"}
            ]
            assert point.value in (0, 1)  # as of the last look


async def test_a_look_that_fails_leaves_only_that_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    with collected() as collector:
        async with Application("memory://", options=OFTEN) as app:
            await until_told(collector, "twofold.up", {(): 1})
            await until_told(collector, "twofold.log.head", {(): 0})

            async def away() -> int:
                raise StorageUnavailableError("away")

            with monkeypatch.context() as patched:
                patched.setattr(app.store, "head", away)
                app.status._last = None
                await until_told(collector, "twofold.up", {(): 0})
                assert values(collector, "twofold.log.head") == {}
                assert "twofold.appends" in collector.metrics()
            await until_told(collector, "twofold.up", {(): 1})
        assert values(collector, "twofold.up") == {}


async def test_without_a_provider_there_is_no_look() -> None:
    async with Application("memory://", options=OFTEN) as app:
        assert "twofold-metrics" not in {each.get_name() for each in asyncio.all_tasks()}
        assert app.status._last is None
