"""At rest, as many read models as there are ask the databases as little as one does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.accounts import Balances
from tests.recording_log import RecordingLog
from tests.synchronizing import PATIENCE, opened, quick, running, until, write

from twofold import EventStore, ReadModelSynchronizer
from twofold.engines.engine import Engine
from twofold.ports.checkpoints import SQL

READ_MODELS = 20
ROUNDS = 4


@pytest.fixture
def asked(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return where the statements are noted that the transactions of leases run."""
    statements: list[str] = []
    transaction = type(engine.read_database).transaction

    def watched(self: Any, *arguments: Any, **options: Any) -> Any:
        return Watched(transaction(self, *arguments, **options), statements)

    monkeypatch.setattr(type(engine.read_database), "transaction", watched)
    return statements


class Watched:
    """A transaction that notes what it runs."""

    def __init__(self, behind: Any, statements: list[str]) -> None:
        self._behind, self._statements = behind, statements

    async def __aenter__(self) -> Any:
        transaction = await self._behind.__aenter__()
        run = transaction.run

        async def noted(sql: str, **values: Any) -> Any:
            self._statements.append(sql)
            return await run(sql, **values)

        transaction.run = noted
        return transaction

    async def __aexit__(self, *error: Any) -> Any:
        return await self._behind.__aexit__(*error)


async def test_segments_at_rest_look_at_the_log_together(engine: Engine) -> None:
    log = RecordingLog(engine.log)
    store = EventStore(log)
    runner = ReadModelSynchronizer(store, engine.read_database, options=quick(lease=1.5))
    for number in range(READ_MODELS):
        runner.add(named(number))
    async with running(runner):
        await runner.wait(await write(store, opened("a")), PATIENCE)
        log.calls.clear()
        await log.asked("compare", 1)
        await asyncio.sleep(1.0)
        assert log.calls["compare"] + log.calls["head"] <= READ_MODELS  # two for all, else two for each
    assert runner.faults == {}


async def test_a_worker_renews_all_its_leases_in_one_statement(engine: Engine, asked: list[str]) -> None:
    runner = ReadModelSynchronizer(EventStore(engine.log), engine.read_database, options=quick(lease=0.9))
    for number in range(READ_MODELS):
        runner.add(named(number))

    async def renewed_together() -> bool:
        return asked.count(SQL["renew_all"]) >= ROUNDS

    async with running(runner):
        await until(renewed_together)
        assert {each.worker for status in await runner.status() for each in status.segments} != {""}
    assert asked.count(SQL["renew"]) < ROUNDS * READ_MODELS / 2


def named(number: int) -> Balances:
    projection = Balances()
    projection.name = f"balances_{number}"  # type: ignore[misc]
    return projection
