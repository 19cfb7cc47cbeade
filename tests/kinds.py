"""What tests of the kinds of projections have in common: the same accounts, asked in each way and folded in memory."""

from __future__ import annotations

from typing import Any

from tests.accounts import Balances

from twofold import EventStore, Projection, ReadModel
from twofold.engines.engine import Engine
from twofold.ports.checkpoints import Checkpoint, checkpoints_of, generations_of
from twofold.projections.folding import fold
from twofold.projections.keys.keyed_event import keyed


async def rows(model: ReadModel[Any]) -> dict[Any, Any]:
    """Return all rows by account."""
    return {row.account: row for row in (await model.page(page_size=1000)).items}


async def fresh(store: EventStore, projection: Projection[Any] | None = None) -> dict[Any, Any]:
    """Return a fold of the log in memory, by account."""
    projection = projection or Balances()
    store.events.register(*projection.handles())
    events = [each async for each in store.read() if type(each.event) in projection.handles()]
    folded = fold(projection, {}, keyed(projection, events)).rows
    return {key[0]: row for key, row in folded.items() if row is not None}


async def checkpoints(engine: Engine, name: str = "balances") -> list[Checkpoint]:
    """Return the segments of the generation that serves."""
    async with engine.read_database.transaction() as transaction:
        [live] = [each for each in await generations_of(transaction, name) if each.role == "serving"]
        return await checkpoints_of(transaction, live)
