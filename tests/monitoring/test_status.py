"""All who ask where an application stands share one look, which asks each read model once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from tests.dashboard.showing import showing

from twofold.monitoring.status import SharedStatus
from twofold.synchronizer.status import ProjectionStatus


async def test_one_look_asks_each_read_model_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with showing("memory://") as (app, _):
        asked, ask = list[int](), app.projections.status

        async def counted() -> Sequence[ProjectionStatus]:
            asked.append(1)
            return await ask()

        monkeypatch.setattr(app.projections, "status", counted)
        shared = SharedStatus(app.store, app.projections, app.processes, age=60)
        found = await asyncio.gather(*(shared.ask() for _ in range(5)))
        assert asked == [1]
        assert all(each is found[0] for each in found)
        expected = {each.name: each.problems for each in await app.processes.status()}
        assert {each.name: each.problems for each in found[0].processes} == expected
