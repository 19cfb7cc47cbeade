"""Read models: the queryable side of a projection."""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, cast

import msgspec

from twofold.errors import InvalidCursorError, InvalidFilterError, MissingTableError, UnknownFieldError
from twofold.ports.checkpoints import Generation
from twofold.ports.full_text import MAX_TEXT, Range, find_words
from twofold.ports.read_database import Filter, ReadDatabase, Selection, Total
from twofold.ports.table import Column, Kind, Table
from twofold.projections.projection import Projection
from twofold.queries.filters import checked_filter, comparable
from twofold.queries.serving import FRESH, GRACE_OF_PREVIOUS

R = TypeVar("R")
T = TypeVar("T")

_SUMMABLE = (Kind.DECIMAL, Kind.INTEGER, Kind.REAL)
MAX_MARKED = 200_000
"""Characters of one page in which words are marked, at most half a second of a thread; the rest stays unmarked."""
_LAST = (1 << 63) - 1
"""The greatest number that every engine takes; a page beyond it is as empty as the one before."""


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
    highlights: Sequence[Mapping[str, Sequence[Range]]] = ()
    """For each item the full-text fields in which words were found, and where in them; if that was asked for."""


class Places(Protocol):
    """Tells which generation of a read model answers."""

    async def find(self, *, again: bool = False) -> Generation:
        """Return it; `again` looks it up anew.

        Raises:
            ReadModelBuildingError: it is not complete yet.
            StorageError: the database failed.
        """


