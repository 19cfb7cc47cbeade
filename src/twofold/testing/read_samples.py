"""Rows to try a read database with."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from twofold.read_database import Checkpoint, ReadDatabase, Selection
from twofold.row_type import FullText, Index, Key, RowType


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


class Model:
    """A read model that a test writes by hand."""

    def __init__(self, database: ReadDatabase, rows: RowType[Any] = SAMPLES, name: str = "samples") -> None:
        self._database = database
        self._rows = rows
        self.table = rows.table(name)

    async def prepare(self, version: int = 1) -> None:
        """Make its table."""
        await self._database.prepare(self.table, version)

    async def checkpoint(self) -> int:
        """Return its checkpoint."""
        return await self._database.checkpoint(self.table.name)

    async def write(self, *rows: Any, delete: Iterable[tuple[Any, ...]] = (), version: int = 1) -> None:
        """Write rows and delete others, with a step from the checkpoint to the next position."""
        before = await self.checkpoint()
        step = Checkpoint(self.table.name, version, before, before + 1)
        await self.commit(step, *rows, delete=delete)

    async def commit(self, step: Checkpoint, *rows: Any, delete: Iterable[tuple[Any, ...]] = ()) -> None:
        """Write rows and delete others with this very step."""
        gone = [self._rows.dump_key(key) for key in delete]
        await self._database.commit(self.table, [self._rows.dump(row) for row in rows], gone, step)

    async def load(self, *keys: tuple[Any, ...]) -> list[Any]:
        """Return the rows with these keys, in the order of their keys."""
        found = await self._database.load(self.table, [self._rows.dump_key(key) for key in keys])
        return sorted(map(self._rows.load, found), key=self._rows.key_of)

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
