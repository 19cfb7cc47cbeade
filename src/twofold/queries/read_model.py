"""Read models: the queryable side of a projection.

A question goes this way:

1. What must the answer show? What the query's `after=` and the current session have written, if it concerns the rows
   that are asked for; and no more may be missing than the projection's `max_lag` allows.
2. Which generation answers? The read model waits until it believes that generation to be far enough.
3. The rows and the generation's position are read from one snapshot. If the position is too low, begin again with 2.
4. After the time that the policy gives: refuse, fold what is missing over the row, or answer stale and say so.

A question that has to show nothing waits for nothing, and reads the rows alone. A row that is looked up so is read in
this turn of the event loop where the engine can do that: a way through the coroutines of the steps above takes longer.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cached_property
from typing import Any, Generic, TypeVar, cast

import msgspec

from twofold.arguments import (
    check_flag,
    check_function,
    check_instance,
    check_items,
    check_port,
    check_text,
    check_texts,
    check_whole,
)
from twofold.errors import MissingTableError, PastUnknownError, UnknownFieldError
from twofold.log.folding.as_of import AsOf
from twofold.messages.event import stored_names
from twofold.messages.tenant_names import TENANT_COLUMN
from twofold.options import QueryOptions
from twofold.ports.checkpoints import GRACE_OF_PREVIOUS, Generation
from twofold.ports.read_database import (
    Filter,
    Found,
    Lookup,
    Question,
    ReadDatabase,
    Selection,
    Source,
    Sums,
    Total,
    Values,
)
from twofold.ports.table import Column, Kind, Table
from twofold.projections.keys.keyed_event import key_text
from twofold.projections.projection import KeyValues, Projection
from twofold.projections.rows.owned_rows import plain
from twofold.queries.consistency import Asking, Need, Progress, current_asking
from twofold.queries.filters import checked_filter
from twofold.queries.folded_rows import Overlaid, Past
from twofold.queries.highlights import highlights_of
from twofold.queries.key_tags import KeyTags, key_tags, tags_of
from twofold.queries.pages import PaginatedResult, read_cursor, write_cursor
from twofold.queries.scope import Scope
from twofold.queries.serving import Serving
from twofold.tenants import current_tenant, tenant_or_all

log = logging.getLogger(__name__)
R = TypeVar("R")

_SUMMABLE = (Kind.DECIMAL, Kind.INTEGER, Kind.REAL)
_LAST = (1 << 63) - 1
"""The greatest number that every engine takes; a page beyond it is as empty as the one before."""


class ReadModel(Generic[R]):
    """Answers questions about the rows of one projection. Values are compared as what they are, on every engine.

    Each answer is of one generation, and shows what the current query or session must show, or says that it does not.

    Args:
        database: where the rows are.
        projection: what makes them.
        progress: how far the read model has come; without it, the answer is what the projection's own name shows, as in
            snapshots, and nothing is waited for.
        overlay: folds what is missing over a row, where a policy asks for that.
        generation: the one that answers, whatever serves; only without `progress`.
        options: how long pages wait for segments that stand apart, and what to do about fields without index.
        past: tells what the rows were at earlier moments.
    """

    def __init__(
        self,
        database: ReadDatabase,
        projection: Projection[R],
        progress: Progress | None = None,
        overlay: Overlaid | None = None,
        *,
        generation: Generation | None = None,
        options: QueryOptions = QueryOptions(),  # noqa: B008 - it is immutable
        past: Past | None = None,
    ) -> None:
        check_port("database", database, "read database", "open", "read", "load", "load_at_once")
        check_instance("projection", projection, Projection)
        check_instance("options", options, QueryOptions)
        self.name = projection.name
        self._projection = projection
        self._database = database
        self._progress = progress
        self._overlay = overlay
        self._past = past
        self._options = options
        self._rows = projection.stored_rows()
        self._of_tenants = projection._of_tenants
        self._table = projection.table()
        self._tables = dict[str, Table]()
        """Those of the generations that have answered, by suffix."""
        self._unindexed: set[str] = set()
        """The fields without index that were warned about."""
        self._number = 0
        if generation is not None:
            self._number = generation.number
            self._table = self._table._replace(name=self._table.name + generation.suffix)

    async def get(self, *key: Any, as_of: AsOf | None = None) -> R | None:
        """Return the row with this key, or None.

        Args:
            key: the values of its key.
            as_of: an earlier moment, a position or a time; then it is what it was when the log ended there, folded by
                today's code. By default it is what the read model shows.

        Raises:
            ValueError: there are more or fewer values than the key has fields.
            FuturePositionError, InvalidTokenError: as `EventStore.position_at`.
            PastUnknownError: that cannot be told of this read model, or takes too many events.
            ProjectionFailedError: an event of the row cannot be folded.
            StaleReadError: the row does not show in time what it must, and the policy is to refuse then.
            ReadModelBuildingError: the read model is not complete yet.
            StorageError: the database failed.
        """
        if self._of_tenants:
            key = (current_tenant(f"a row of {self.name}"), *key)
        asking, keys = current_asking(), (self._rows.dump_key(key),)
        if as_of is not None:
            return cast("R | None", plain(await self._told_past().row(key, as_of)))
        if (rows := self._load_at_once(asking, keys)) is not None:
            return cast("R", plain(self._rows.load(rows[0]))) if rows else None
        found, is_stale = await self._ask(asking, Lookup(keys), key)
        if is_stale and asking and self._progress and self._overlay and asking.folds(self._progress):
            row = await self._overlay.get(key)
            asking.note(self._progress, found.position, stale=found.has_parked)
            return cast("R | None", plain(row))
        await self._note(asking, found, is_stale=is_stale)
        return cast("R", plain(self._rows.load(found.answer[0]))) if found.answer else None

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
            TypeError, ValueError: an argument is of another type, or the page or its size is below 1.
            StaleReadError: the page does not show in time what it must, and the policy is to refuse then.
            ReadModelBuildingError: the read model is not complete yet.
            StorageError: the database failed.
        """
        check_whole("page", page, -math.inf)
        check_whole("page_size", page_size, -math.inf)
        if page < 1 or page_size < 1:
            raise ValueError(f"page and page_size begin at 1, got {page} and {page_size}")
        check_text("search", search, may_be_empty=True)
        check_flag("descending", descending)
        check_flag("highlight", highlight)
        if search and not self._table.full_text:
            raise UnknownFieldError(f"{self.name} cannot be searched; mark a field: `Annotated[str, FullText()]`")
        order = self._order(sort, by_rank=bool(search) and not sort)
        selection = Selection(
            where=self._own(self._checked(where)),
            search=search,
            sort=tuple(column.name for column in order),
            descending=descending,
            beyond=read_cursor(cursor, order, self._options.cursor) if cursor else (),
            limit=min(page_size, _LAST),
            offset=0 if cursor else min((page - 1) * page_size, _LAST),
        )
        found = await self._answer(selection)
        values, total = found.answer
        return PaginatedResult(
            items=list(map(plain, self._rows.load_all(values))) if self._of_tenants else self._rows.load_all(values),
            total=total,
            page=page,
            page_size=page_size,
            total_pages=-(-total // page_size),
            next_cursor=self._next_cursor(values[-1], order) if order and len(values) == page_size else None,
            highlights=await asyncio.to_thread(highlights_of, self._table, values, search, self._options.marked)
            if highlight
            else (),
            position=found.position,
            furthest=found.furthest,
        )

    async def totals(
        self, *, by: Sequence[str], of: str | Sequence[str], where: Sequence[Filter] = ()
    ) -> Sequence[Total]:
        """Return the count and the exact sum of a field, or of several, for each group of rows, in the groups' order.

        All are of one moment. Without `by`, all rows are one group, even if there is none. None counts as nothing in a
        sum.

        Raises:
            TypeError, ValueError: an argument is of another type.
            UnknownFieldError: a field is named that the rows do not have, or whose values cannot be added up.
            InvalidFilterError: a filter's operator is none, or its value does not fit the field.
            StaleReadError: the totals do not show in time what they must, and the policy is to refuse then.
            ReadModelBuildingError: the read model is not complete yet.
            StorageError: the database failed.
        """
        by, summed = check_texts("by", by), (of,) if isinstance(of, str) else check_texts("of", of)
        for name in (*by, *summed):
            self._column(name)
        for name in summed:
            if self._column(name).kind not in _SUMMABLE:
                raise UnknownFieldError(f"{self.name}.{name} holds no numbers that could be added up")
        totals: Sequence[Total] = (await self._answer(Sums(tuple(by), summed, self._own(self._checked(where))))).answer
        return [msgspec.structs.replace(each, by=self._rows.restored(by, each.by)) for each in totals]

    @asynccontextmanager
    async def as_of(
        self, as_of: AsOf, *, progress: Callable[[int, int], object] = lambda *_: None
    ) -> AsyncIterator[ReadModel[R]]:
        """Give the whole read model as it was at an earlier moment: `async with orders.as_of(monday) as past: …`.

        It is folded by today's code from the beginning of the log to the moment, in a temporary file of this process,
        which is deleted when the block ends. That takes as long as building the read model.

        Args:
            as_of: a position or a time.
            progress: told the position up to which it is folded, and the one at the end.

        Raises:
            FuturePositionError, InvalidTokenError: as `EventStore.position_at`.
            PastUnknownError: that cannot be told of this read model.
            ProjectionFailedError: an event cannot be folded.
            StorageError: a database failed.
        """
        check_function("progress", progress)
        async with self._told_past().model(as_of, progress) as model:
            yield model

    # -- reading ----------------------------------------------------------------------------------------------------

    def _load_at_once(self, asking: Asking | None, keys: Sequence[KeyValues]) -> Sequence[Values] | None:
        """Return rows that have to show nothing, as the engine reads them in this turn of the event loop.

        None says that it takes more: to look up the generation that answers, to wait for it, or to read in a thread.
        """
        if self._progress is None or (asking is not None and asking.needs_tags):
            return None
        asked, known = time.monotonic(), self._progress.at_hand()
        if known is None or known.serving.has_parked:
            return None
        rows = self._database.load_at_once(self._table_of(known.serving.generation.suffix), keys)
        if rows is None or time.monotonic() - asked > GRACE_OF_PREVIOUS - self._options.lookup:
            return None
        if asking is not None:
            asking.scopes.append(
                Scope(self._progress.handled, {}, tenant_or_all(self.name) if self._of_tenants else "")
            )
            asking.note(self._progress, known.reached)  # of before the rows were read: they show at least that
        return rows

    async def _answer(self, question: Selection | Sums) -> Found:
        """Answer a question about several rows, and note how good the answer is."""
        asking = current_asking()
        found, is_stale = await self._ask(asking, question)
        await self._note(asking, found, is_stale=is_stale)
        return found

    async def _ask(self, asking: Asking | None, question: Question, key: KeyValues | None = None) -> tuple[Found, bool]:
        """Answer a question so that it shows what it must; return whether it is stale, or refuse, by the policy."""
        progress = self._progress
        if progress is None:
            return await self._database.read(
                self._table, question, Source(self.name, self._number, self._text(key))
            ), False
        if asking is None:
            return await self._read(progress, question, Need(), 0.0, key), False
        tags = tags_of(self._key_tags, self._table, key) if key is not None and asking.needs_tags else {}
        tenant = tenant_or_all(self.name) if self._of_tenants else ""
        need = await asking.need(progress, tags, tenant)
        found = await self._read(progress, question, need, asking.deadline(progress), key)
        return found, await asking.judge(progress, need, found.position)

    async def _note(self, asking: Asking | None, found: Found, *, is_stale: bool) -> None:
        if asking is not None and self._progress is None:
            shown = found.position >= asking.written.position or not asking.written.concerns(self._handled)
            asking.note_position(found.position, stale=not shown or found.has_parked)
        elif asking is not None and self._progress is not None:
            age = (await self._progress.lag() or None) if is_stale else None
            asking.note(self._progress, found.position, stale=is_stale or found.has_parked, age=age)

    async def _read(
        self, progress: Progress, question: Question, need: Need, deadline: float, key: KeyValues | None
    ) -> Found:
        """Read from the generation that answers, until the answer shows what it must or the time is over."""
        even_by, may_retry = time.monotonic() + self._options.alignment, True
        while True:
            asked = time.monotonic()
            serving = await progress.approach(need.position, deadline) if need.position else await progress.find()
            try:
                found = await self._read_from(progress, serving, question, need, key)
            except MissingTableError:  # it was dropped after it had been looked up
                if not may_retry:
                    raise
                may_retry = False
                progress.correct(serving, 0)
                continue
            now = time.monotonic()
            if now - asked > GRACE_OF_PREVIOUS - self._options.lookup and not await progress.still_serves(serving):
                continue  # what answered may stand still by now, or be behind
            if found.position < need.position and now < deadline:
                progress.correct(serving, found.position)
            elif found.position < found.furthest and isinstance(question, Selection) and now < even_by:
                if await progress.misses_nothing(found.position, found.furthest):
                    found = found._replace(position=found.furthest)
                    break
                await progress.approach(found.furthest, even_by)
            else:
                break
        if found.has_parked:
            await progress.refuse_parked(self._text(key))
        return found

    async def _read_from(
        self, progress: Progress, serving: Serving, question: Question, need: Need, key: KeyValues | None
    ) -> Found:
        """Read rows and position from one snapshot, or the rows alone if nothing depends on the position."""
        table = self._table_of(serving.generation.suffix)
        if need.position or serving.has_parked or isinstance(question, Selection):
            tenant = tenant_or_all(f"reading {self.name}") if self._of_tenants else ""
            source = Source(self.name, serving.generation.number, self._text(key), tenant)
            return await self._database.read(table, question, source)
        position = progress.reached
        if isinstance(question, Lookup):
            return Found(await self._database.load(table, question.keys), position, position, has_parked=False)
        answer = await self._database.totals(table, question.by, question.of, question.where)
        return Found(answer, position, position, has_parked=False)

    def _table_of(self, suffix: str) -> Table:
        if suffix not in self._tables:
            self._tables[suffix] = self._table._replace(name=self._table.name + suffix)
        return self._tables[suffix]

    def _text(self, key: KeyValues | None) -> str:
        """Return the key of a row's events in the form that parked ones hold; empty for none, or one of no row."""
        try:
            return "" if key is None else key_text(self._projection.events_key(key))
        except Exception:
            return ""

    @cached_property
    def _key_tags(self) -> KeyTags:
        return key_tags(self._projection, self._table)

    @cached_property
    def _handled(self) -> frozenset[str]:
        return stored_names(self._projection.handles())

    def _told_past(self) -> Past:
        if self._past is None:
            raise PastUnknownError(self.name, "it is not the one that `projections.add` has returned")
        return self._past

    # -- what is asked ----------------------------------------------------------------------------------------------

    def _own(self, where: tuple[Filter, ...]) -> tuple[Filter, ...]:
        """Return filters that the tenant's own rows fulfil; on behalf of all tenants, as they are given.

        Raises:
            TenantMissingError: no tenant is set.
        """
        tenant = tenant_or_all(f"reading {self.name}") if self._of_tenants else ""
        return ((TENANT_COLUMN, "=", tenant), *where) if tenant else where

    def _column(self, name: str) -> Column:
        column = self._table.column(name) if isinstance(name, str) and name != TENANT_COLUMN else None
        if column is None or column.kind is Kind.JSON:
            shown = [each.name for each in self._table.columns if each.kind is not Kind.JSON]
            fields = ", ".join(name for name in shown if name != TENANT_COLUMN)
            raise UnknownFieldError(f"{self.name} cannot be asked about {name!r}; its fields are {fields}")
        return column

    def _checked(self, where: Sequence[Filter]) -> tuple[Filter, ...]:
        check_items("where", where, _is_filter, 'filters such as ("status", "=", "shipped")')
        checked = tuple(checked_filter(self._column(field), operator, value) for field, operator, value in where)
        for field, *_ in checked:
            self._find_index(field)
        return checked

    def _order(self, sort: str | None, *, by_rank: bool) -> list[Column]:
        """Return the columns to sort by: the key comes last, so that no two rows are at one place."""
        if by_rank:
            return []
        if sort:
            self._column(sort)
            self._find_index(sort)
        wanted = [sort, *self._table.key] if sort else self._table.key
        by_name = {column.name: column for column in self._table.columns}
        return [by_name[name] for name in dict.fromkeys(wanted)]

    def _find_index(self, field: str) -> None:
        """Say or refuse, as the options want it, that a question about a field reads all rows."""
        first_of_key = self._table.key[1 if self._of_tenants else 0]
        if not self._database.has_indexes or field in (*self._table.indexes, first_of_key):
            return
        text = f"{self.name}.{field} has no index: a filter or a sort by it reads all rows; mark it with Index()"
        if self._options.unindexed == "refuse":
            raise UnknownFieldError(text)
        if self._options.unindexed == "warn" and field not in self._unindexed:
            self._unindexed.add(field)
            log.warning("%s", text)

    def _next_cursor(self, last: Sequence[Any], order: Sequence[Column]) -> str:
        names = [column.name for column in self._table.columns]
        return write_cursor([column.name for column in order], [last[names.index(column.name)] for column in order])


def _is_filter(given: object) -> bool:
    return isinstance(given, tuple | list) and len(given) == 3 and isinstance(given[0], str)
