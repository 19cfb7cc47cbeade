"""The status that probes and pages share: one look at the databases for all who ask at the same time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from twofold import Application, EventStore
from twofold.inspection.status import SharedStatus


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_a_look_goes_on_for_the_others_when_one_who_asked_gives_up(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, asked, answers = Application(url), asyncio.Event(), asyncio.Event()
    head = EventStore.head

    async def slow_head(store: EventStore) -> Any:
        asked.set()
        await answers.wait()
        return await head(store)

    async with app:
        monkeypatch.setattr(EventStore, "head", slow_head)
        shared = SharedStatus(app.store, app.projections, app.processes)
        impatient, patient = (asyncio.create_task(shared.ask()) for _ in range(2))
        await asked.wait()
        impatient.cancel()
        await asyncio.wait([impatient])
        late = asyncio.create_task(shared.ask())
        await asyncio.sleep(0)
        answers.set()
        assert await patient is await late is await shared.ask()
