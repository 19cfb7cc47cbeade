"""The tests of the same name hold on DuckDB, too."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from tests.unit.test_read_model import *  # noqa: F403
from tests.unit.test_read_model import ROWS, View, Views

from twofold import ReadModel
from twofold.engines import Engine
from twofold.generations import Place, prepare
from twofold.keyed_projector import KeyedProjector
from twofold.read_database import Changes
from twofold.segments import Segment, Step


@pytest_asyncio.fixture  # type: ignore[no-redef]
async def views(engine: Engine) -> AsyncIterator[ReadModel[View]]:
    database, rows = engine.read_database, Views().row_type()
    projector = KeyedProjector(database, Views(), 1)
    await prepare(database, projector)
    changes = Changes([rows.dump(row) for row in ROWS])
    await database.commit(projector.table("__1"), changes, Step(Segment("views", 1), 0, 0, 1))
    yield ReadModel(database, Views(), Place(database, projector))
