"""Very many projections in one process share its connections, keep up, and end cleanly."""

from __future__ import annotations

from tests.accounts import Balances
from tests.synchronizing import PATIENCE, deposited, opened, running, write

from twofold import EventStore, ReadModelSynchronizer
from twofold.engines.engine import Engine

MANY = 40
MOST_CONNECTIONS = 8 + 3
"""Those of the pool, one for appends, one to listen to them and one to listen to steps."""


async def test_forty_projections_share_the_connections_of_one_process(
    engine: Engine, store: EventStore, url: str
) -> None:
    synchronizer = ReadModelSynchronizer(store, engine.read_database)
    models = [
        synchronizer.add(type(f"Balances{number}", (Balances,), {"name": f"balances_{number}"})())
        for number in range(MANY)
    ]
    async with running(synchronizer):
        await synchronizer.wait(await write(store, opened("a"), *(deposited("a") for _ in range(500))), PATIENCE)
        for model in models:
            assert getattr(await model.get("a"), "amount", None) == 500
        assert [problem for status in await synchronizer.status() for problem in status.problems] == []
        if url.startswith("postgres"):
            [(connections,)] = await engine.read_database.query(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = :kind",
                kind="client backend",
            )
            assert connections <= MOST_CONNECTIONS
    held = await engine.read_database.query("SELECT name FROM twofold_checkpoints WHERE owner <> ''")
    assert held == []
