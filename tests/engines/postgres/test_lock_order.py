"""Who changes several segments of a read model locks them in their order: else two could wait for each other."""

from __future__ import annotations

import asyncio

import psycopg
import pytest
from tests.engines.postgres.test_outcomes import backend_that_waits

from twofold.engines.engine import connect
from twofold.ports.checkpoints import SQL
from twofold.ports.read_database import ReadDatabase

VALUES = {"name": "views", "generation": 1, "position": 0, "event_id": "", "owner": "worker", "lease": 1_000_000}
INSERT = """
INSERT INTO twofold_checkpoints (name, generation, first_slot, end_slot, position, owner)
VALUES ('views', 1, %s, %s, 7, 'worker')
"""
STEP = "UPDATE twofold_checkpoints SET position = 8 WHERE first_slot = %s"
READ = "SELECT position, epoch > 0 OR leased_until > 0 OR owner = '' FROM twofold_checkpoints"


async def run(database: ReadDatabase, statement: str) -> None:
    async with database.transaction() as transaction:
        await transaction.run(SQL[statement], **VALUES)


@pytest.mark.parametrize("statement", ["fence", "set_position", "seize", "renew_all", "give_back_all"])
async def test_who_changes_all_segments_waits_for_the_first_before_locking_the_second(url: str, statement: str) -> None:
    """Fails with a deadlock if they are locked as they lie in the table, which is the other way round here."""
    database = connect(url).read_database
    await database.open()
    async with await psycopg.AsyncConnection.connect(url) as appending:
        for first in (128, 0):
            await appending.execute(INSERT, [first, first + 128])
        await appending.execute("ANALYZE twofold_checkpoints")  # it is known to be small now: no index is used
        await appending.commit()
        await appending.execute(STEP, [0])
        changing = asyncio.create_task(run(database, statement))
        await backend_that_waits(url)
        await appending.execute(STEP, [128])
        await appending.commit()
        await changing
        rows = await (await appending.execute(READ)).fetchall()
        assert rows == [(0 if statement == "set_position" else 8, True)] * 2
    await database.close()
