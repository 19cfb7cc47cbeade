"""Processes of the test of snapshots: an owner that writes all the while, and readers of what it leaves."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from decimal import Decimal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated

from tests.synchronizing import running

from twofold import Event, EventStore, Key, Projection, ReadModel, ReadModelSynchronizer, on
from twofold.engines.duckdb import DuckDbReadDatabase, ParquetSnapshots
from twofold.engines.engine import connect
from twofold.options import DuckDbOptions
from twofold.ports.read_database import Selection
from twofold.testing.read_samples import Model, Sample

ROWS = 500
QUESTIONS = 15


@dataclass(frozen=True, kw_only=True)
class Counted(Event):
    round: int
    number: int


@dataclass(frozen=True)
class Row:
    """After an event of round r, row n is (n, r); all rows are of one round or two, as the position says."""

    number: Annotated[int, Key()]
    round: int
    amount: Decimal


class First(Projection[Row]):
    name = "first"

    @on(Counted)
    def counted(self, row: Row | None, event: Counted) -> Row:
        return Row(event.number, event.round, Decimal(event.round) / 10)


class Second(First):
    name = "second"


def own(folder: str, orders: Connection) -> None:
    """Write events and snapshots until told to end; tell of each snapshot."""
    asyncio.run(_own(Path(folder), orders))


async def _own(folder: Path, orders: Connection) -> None:
    log = connect(f"sqlite:///{folder}/log.db").log
    database = DuckDbReadDatabase(folder / "rows.duckdb")
    await log.open()
    await database.open()
    store, turn = EventStore(log), 0
    synchronizer = ReadModelSynchronizer(store, database, [First(), Second()], batch_size=70)
    async with running(synchronizer):
        while not orders.poll():
            turn += 1
            receipt = await store.append([Counted(round=turn, number=number) for number in range(ROWS)])
            await database.snapshot(folder / "snapshots")  # in the midst of the work
            await synchronizer.wait(receipt.position, 60)
            await database.snapshot(folder / "snapshots")
            orders.send(turn)
    await database.close()
    await log.close()


def read(folder: str, answers: Connection) -> None:
    """Ask until told to end; send what is wrong with an answer, and at last how many snapshots were seen."""
    asyncio.run(_read(Path(folder), answers))


async def _read(folder: Path, answers: Connection) -> None:
    snapshots = ParquetSnapshots(folder / "snapshots")
    model = ReadModel(snapshots, First())
    seen = set[int]()
    while not answers.poll():
        [row] = await snapshots.sql(
            "SELECT (SELECT list(round ORDER BY number) FROM first) AS first,"
            " (SELECT list(round ORDER BY number) FROM second) AS second"
        )
        for rounds in row["first"], row["second"]:
            if len(rounds or []) not in (0, ROWS) and set(rounds) != {1}:
                answers.send(f"torn: {rounds}")
        [total] = await model.totals(by=[], of=["round", "amount"])
        if total.sums[1] != Decimal(total.sums[0]) / 10:
            answers.send(f"mixed: {total}")
        latest = await snapshots.latest()
        seen.add(latest.number)
        for name in ("first", "second"):
            [row] = await latest.sql(f"SELECT coalesce(sum(round), 0) AS rounds FROM {name}")
            if row["rounds"] != rounds_up_to(latest.position(name)):
                answers.send(f"{name} is not of position {latest.position(name)}: {row}")
    answers.send(len(seen))


def rounds_up_to(position: int) -> int:
    """Return the sum of the rounds of all rows, when so many events have been folded."""
    full, more = divmod(position, ROWS)
    return full * (ROWS - more) + (full + 1) * more


def own_eagerly(folder: str, orders: Connection) -> None:
    """Write snapshots without a pause until told to end; tell the number of the first one, and at last of the last."""
    asyncio.run(_own_eagerly(Path(folder), orders))


async def _own_eagerly(folder: Path, orders: Connection) -> None:
    kept_for = float((folder / "kept_for").read_text())
    database = DuckDbReadDatabase(folder / "rows.duckdb", options=DuckDbOptions(snapshots_kept_for=kept_for))
    await database.open()
    model = Model(database)
    await model.prepare()
    await model.write(*(Sample(id=f"{number}", number=1) for number in range(ROWS)))
    number = (await database.snapshot(folder / "snapshots")).number
    orders.send(number)
    while not orders.poll():
        number = (await database.snapshot(folder / "snapshots")).number
    orders.send(number)
    await database.close()


def ask_eagerly(folder: str, answers: Connection) -> None:
    """Ask some questions; send how many, how many snapshots answered, and what went wrong."""
    asyncio.run(_ask_eagerly(Path(folder), answers))


async def _ask_eagerly(folder: Path, answers: Connection) -> None:
    snapshots = ParquetSnapshots(folder / "snapshots")
    model = Model(snapshots)
    asked, seen, wrong = 0, set[int](), list[str]()
    while asked < QUESTIONS:
        asked += 1
        try:
            [row] = await snapshots.sql("SELECT sum(number) AS n FROM samples")
            rows, total = await snapshots.select(model.table, Selection(limit=2 * ROWS))
            if (row["n"], len(rows), total) != (ROWS, ROWS, ROWS):
                wrong.append(f"{row}, {len(rows)} of {total}")
            seen.add((await snapshots.latest()).number)
        except Exception as error:
            wrong.append(f"{type(error).__name__}: {error}")
    answers.send((asked, len(seen), wrong))
