"""Events as large as they may be go through a keyed projection, in batches that do not outlast a lease."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tests.synchronizing import PATIENCE, running

from twofold import Event, EventStore, Key, Projection, ReadModelSynchronizer, event_type, on
from twofold.engines.engine import Engine

MEGABYTE = 1 << 20


@event_type("Scanned", version=1)
@dataclass(frozen=True, kw_only=True)
class Scanned(Event):
    document: str
    text: str


@dataclass(frozen=True)
class Scan:
    document: Annotated[str, Key()]
    count: int
    text: str


class Scans(Projection[Scan]):
    name = "scans"

    @on(Scanned)
    def scanned(self, row: Scan | None, event: Scanned) -> Scan:
        return Scan(event.document, row.count + 1 if row else 1, event.text)


async def test_events_as_large_as_they_may_be_come_in(engine: Engine, store: EventStore) -> None:
    sizes = [15, 0, 3, 15, 1, 3, 0, 3]
    for size in sizes:
        receipt = await store.append([Scanned(document=f"d{size}", text="x" * (size * MEGABYTE))])
    synchronizer = ReadModelSynchronizer(store, engine.read_database)
    scans = synchronizer.add(Scans())
    async with running(synchronizer):
        await synchronizer.wait(receipt.position, PATIENCE)
        rows = {row.document: (row.count, len(row.text)) for row in (await scans.page()).items}
    assert rows == {f"d{size}": (sizes.count(size), size * MEGABYTE) for size in set(sizes)}
