"""A process that publishes the events of a log to a broker, to be killed at any moment: `url port planted`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

from tests.accounts import Deposited
from tests.campaigns.broker.nats import Connection
from tests.synchronizing import engine_at, quick

from twofold import BatchReaction, ReadModelSynchronizer, RecordedEvent
from twofold.projections.batch_reaction_runner import BatchReactionRunner


class Published(BatchReaction):
    """Publishes each event under its account, with its id as the message's."""

    name = "published"
    batch_size = 20

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection: Connection | None = None

    def handles(self) -> tuple[type, ...]:
        return (Deposited,)

    def key(self, event: Any) -> str:
        return str(event.account)

    async def apply(self, events: Sequence[RecordedEvent[Deposited]]) -> None:
        try:
            if self._connection is None:
                self._connection = Connection(*await asyncio.open_connection("127.0.0.1", self._port))
            await self._connection.publish(
                [(f"accounts.{each.event.account}", str(each.event_id), str(each.position)) for each in events]
            )
        except ConnectionError:
            self._connection = None
            raise


def plant_step_before_the_work() -> None:
    """Move the checkpoint before the events are published."""
    apply, step = BatchReactionRunner._apply, BatchReactionRunner._step

    async def step_first(self: BatchReactionRunner, batch: Any) -> BaseException | None:
        await step(self, batch)
        await asyncio.sleep(0.02)
        return await apply(self, batch._replace(step=batch.step._replace(before=batch.step.after)))

    async def no_step(self: BatchReactionRunner, batch: Any, failures: Any = ()) -> None:
        return None

    BatchReactionRunner._apply, BatchReactionRunner._step = step_first, no_step  # type: ignore[method-assign]


async def main(url: str, port: int) -> None:
    async with engine_at(url) as (engine, store):
        synchronizer = ReadModelSynchronizer(
            store, engine.read_database, [Published(port)], options=quick(0.01, lease=0.5)
        )
        await synchronizer.run()


if __name__ == "__main__":
    if sys.argv[3:]:
        plant_step_before_the_work()
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
