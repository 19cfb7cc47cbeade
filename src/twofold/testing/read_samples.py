"""Rows to try a read database with."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from twofold.ports.checkpoints import SQL, Checkpoint, generations_now
from twofold.ports.read_database import Changes, ReadDatabase, ReadTransaction, Selection, Style
from twofold.ports.segments import Parked, Segment, Step
from twofold.ports.sql import quoted
from twofold.ports.table import Table
from twofold.projections.kinds import ASYNCHRONOUS
from twofold.projections.rows.row_type import FullText, Index, Key, RowType
from twofold.projections.runner import Drive
from twofold.synchronizer.generations import prepare

EVENT_ID = "0123456789abcdef0123456789abcdef"
"""Of whatever event: a read database only keeps it."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A row with a column of every kind; each but the key may be None."""

    id: Annotated[str, Key()]
    title: Annotated[str | None, FullText()] = None
    body: Annotated[str | None, FullText()] = None
    name: Annotated[str | None, Index()] = None
    number: Annotated[int | None, Index()] = None
    amount: Annotated[Decimal | None, Index()] = None
    ratio: float | None = None
    flag: bool | None = None
    at: Annotated[dt.datetime | None, Index()] = None
    day: dt.date | None = None
    uuid: UUID | None = None
    words: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A row with a key of two fields, and with columns named by words of SQL."""

    group: Annotated[str, Key()]
    order: Annotated[int, Key()]
    select: Annotated[str, FullText()] = ""
    where: Annotated[int, Index()] = 0


SAMPLES = RowType(Sample)
SAMPLE_TABLE = SAMPLES.table("samples")
PAIRS = RowType(Pair)
PAIR_TABLE = PAIRS.table("table")


class Code:
    """As much of a projection as it takes to build its read model."""

    style: Style = "driver"
    drive: Drive = ASYNCHRONOUS

    def __init__(self, table: Table, version: int) -> None:
        self.name, self.version = table.name, version
        self._table = table

    def fingerprint(self) -> Mapping[str, str]:
        """See `ReadModelBuilder.fingerprint`."""
        return {"row": repr(self._table)}

    def table(self, suffix: str) -> Table:
        """Return the table of a generation."""
        return self._table._replace(name=self.name + suffix)

    async def make(self, transaction: ReadTransaction, suffix: str) -> None:
        """See `ReadModelBuilder.make`."""
        await transaction.create(self.table(suffix))

    async def check(self, transaction: ReadTransaction, suffix: str) -> None:
        """See `ReadModelBuilder.check`."""
        await transaction.check(self.table(suffix))

    async def clear(self, transaction: ReadTransaction, suffix: str) -> None:
        """See `ReadModelBuilder.clear`."""
        await transaction.run(f"DELETE FROM {quoted(self.name + suffix)}")

    async def drop(self, transaction: ReadTransaction, suffix: str) -> None:
        """See `ReadModelBuilder.drop`."""
        await transaction.drop(self.name + suffix)

    async def expose(self, transaction: ReadTransaction, suffix: str) -> None:
        """See `ReadModelBuilder.expose`."""
        await transaction.expose(self.name, self.name + suffix)


class Model:
    """A read model that a test writes by hand."""

    def __init__(self, database: ReadDatabase, rows: RowType[Any] = SAMPLES, name: str = "samples") -> None:
        self._database = database
        self._rows = rows
        self._declared = rows.table(name)
        self.table = self._declared
        self.segment, self._epoch = Segment(name, 0), 0

    async def prepare(self, version: int = 1) -> None:
        """Make its table, and use it from here on."""
        code = Code(self._declared, version)
        await prepare(self._database, code)
        [own] = [each for each in await generations_now(self._database, code.name) if each.version == version]
        self.table, self.segment = code.table(own.suffix), Segment(code.name, own.number)
        rows = await self._database.query(SQL["checkpoints_of"], name=code.name, generation=own.number)
        self._epoch = Checkpoint(*rows[0]).epoch

    async def checkpoint(self) -> int:
        """Return its checkpoint; 0 if it has none."""
        [(position,)] = await self._database.query(
            SQL["position_of"], name=self.segment.projection, generation=self.segment.generation
        )
        return position or 0

    def step(self, before: int, after: int, epoch: int | None = None) -> Step:
        """Return a step from one position to another, by default under the epoch that it was prepared with."""
        return Step(self.segment, self._epoch if epoch is None else epoch, before, after)

    async def write(self, *rows: Any, delete: Iterable[tuple[Any, ...]] = ()) -> None:
        """Write rows and delete others, with a step from the checkpoint to the next position."""
        before = await self.checkpoint()
        await self.commit(self.step(before, before + 1), *rows, delete=delete)

    async def commit(
        self,
        step: Step,
        *rows: Any,
        delete: Iterable[tuple[Any, ...]] = (),
        parked: Sequence[Parked] = (),
        released: Sequence[tuple[int, str]] = (),
    ) -> None:
        """Write rows and delete others with this very step."""
        gone = [self._rows.dump_key(key) for key in delete]
        changes = Changes([self._rows.dump(row) for row in rows], gone, parked, released)
        await self._database.commit(self.table, changes, step)

    async def parked(self) -> list[tuple[int, str, str]]:
        """Return position, key and cause of what is parked."""
        rows = await self._database.query(
            SQL["parked"], name=self.segment.projection, generation=self.segment.generation, limit=1000
        )
        return [(row[0], row[3], row[4]) for row in rows]

    async def load(self, *keys: tuple[Any, ...]) -> list[Any]:
        """Return the rows with these keys, in the order of their keys."""
        found = await self._database.load(self.table, [self._rows.dump_key(key) for key in keys])
        return sorted(map(self._rows.load, found), key=self._rows.key_of)

    def load_at_once(self, *keys: tuple[Any, ...]) -> list[Any] | None:
        """Return the rows with these keys, in the order of their keys; None if that takes longer."""
        found = self._database.load_at_once(self.table, [self._rows.dump_key(key) for key in keys])
        return None if found is None else sorted(map(self._rows.load, found), key=self._rows.key_of)

    async def select(self, **selection: Any) -> list[Any]:
        """Return the selected rows, at most 1000, by key unless the selection says otherwise."""
        defaults: dict[str, Any] = {"limit": 1000, "sort": self._rows.key}
        rows, _ = await self._database.select(self.table, Selection(**defaults | selection))
        return [self._rows.load(row) for row in rows]

    async def ids(self, **selection: Any) -> str:
        """Return the one-letter keys of the selected rows in a row."""
        return "".join(row.id for row in await self.select(**selection))

    async def total(self, **selection: Any) -> int:
        """Return how many rows the selection has on all pages."""
        return (await self._database.select(self.table, Selection(**selection)))[1]
