"""A key that no row can have is the key of no row, on each engine alike."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

import pytest
from tests.synchronizing import running, write

from twofold import Event, EventStore, Key, Projection, ReadModelSynchronizer, on
from twofold.engines.engine import Engine


@dataclass(frozen=True, kw_only=True)
class Placed(Event):
    text: str
    number: int
    id: UUID
    day: dt.date


@dataclass(frozen=True, kw_only=True)
class Place:
    text: Annotated[str, Key()]
    number: Annotated[int, Key()]
    id: Annotated[UUID, Key()]
    day: Annotated[dt.date, Key()]


class Places(Projection[Place]):
    name = "places"
    version = 1

    @on(Placed)
    def placed(self, event: Placed) -> Place:
        return Place(**{name: getattr(event, name) for name in Place.__dataclass_fields__})


GOOD = ("a", 1, UUID(int=1), dt.date(2024, 2, 29))
PLACED = Placed(**dict(zip(Place.__dataclass_fields__, GOOD, strict=True)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, "a\0b"), (0, "\ud800"), (0, "b" * 100_000),
        (1, 2**63), (1, -(2**70)),
        (2, UUID(int=2)),
        (3, dt.date(1, 1, 1)), (3, dt.date(9999, 12, 31)),
    ],
)  # fmt: skip
async def test_a_key_that_no_row_can_have_is_the_key_of_no_row(engine: Engine, place: int, value: object) -> None:
    store = EventStore(engine.log)
    synchronizer = ReadModelSynchronizer(store, engine.read_database)
    places = synchronizer.add(Places())
    async with running(synchronizer):
        await synchronizer.wait(await write(store, PLACED), 30)
        assert await places.get(*GOOD) == Place(**dict(zip(Place.__dataclass_fields__, GOOD, strict=True)))  # type: ignore[arg-type]
        impossible = (*GOOD[:place], value, *GOOD[place + 1 :])
        assert await places.get(*impossible) is None
        table = places._table._replace(name=(await engine.read_database.query("SELECT 'places'"))[0][0])
        rows = await engine.read_database.load(table, [places._rows.dump_key(GOOD), places._rows.dump_key(impossible)])
        assert len(rows) == 1
    await synchronizer.close()
