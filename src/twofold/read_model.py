"""Read models: the queryable side of a projection."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from twofold.errors import InvalidCursorError, UnknownFieldError
from twofold.projection import Projection
from twofold.read_database import Filter, ReadDatabase, Selection, Total
from twofold.row_type import Kind

R = TypeVar("R")
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class PaginatedResult(Generic[T]):
    """One page of a longer answer."""

    items: Sequence[T]
    total: int
    """Number of items on all pages."""
    page: int
    """From 1."""
    page_size: int
    total_pages: int
    next_cursor: str | None = None
    """Where the next page begins; for deep pages much cheaper than a page number."""


class ReadModel(Generic[R]):
    """Answers questions about the rows of one projection. Values are compared as what they are, on every engine."""

    def __init__(self, database: ReadDatabase, projection: Projection[R]) -> None:
        self.name = projection.name
        self._database = database
        self._rows = projection.row_type()
        self._table = projection.table()

    async def get(self, *key: Any) -> R | None:
        """Return the row with this key, or None.

        Raises:
            StorageError: the database failed.
        """
        found = await self._database.load(self._table, [key])
        return self._rows.load(found[0]) if found else None

    async def page(
        self,
        *,
        where: Sequence[Filter] = (),
        search: str = "",
        sort: str | None = None,
        descending: bool = False,
        page: int = 1,
        page_size: int = 20,
        cursor: str | None = None,
    ) -> PaginatedResult[R]:
        """Return one page of the rows that fulfil all filters.

        Args:
            where: filters such as `("status", "=", "shipped")`, all of which must hold.
            search: words that must all occur in the fields marked as `FullText`.
            sort: a field; without one, by rank if there is a `search`, else by key.
            descending: whether to sort from high to low.
            page: number of the page, from 1.
            page_size: rows per page.
            cursor: the `next_cursor` of the page before, instead of `page`.

        Raises:
            UnknownFieldError: a filter or the sort names a field that the rows do not have.
            InvalidCursorError: the cursor does not belong to this sort.
            StorageError: the database failed.
        """
        self._check_fields(where, (sort,) if sort else ())
        order = self._order(sort, by_rank=bool(search) and not sort)
        selection = Selection(
            where=tuple(where),
            search=search,
            sort=order,
            descending=descending,
            beyond=self._read_cursor(cursor, order) if cursor else (),
            limit=page_size,
            offset=0 if cursor else (page - 1) * page_size,
        )
        values, total = await self._database.select(self._table, selection)
        return PaginatedResult(
            items=[self._rows.load(each) for each in values],
            total=total,
            page=page,
            page_size=page_size,
            total_pages=-(-total // page_size),
            next_cursor=self._write_cursor(values[-1], order) if order and len(values) == page_size else None,
        )

    async def totals(self, *, by: Sequence[str], of: str, where: Sequence[Filter] = ()) -> Sequence[Total]:
        """Return count and exact sum of a field for each group of rows, in the order of the groups.

        Raises:
            UnknownFieldError: a field is named that the rows do not have.
            StorageError: the database failed.
        """
        self._check_fields(where, (*by, of))
        return await self._database.totals(self._table, by, of, where)

    def _check_fields(self, where: Sequence[Filter], others: Sequence[str]) -> None:
        for name in (*(field for field, _, _ in where), *others):
            column = self._table.column(name)
            if column is None or column.kind is Kind.JSON:
                fields = ", ".join(each.name for each in self._table.columns if each.kind is not Kind.JSON)
                raise UnknownFieldError(f"{self.name} cannot be asked about {name!r}; its fields are {fields}")

    def _order(self, sort: str | None, *, by_rank: bool) -> tuple[str, ...]:
        if by_rank:
            return ()
        return tuple(dict.fromkeys([*([sort] if sort else []), *self._table.key]))

    def _write_cursor(self, values: Sequence[Any], order: tuple[str, ...]) -> str | None:
        names = [column.name for column in self._table.columns]
        last = [values[names.index(name)] for name in order]
        if any(value is None for value in last):
            return None  # NULL comes neither before nor after anything
        return base64.urlsafe_b64encode(msgspec.json.encode([list(order), last])).decode()

    def _read_cursor(self, cursor: str, order: tuple[str, ...]) -> tuple[Any, ...]:
        try:
            names, values = msgspec.json.decode(base64.urlsafe_b64decode(cursor), type=tuple[list[str], list[Any]])
            if tuple(names) != order or len(values) != len(order):
                raise InvalidCursorError("the cursor belongs to another sort; take the one of the page before")
            return tuple(self._typed(name, value) for name, value in zip(names, values, strict=True))
        except (msgspec.MsgspecError, binascii.Error, ValueError, OverflowError) as error:
            raise InvalidCursorError("the cursor is not one of ours; take the `next_cursor` of a page") from error

    def _typed(self, name: str, value: Any) -> Any:
        column = self._table.column(name)
        assert column is not None  # noqa: S101 - the caller compared the names with the table's
        typed = msgspec.convert(value, column.kind.python, strict=False)
        if isinstance(typed, int) and not -(2**63) <= typed < 2**63:
            raise ValueError("no engine holds such an integer")
        return typed.astimezone(dt.UTC) if isinstance(typed, dt.datetime) else typed
