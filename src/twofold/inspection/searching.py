"""Finding events: by position or id, by what they have in common, and as they come.

1. What an index leads to (a stream, types, tags) is read along the index.
2. A time becomes a position, by halving the log: times rise with positions, as far as the clock of the writers does.
3. What no index leads to (correlation, user) is walked through within the engine, slice by slice.
4. Whatever else is asked for is compared in each row. A search that has looked at its share ends with the place where
   to go on, so that no question takes longer than the options say.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from operator import attrgetter
from typing import NamedTuple, cast
from uuid import UUID

import msgspec

from twofold.arguments import check_flag, check_instance, check_text, check_texts, check_whole
from twofold.errors import EventNotFoundError
from twofold.log.chunks import Pace, Rows, chunks, event_at
from twofold.log.codec.unknown import raw_events
from twofold.log.event_store import EventStore
from twofold.log.folding.as_of import last_recorded_by, microseconds_of
from twofold.messages.event import RawEvent, RecordedEvent
from twofold.messages.event_query import EventQuery
from twofold.messages.stored_event import StoredEvent
from twofold.options import InspectionOptions
from twofold.ports.maintenance import PortableLog

Recorded = RecordedEvent[RawEvent]


@dataclass(frozen=True, kw_only=True)
class EventSearch:
    """Which events are looked for: those for which all that is given holds.

    Raises:
        TypeError, ValueError: an argument is of another type, or a time has no time zone.
    """

    stream: str = ""
    """The id of their stream."""
    stream_type: str = ""
    types: tuple[str, ...] = ()
    """Stored names: each event has one of them."""
    tags: tuple[str, ...] = ()
    """Such as `customer:c1`: each event has all of them."""
    correlation: UUID | None = None
    """The correlation id that was set, or the id of the command or event that began it all."""
    user: str = ""
    since: datetime | None = None
    """Recorded at this time or later."""
    until: datetime | None = None
    """Recorded before this time."""
    after: int = 0
    """Only behind this position."""
    before: int | None = None
    """Only before this position."""
    newest_first: bool = False

    def __post_init__(self) -> None:
        for name in ("stream", "stream_type", "user"):
            check_text(name, getattr(self, name), may_be_empty=True)
        for name in ("types", "tags"):
            object.__setattr__(self, name, check_texts(name, getattr(self, name)))
        if self.correlation is not None:
            check_instance("correlation", self.correlation, UUID)
        for name in ("since", "until"):
            if (moment := getattr(self, name)) is not None:
                check_instance(name, moment, datetime)
                if moment.tzinfo is None:
                    raise ValueError(f"`{name}` needs a time zone, such as datetime(…, tzinfo=UTC)")
        check_whole("after", self.after)
        if self.before is not None:
            check_whole("before", self.before)
        check_flag("newest_first", self.newest_first)

    @property
    def query(self) -> EventQuery:
        """What an index of the log leads to."""
        return EventQuery.exactly(*self.types, tags=self.tags)

    @property
    def mentioned(self) -> str:
        """A text that the metadata of each event holds; empty if any will do."""
        if self.correlation is not None:
            return str(self.correlation)
        return msgspec.json.encode(self.user).decode() if self.user else ""

    def may_be(self, row: StoredEvent) -> bool:
        """Return whether a row is worth being verified and compared: most that are walked through are not."""
        return (not self.stream_type or row.stream_type == self.stream_type) and (
            not self.types or row.type in self.types
        )

    def matches(self, recorded: Recorded) -> bool:
        """Return whether all that is asked for holds of an event."""
        return (
            (not self.stream or recorded.stream_id == self.stream or recorded.stored.stream_id == self.stream)
            and (not self.stream_type or recorded.stream_type == self.stream_type)
            and (not self.types or recorded.type in self.types)
            and (not self.tags or not set(self.tags).difference(recorded.tags, recorded.stored_tags))
            and (not self.mentioned or self._is_mentioned(recorded))
            and (self.since is None or recorded.recorded_at >= self.since)
            and (self.until is None or recorded.recorded_at < self.until)
            and self.after < recorded.position
            and (self.before is None or recorded.position < self.before)
        )

    def _is_mentioned(self, recorded: Recorded) -> bool:
        known = recorded.metadata
        begins_it = self.correlation in (recorded.event_id, known.command_id)
        is_correlated = self.correlation is None or known.correlation_id == self.correlation or begins_it
        return is_correlated and (not self.user or known.user == self.user)


@dataclass(frozen=True, kw_only=True)
class FoundEvents:
    """A page of the events that were looked for."""

    events: Sequence[Recorded]
    next: int | None
    """The position to go on from: `after` it, or `before` it if the newest come first. None: there are no more."""


def position_or_id(text: str) -> int | UUID:
    """Return the position or the id that a text says.

    Raises:
        ValueError: it says neither.
    """
    try:
        return int(text) if text.isdecimal() else UUID(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither a position, such as 42, nor the id of an event") from None


async def find_event(store: EventStore, which: int | UUID) -> Recorded:
    """Return one event, by its position or its id.

    Raises:
        EventNotFoundError: there is none.
        CorruptEventError: it does not match its checksum.
        TenantMissingError: there are tenants, and this code does not run on behalf of all.
        StorageError: the database failed.
    """
    log = portable(store)
    if isinstance(which, UUID):
        row = next(iter(await log.find_events([which.bytes])), None)
    else:
        check_whole("which", which, 1)
        row = await event_at(log, which)
    if row is None:
        kind = "with the id" if isinstance(which, UUID) else "at position"
        raise EventNotFoundError(f"there is no event {kind} {which}; the log ends at position {await log.head()}")
    return raw_events([row])[0]


async def search_events(
    store: EventStore,
    search: EventSearch | None = None,
    *,
    limit: int = 100,
    options: InspectionOptions | None = None,
) -> FoundEvents:
    """Return the first events that are looked for, by default of all, and where to go on.

    Args:
        store: where they are.
        search: which ones, and in which direction.
        limit: the most of them.
        options: how much is looked through at most.

    Raises:
        CorruptEventError: one of them does not match its checksum.
        TenantMissingError: there are tenants, and this code does not run on behalf of all.
        StorageError: the database failed.
    """
    search, options = search or EventSearch(), options or InspectionOptions()
    check_instance("search", search, EventSearch)
    check_whole("limit", limit, 1)
    check_instance("options", options, InspectionOptions)
    log = portable(store)
    found, seen = list[Recorded](), 0
    async with aclosing(_pages(log, search, await _range_of(log, search), limit, options)) as pages:
        async for page in pages:
            for recorded in filter(search.matches, raw_events([row for row in page.rows if search.may_be(row)])):
                found.append(recorded)
                if len(found) == limit:
                    return FoundEvents(events=found, next=recorded.position)
            if (seen := seen + page.seen) >= options.most_seen:
                return FoundEvents(events=found, next=page.end)
    return FoundEvents(events=found, next=None)


def follow_events(store: EventStore, search: EventSearch | None = None, *, last: int = 0) -> AsyncGenerator[Recorded]:
    """Iterate over the events that are looked for as they are appended, for ever.

    Args:
        store: where they are.
        search: which ones; by default all. With `after`, all of them behind that position come first.
        last: without `after`, events that there are already and that come first, at most.

    Raises:
        CorruptEventError: one of them does not match its checksum.
        HistoryChangedError: the log was set back to an older state.
        TenantMissingError: there are tenants, and this code does not run on behalf of all.
        StorageError: the database failed for good.
    """
    search = search or EventSearch()
    check_instance("search", search, EventSearch)
    check_whole("last", last)
    return _followed(store, portable(store), search, last)


async def _followed(store: EventStore, log: PortableLog, search: EventSearch, last: int) -> AsyncGenerator[Recorded]:
    after = search.after or await log.head()
    if last and not search.after:
        newest = replace(search, before=after + 1, newest_first=True)
        for recorded in reversed((await search_events(store, newest, limit=last)).events):
            yield recorded
    everything = EventStore(log, options=store.options)  # knows no classes: each event comes in its stored form
    subscription = everything.subscribe(search.query, stream_id=search.stream or None, after=after, unknown="raw")
    async for batch in subscription:
        for recorded in filter(search.matches, batch.events):
            yield recorded


def portable(store: EventStore) -> PortableLog:
    """Return the log of a store, which must be one that can be looked into.

    Raises:
        TypeError: it is of an engine that cannot be.
        TenantMissingError: there are tenants, and this code does not run on behalf of all.
    """
    check_instance("store", store, EventStore)
    log = store.log
    if not hasattr(log, "find_events"):
        raise TypeError(f"a {type(log).__name__} cannot be looked into: it is no `PortableLog`")
    return cast(PortableLog, log)


class _Range(NamedTuple):
    """The positions between which is searched, without both ends."""

    low: int
    high: int


class _Page(NamedTuple):
    rows: Rows
    end: int
    """The position up to which the search has come."""
    seen: int
    """How much was looked through for it."""


async def _range_of(log: PortableLog, search: EventSearch) -> _Range:
    head = await log.head()
    low, high = search.after, head + 1 if search.before is None else min(search.before, head + 1)
    if search.since is not None:
        low = max(low, await last_recorded_by(log, microseconds_of(search.since) - 1, head))
    if search.until is not None:
        high = min(high, await last_recorded_by(log, microseconds_of(search.until) - 1, head) + 1)
    return _Range(low, high)


def _pages(
    log: PortableLog, search: EventSearch, place: _Range, limit: int, options: InspectionOptions
) -> AsyncGenerator[_Page]:
    """Return the pages of rows that an index leads to, or a walk, in the order of the search."""
    if search.stream:
        return _pages_of_stream(log, search, place, options)
    if search.mentioned and search.query.is_all:
        return _pages_mentioning(log, search, place, limit, options)
    return _pages_along_index(log, search, place, options)


async def _pages_of_stream(
    log: PortableLog, search: EventSearch, place: _Range, options: InspectionOptions
) -> AsyncGenerator[_Page]:
    """Yield the rows of a stream: as one page, if the newest come first, as a stream is read forwards only."""

    async def follow(version: int, size: int) -> tuple[Rows, int]:
        rows = await log.read_stream(search.stream, after=version, limit=size)
        return rows, rows[-1].version if rows else version

    found = list[StoredEvent]()
    async with aclosing(chunks(follow, 0, _pace(options))) as all_chunks:
        async for chunk in all_chunks:
            rows = [row for row in chunk if place.low < row.position < place.high]
            if search.newest_first:
                found += rows
            elif rows:
                yield _Page(rows, rows[-1].position, len(chunk))
    if found:
        yield _Page(found[::-1], found[0].position, len(found))


async def _pages_along_index(
    log: PortableLog, search: EventSearch, place: _Range, options: InspectionOptions
) -> AsyncGenerator[_Page]:
    async def follow(place: _Range, size: int) -> tuple[Rows, _Range]:
        rows = await log.read(
            search.query, after=place.low, before=place.high, limit=size, backwards=search.newest_first
        )
        return rows, _rest(place, rows[-1].position, search) if rows else place

    async with aclosing(chunks(follow, place, _pace(options))) as all_chunks:
        async for rows in all_chunks:
            if rows:
                yield _Page(rows, rows[-1].position, len(rows))


async def _pages_mentioning(
    log: PortableLog, search: EventSearch, place: _Range, limit: int, options: InspectionOptions
) -> AsyncGenerator[_Page]:
    """Yield what the engine finds in slices of the log; the event that began it all does not name itself."""
    root = [] if search.correlation is None else await log.find_events([search.correlation.bytes])
    while place.low + 1 < place.high:
        low, high = _slice(place, search, options.slice)
        rows = list(
            await log.read_mentioning(
                search.mentioned, after=low, before=high, limit=limit, backwards=search.newest_first
            )
        )
        end = rows[-1].position if len(rows) == limit else low + 1 if search.newest_first else high - 1
        low, high = (end - 1, high) if search.newest_first else (low, end + 1)
        missing = [row for row in root if low < row.position < high and row not in rows]
        rows = sorted(rows + missing, key=attrgetter("position"), reverse=search.newest_first)
        yield _Page(rows, end, high - low - 1)
        place = _rest(place, end, search)


def _slice(place: _Range, search: EventSearch, size: int) -> _Range:
    if search.newest_first:
        return _Range(max(place.low, place.high - 1 - size), place.high)
    return _Range(place.low, min(place.high, place.low + 1 + size))


def _rest(place: _Range, end: int, search: EventSearch) -> _Range:
    return _Range(place.low, end) if search.newest_first else _Range(end, place.high)


def _pace(options: InspectionOptions) -> Pace:
    return Pace(max(options.page // 10, 1), options.page, options.page_bytes)
