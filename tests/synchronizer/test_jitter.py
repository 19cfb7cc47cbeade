"""An application that has seeded `random` gets the numbers that follow: Twofold takes none of them."""

from __future__ import annotations

import random

from tests.accounts import Balances
from tests.synchronizing import PATIENCE, deposited, opened, running, write

from twofold import EventStore, ReadModelSynchronizer
from twofold.engines.engine import Engine


async def test_appends_and_projections_leave_the_random_module_alone(engine: Engine, store: EventStore) -> None:
    random.seed(7)
    before = random.getstate()
    synchronizer = ReadModelSynchronizer(store, engine.read_database, [Balances()])
    async with running(synchronizer):
        await synchronizer.wait(await write(store, opened("a"), deposited("a")), PATIENCE)
        await synchronizer.rebuild_projection("balances")
        await synchronizer.wait(await write(store, deposited("a")), PATIENCE)
    assert random.getstate() == before