class FixedPlace:
    """One generation, whatever serves."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation

    async def find(self, *, again: bool = False) -> Generation:
        """See `Places.find`."""
        return self._generation


class Fresh(Protocol):
    """Tells what a row will be once its projection has caught up."""

    async def get(self, key: tuple[Any, ...]) -> Any:
        """Return the row with this key, or None.

        Raises:
            StaleReadError: too much is missing.
            StorageError: a database failed.
        """


@dataclass
class Overlaying:
    """What read models are asked within a block; see `overlaying`."""

    is_complete: bool = True
    """Whether all answers were as fresh as the log."""


_overlaying: ContextVar[Overlaying | None] = ContextVar("twofold_overlaying", default=None)


@contextmanager
def overlaying() -> Iterator[Overlaying]:
    """Let `ReadModel.get` fold what is missing over the stored row; pages and totals are answered as they stand."""
    within = Overlaying()
    token = _overlaying.set(within)
    try:
        yield within
    finally:
        _overlaying.reset(token)


class ReadModel(Generic[R]):
    """Answers questions about the rows of one projection. Values are compared as what they are, on every engine.

    While it is being built anew, the earlier generation answers; each answer is of one generation.

    Args:
        database: where the rows are.
        projection: what makes them.
        place: tells which generation answers; by default what has the projection's own name, as in snapshots.
        fresh: answers within `overlaying`.
    """

    def __init__(
        self,
        database: ReadDatabase,
        projection: Projection[R],
        place: Places | None = None,
        fresh: Fresh | None = None,
    ) -> None:
        self.name = projection.name
        self._database = database
        self._place = place
        self._fresh = fresh
        self._rows = projection.row_type()
        self._table = projection.table()

    async def get(self, *key: Any) -> R | None:
        """Return the row with this key, or None.

        Raises:
            ValueError: there are more or fewer values than the key has fields.
            ReadModelBuildingError: it is not complete yet.
            StorageError: the database failed.
        """
        wanted = [self._rows.dump_key(key)]
        if self._fresh and _overlaying.get():
            return cast("R | None", await self._fresh.get(key))
        found = await self._ask(lambda table: self._database.load(table, wanted))
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
        highlight: bool = False,
    ) -> PaginatedResult[R]:
        """Return one page of the rows that fulfil all filters.

        Args:
            where: filters such as `("status", "=", "shipped")`, all of which must hold.
            search: words that must all occur in the fields marked as `FullText`.
            sort: a field; without one, by rank if there is a `search`, else by key. None comes before all else.
            descending: whether to sort from high to low.
            page: number of the page, from 1.
            page_size: rows per page.
            cursor: the `next_cursor` of the page before, instead of `page`.
            highlight: whether to say where in the rows the words of the `search` were found; see `marked_html`.

        Raises:
            UnknownFieldError: a filter or the sort names a field that the rows do not have, or no field is `FullText`.
            InvalidFilterError: a filter's operator is none, or its value does not fit the field.
            InvalidCursorError: the cursor is damaged, or belongs to another sort.
            ValueError: the page or its size is below 1.
            StorageError: the database failed.
        """
        if page < 1 or page_size < 1:
            raise ValueError(f"page and page_size begin at 1, got {page} and {page_size}")
        if search and not self._table.full_text:
            raise UnknownFieldError(f"{self.name} cannot be searched; mark a field: `Annotated[str, FullText()]`")
        self._check_fields((sort,) if sort else ())
        order = self._order(sort, by_rank=bool(search) and not sort)
        selection = Selection(
            where=self._checked(where),
            search=search,
            sort=order,
            descending=descending,
            beyond=self._read_cursor(cursor, order) if cursor else (),
            limit=min(page_size, _LAST),
            offset=0 if cursor else min((page - 1) * page_size, _LAST),
        )
        values, total = await self._ask(lambda table: self._database.select(table, selection))
        return PaginatedResult(
            items=self._rows.load_all(values),
            total=total,
            page=page,
            page_size=page_size,
            total_pages=-(-total // page_size),
            next_cursor=self._write_cursor(values[-1], order) if order and len(values) == page_size else None,
            highlights=await asyncio.to_thread(self._highlights, values, search) if highlight else (),
        )

    async def totals(
        self, *, by: Sequence[str], of: str | Sequence[str], where: Sequence[Filter] = ()
    ) -> Sequence[Total]:
        """Return the count and the exact sum of a field, or of several, for each group of rows, in the groups' order.

        All are of one moment. Without `by`, all rows are one group, even if there is none. None counts as nothing in a
        sum.

        Raises:
            UnknownFieldError: a field is named that the rows do not have, or whose values cannot be added up.
            InvalidFilterError: a filter's operator is none, or its value does not fit the field.
            StorageError: the database failed.
        """
        summed = (of,) if isinstance(of, str) else tuple(of)
        self._check_fields((*by, *summed))
        for name in summed:
            if self._column(name).kind not in _SUMMABLE:
                raise UnknownFieldError(f"{self.name}.{name} holds no numbers that could be added up")
        checked = self._checked(where)
        return await self._ask(lambda table: self._database.totals(table, by, summed, checked))

    async def _ask(self, question: Callable[[Table], Awaitable[T]]) -> T:
        """Ask the generation that serves; if it did no longer when it had answered, the one that took over."""
        if within := _overlaying.get():
            within.is_complete = False
        asked, table = time.monotonic(), await self._where()
        with suppress(MissingTableError):
            answer = await question(table)
            if time.monotonic() < asked + GRACE_OF_PREVIOUS - FRESH or table == await self._where(again=True):
                return answer
        return await question(await self._where(again=True))

    async def _where(self, *, again: bool = False) -> Table:
        if self._place is None:
            return self._table
        generation = await self._place.find(again=again)
        return self._table._replace(name=self._table.name + generation.suffix)

    def _highlights(self, rows: Sequence[Sequence[Any]], search: str) -> Sequence[Mapping[str, Sequence[Range]]]:
        """Return where each row holds the words. A thread does it, within bounds: texts may be of any length."""
        places = [(name, self._place_of(name)) for name in self._table.full_text]
        highlights, left = list[Mapping[str, Sequence[Range]]](), MAX_MARKED
        for values in rows:
            marked = {}
            for name, place in places:
                text = (values[place] or "")[: min(left, MAX_TEXT)]
                left -= len(text)
                if ranges := find_words(text, search):
                    marked[name] = ranges
            highlights.append(marked)
        return highlights

    def _place_of(self, name: str) -> int:
        return next(place for place, column in enumerate(self._table.columns) if column.name == name)

    def _column(self, name: str) -> Column:
        column = self._table.column(name)
        if column is None or column.kind is Kind.JSON:
            fields = ", ".join(each.name for each in self._table.columns if each.kind is not Kind.JSON)
            raise UnknownFieldError(f"{self.name} cannot be asked about {name!r}; its fields are {fields}")
        return column

    def _check_fields(self, names: Sequence[str]) -> None:
        for name in names:
            self._column(name)

    def _checked(self, where: Sequence[Filter]) -> tuple[Filter, ...]:
        return tuple(checked_filter(self._column(field), operator, value) for field, operator, value in where)

    def _order(self, sort: str | None, *, by_rank: bool) -> tuple[str, ...]:
        if by_rank:
            return ()
        return tuple(dict.fromkeys([*([sort] if sort else []), *self._table.key]))

    def _write_cursor(self, values: Sequence[Any], order: tuple[str, ...]) -> str:
        names = [column.name for column in self._table.columns]
        last = [values[names.index(name)] for name in order]
        return base64.urlsafe_b64encode(msgspec.json.encode([list(order), last])).decode()

    def _read_cursor(self, cursor: str, order: tuple[str, ...]) -> tuple[Any, ...]:
        try:
            names, values = msgspec.json.decode(base64.urlsafe_b64decode(cursor), type=tuple[list[str], list[Any]])
            if tuple(names) != order or len(values) != len(order):
                raise InvalidCursorError("the cursor belongs to another sort; take the one of the page before")
            return tuple(comparable(self._column(name), value) for name, value in zip(names, values, strict=True))
        except (msgspec.MsgspecError, binascii.Error, ValueError, InvalidFilterError) as error:
            raise InvalidCursorError("the cursor is not one of ours; take the `next_cursor` of a page") from error
