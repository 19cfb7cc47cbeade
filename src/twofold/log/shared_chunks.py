"""Reading a long log once for those who go through it side by side: fifty new projections do not read it fifty times.

1. The first reader that comes to a place reads a chunk of all events that any reader near it wants.
2. The others take their parts of it when they come there. Before that, each proves by one look that the chunk is of
   the history that the log has now: the events at its own mark and at the end of its part stand there still.
3. A chunk is dropped when no reader stands in it any more. As few are kept at once, a reader that is far ahead of a
   slow one reads for itself.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable
from itertools import islice
from operator import attrgetter
from typing import NamedTuple
from weakref import WeakSet

from twofold.log.chunks import Pace, Rows
from twofold.log.query_check import NOTHING
from twofold.messages.event_query import EventQuery, QueryItem
from twofold.messages.mark import Mark
from twofold.options import LogOptions
from twofold.ports.event_log import EventLog, Scan, scanned
from twofold.ports.turns import Turns

_position = attrgetter("position")


class Place:
    """Where a reader of the log stands, and what it wants."""

    def __init__(self, query: EventQuery) -> None:
        self.types = None if query.is_all else frozenset(name for item in query.items for name in item.types)
        """The stored names of the types that it wants; None stands for all."""
        self.position = -1
        """Behind this it reads next; -1 before it has begun."""


class _Chunk(NamedTuple):
    after: int
    """Where it begins."""
    rows: Rows
    covered: Mark
    types: frozenset[str] | None
    """Of which types it has all events; None: of all."""

    def serves(self, place: Place, after: Mark) -> bool:
        """Return whether the next events of a reader stand in it."""
        wants_less = self.types is None or (place.types is not None and place.types <= self.types)
        return wants_less and self.after <= after.position < self.covered.position

    def part_of(self, place: Place, after: Mark, end: int, limit: int) -> Scan | None:
        """Return what it holds for a reader; None if it does not say how far that is seen."""
        first, last, covered = self._count(after.position), self._count(end), self.covered
        if covered.position > end:
            if first == last:
                return None
            covered = Mark(self.rows[last - 1].position, self.rows[last - 1].event_id)
        rows, types = islice(self.rows, first, last), place.types
        wanted = rows if types is None else (row for row in rows if row.type in types)
        return scanned(list(islice(wanted, limit)), limit, covered)

    def _count(self, position: int) -> int:
        """Return how many of its rows stand at most at a position."""
        return bisect_right(self.rows, position, key=_position)


class SharedChunks:
    """Reads chunks of a log for several readers of one process.

    Args:
        log: what is read.
        options: how a chunk begins to grow, how large it gets, and how many are kept.
    """

    def __init__(self, log: EventLog, options: LogOptions) -> None:
        self._log = log
        self._options = options
        self._places: WeakSet[Place] = WeakSet()
        self._chunks: list[_Chunk] = []
        self._pace = Pace(options.first_chunk, options.shared_chunk, options.chunk_bytes)
        self._turn = Turns()

    def join(self, place: Place) -> None:
        """Count a reader as long as its place lives."""
        self._places.add(place)

    async def scan(self, place: Place, after: Mark, end: int, limit: int) -> Scan | None:
        """Return what `EventLog.scan` returns for a reader; None if that had better ask the log by itself.

        Raises:
            HistoryChangedError: the log has another history than the mark is of.
            StorageError: the log failed.
        """
        if (found := await self._known(place, after, end, limit)) is not None:
            return found
        if len(self._chunks) >= self._options.shared_chunks or not (beside := self._beside(place, after)):
            return None
        async with self._turn:
            if not any(chunk.serves(place, after) for chunk in self._chunks):
                return await self._read([place, *beside], place, after, end, limit)
        return await self._known(place, after, end, limit)

    def drop_passed(self) -> None:
        """Drop the chunks in which no reader stands any more."""
        if self._chunks:
            at = [place.position for place in self._places]
            self._chunks = [each for each in self._chunks if any(each.after <= p < each.covered.position for p in at)]

    def _beside(self, place: Place, after: Mark) -> list[Place]:
        """Return the other readers that are near enough to share a chunk that begins at a mark."""
        span = self._options.shared_chunk
        return [
            each for each in self._places
            if each is not place and each.position >= 0 and abs(each.position - after.position) <= span
        ]  # fmt: skip

    async def _known(self, place: Place, after: Mark, end: int, limit: int) -> Scan | None:
        """Return a reader's part of a chunk that was read before, if the log still has its history."""
        chunk = next((each for each in self._chunks if each.serves(place, after)), None)
        part = chunk.part_of(place, after, end, limit) if chunk else None
        if chunk is None or part is None:
            return None
        proof = await self._log.scan(NOTHING, after=after, end=part.covered.position, limit=1)
        if proof.covered == part.covered:
            return part
        self._chunks = [each for each in self._chunks if each is not chunk]
        return None

    async def _read(self, places: Collection[Place], place: Place, after: Mark, end: int, limit: int) -> Scan | None:
        """Read the next chunk for readers that are near each other, and return the part of the one that asks."""
        types = _all_types(each.types for each in places)
        query = EventQuery.all() if types is None else EventQuery((QueryItem(tuple(sorted(types))),))
        scan = await self._log.scan(query, after=after, end=end, limit=min(limit * len(places), self._pace.size))
        self._pace.adapt(scan.rows)
        chunk = _Chunk(after.position, scan.rows, scan.covered, types)
        if scan.covered.position > after.position:
            self._chunks.append(chunk)
        return chunk.part_of(place, after, end, limit)


def _all_types(wanted: Iterable[frozenset[str] | None]) -> frozenset[str] | None:
    found: frozenset[str] = frozenset()
    for each in wanted:
        if each is None:
            return None
        found |= each
    return found
