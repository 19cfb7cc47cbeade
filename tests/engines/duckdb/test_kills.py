"""Killed at any point and started again, a read model on DuckDB shows each event once."""

from __future__ import annotations

import random
from decimal import Decimal
from pathlib import Path

from tests.accounts import Balances
from tests.child_processes import CONTEXT
from tests.engines.duckdb.killed import LEASE, opened_in, work_until_killed
from tests.synchronizing import PATIENCE, deposited, opened, write

from twofold import ReadModelSynchronizer
from twofold.options import SynchronizerOptions

KILLS, EVENTS = 4, 400


async def survives(folder: Path, *, planted: bool) -> bool:
    """Return whether the balances are right after a process was killed several times."""
    chance = random.Random(7)
    async with opened_in(folder) as (store, _):
        await write(store, opened("a"), opened("b"), *(deposited(chance.choice("ab")) for _ in range(EVENTS)))
    for _ in range(KILLS):
        ours, theirs = CONTEXT.Pipe()
        child = CONTEXT.Process(target=work_until_killed, args=(str(folder), theirs, planted))
        child.start()
        theirs.close()
        for _ in range(chance.randint(1, 8)):
            assert ours.poll(PATIENCE), "the process does not get on"
            ours.recv()
        child.kill()
        child.join()
    async with opened_in(folder) as (store, database):
        balances = ReadModelSynchronizer(store, database, [Balances()], options=SynchronizerOptions(lease=LEASE))
        model = balances.add(Other())
        await balances.run_once(PATIENCE)
        [killed] = await database.sql("SELECT sum(amount) AS amount, sum(changes) AS changes FROM balances")
        assert sum([row.amount for row in (await model.page()).items]) == EVENTS
        return (killed["amount"], killed["changes"]) == (Decimal(EVENTS), EVENTS)


class Other(Balances):
    """The same, of a process that was never killed."""

    name = "other"


async def test_a_read_model_survives_kills(tmp_path: Path) -> None:
    assert await survives(tmp_path, planted=False)


async def test_a_checkpoint_in_a_second_transaction_is_found_out(tmp_path: Path) -> None:
    assert not await survives(tmp_path, planted=True)
