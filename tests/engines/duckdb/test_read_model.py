"""The tests of the same name hold on DuckDB, too."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from tests.queries.test_read_model import *  # noqa: F403
from tests.queries.test_read_model import ROWS, View, Views

from twofold import ReadModel
from twofold.engines.engine import Engine
from twofold.ports.read_database import Changes
from twofold.ports.segments import Segment, Step
from twofold.projections.keyed_runner import KeyedRunner
from twofold.projections.kinds import ASYNCHRONOUS
from twofold.queries.serving import ServingGeneration
from twofold.synchronizer.generations import prepare


@pytest_asyncio.fixture  # type: ignore[no-redef]
async def views(engine: Engine) -> AsyncIterator[ReadModel[View]]:
    database, rows = engine.read_database, Views().row_type()
    runner = KeyedRunner(database, Views(), 1, ASYNCHRONOUS)
    await prepare(database, runner)
    changes = Changes([rows.dump(row) for row in ROWS])
    await database.commit(runner.table("__1"), changes, Step(Segment("views", 1), 0, 0, 1))
    serving = await ServingGeneration(database, runner).find()
    yield ReadModel(database, Views(), generation=serving.generation)
