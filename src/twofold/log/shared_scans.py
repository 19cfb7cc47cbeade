"""Reading the log once for all who follow it: fifty projections do not read an event fifty times.

1. A scan that begins near its end waits for one turn of the event loop; others of that turn join it.
2. One scan of all events, from the lowest mark on, reads for all of them.
3. Each gets the rows of its own query behind its own mark, and what these cover.
4. A reader that was alone, or whose part was not read, asks the log by itself. After an error all of them do: each gets
   the error that is about its own mark.

5. Far from its end, readers that go through the log side by side share chunks of it; see `SharedChunks`.
6. While nothing happens, those who stand at the same mark ask together for the `newest` one behind it.

The log is asked after all of them have asked: no answer is older than one of their own would be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from weakref import WeakSet

import msgspec

from twofold.errors import TwofoldError
from twofold.log.chunks import Pace, mark_at
from twofold.log.shared_chunks import Place, SharedChunks
from twofold.messages.event_query import EventQuery
from twofold.messages.mark import Mark
from twofold.messages.stored_event import StoredEvent
from twofold.options import LogOptions
from twofold.ports.event_log import EventLog, Scan, scanned

_decode_tags = msgspec.json.Decoder(list[str]).decode


class SharedScans:
    """Scans a log for several readers of one process, and reads once what they want at the same moment.

    Args:
        log: what is read.
        near: positions before its end from which on a scan is shared.
        options: how much is read at once: the large events may be those that no reader handles.
    """

    def __init__(self, log: EventLog, near: int, options: LogOptions | None = None) -> None:
        options = options or LogOptions()
        self._log = log
        self._near = near
        self._pace = Pace(options.first_chunk, near, options.chunk_bytes)
        self._readers: WeakSet[SharedReader] = WeakSet()
        self._chunks = SharedChunks(log, options)
        self._gathering: list[_Request] | None = None
        self._looking: dict[Mark, list[asyncio.Future[Mark | None]]] = {}
        """Those who wait until another one has asked for the newest mark behind theirs."""

    def reader(self, query: EventQuery) -> SharedReader:
        """Return what scans for one reader, which counts as long as it lives: with a single one, no scan waits."""
        reader = SharedReader(self, query)
        self._readers.add(reader)
        self._chunks.join(reader.place)
        return reader

    async def scan(self, place: Place, query: EventQuery, *, after: Mark, end: int | None = None, limit: int) -> Scan:
        """Return what `EventLog.scan` returns for a reader, and raise what it raises."""
        place.position = after.position
        found = await self._shared(place, query, after, end, limit) if end is not None else None
        if found is None:
            found = await self._log.scan(query, after=after, end=end, limit=limit)
        place.position = found.covered.position
        self._chunks.drop_passed()
        return found

    async def _shared(self, place: Place, query: EventQuery, after: Mark, end: int, limit: int) -> Scan | None:
        """Return what a reader gets of what several share; None if it has to ask by itself."""
        if len(self._readers) < 2 or end <= after.position:
            return None
        if end - after.position > self._near:
            return await self._chunks.scan(place, after, end, limit)
        return await self._scan_together(_Request(query, after, end, limit))

    async def _scan_together(self, request: _Request) -> Scan | None:
        """Return what a request gets of a scan for all that come in this turn; None if it has to ask by itself."""
        if self._gathering is None:
            await self._lead(request)
        else:
            self._gathering.append(request)
        return await request.answer

    async def newest(self, after: Mark) -> Mark:
        """Return the mark of the head in the history of another mark; those who ask in one turn share a look.

        Raises:
            HistoryChangedError: the log has another history than the mark is of.
            StorageError: the log failed.
        """
        if (sharing := self._looking.get(after)) is None:
            return await self._look(after)
        answer: asyncio.Future[Mark | None] = asyncio.get_running_loop().create_future()
        sharing.append(answer)
        return await answer or await mark_at(self._log, after)

    async def _look(self, after: Mark) -> Mark:
        """Ask for the newest mark on behalf of all who ask in this turn."""
        sharing, newest = self._looking.setdefault(after, []), None
        try:
            await asyncio.sleep(0)
            del self._looking[after]
            newest = await mark_at(self._log, after)
            return newest
        finally:  # after an error each finds out by itself what it means for its own mark
            if self._looking.get(after) is sharing:
                del self._looking[after]
            for each in sharing:
                if not each.done():
                    each.set_result(newest)

    async def _lead(self, request: _Request) -> None:
        """Gather the requests of one turn and answer them, as far as one scan can."""
        requests = self._gathering = [request]
        try:
            await asyncio.sleep(0)
            self._gathering = None
            if len(requests) > 1:
                await self._answer(requests)
        except TwofoldError:  # each finds out by itself what it means for its own mark
            pass
        finally:
            if self._gathering is requests:
                self._gathering = None
            for each in requests:
                each.give(None)

    async def _answer(self, requests: Sequence[_Request]) -> None:
        lowest = min((each.after for each in requests), key=lambda mark: mark.position)
        end, limit = max(each.end for each in requests), max(each.limit for each in requests)
        scan = await self._log.scan(EventQuery.all(), after=lowest, end=end, limit=min(limit, self._pace.size))
        self._pace.adapt(scan.rows)
        for each in requests:
            each.give(each.part_of(scan, lowest))


class SharedReader:
    """Scans a log for one of several readers.

    Args:
        scans: what they share.
        query: what this one wants.
    """

    def __init__(self, scans: SharedScans, query: EventQuery) -> None:
        self.place = Place(query)
        self._scans = scans

    async def scan(self, query: EventQuery, *, after: Mark, end: int | None = None, limit: int) -> Scan:
        """Return what `EventLog.scan` returns, and raise what it raises."""
        return await self._scans.scan(self.place, query, after=after, end=end, limit=limit)


class _Request:
    """One of the scans that are read together."""

    def __init__(self, query: EventQuery, after: Mark, end: int, limit: int) -> None:
        self.query = query
        self.after = after
        self.end = end
        self.limit = limit
        self.answer: asyncio.Future[Scan | None] = asyncio.get_running_loop().create_future()

    def give(self, scan: Scan | None) -> None:
        """Answer it, if it has no answer yet and is still waited for."""
        if not self.answer.done():
            self.answer.set_result(scan)

    def part_of(self, scan: Scan, lowest: Mark) -> Scan | None:
        """Return its part of a scan of all events behind the lowest mark; None if it has to ask by itself."""
        rows, first, last = scan.rows, lowest.position + 1, min(self.end, scan.covered.position)
        if last <= self.after.position or rows[-1].position - first != len(rows) - 1:
            return None
        known = lowest if self.after.position == lowest.position else _mark(rows[self.after.position - first])
        if known.event_id != self.after.event_id:  # also one that does not know its event: the log tells which it is
            return None
        matches = _matcher(self.query)
        found = [row for row in rows[self.after.position + 1 - first : last + 1 - first] if matches(row)]
        return scanned(found[: self.limit], self.limit, _mark(rows[last - first]))


def _mark(row: StoredEvent) -> Mark:
    return Mark(row.position, row.event_id)


def _matcher(query: EventQuery) -> Callable[[StoredEvent], bool]:
    """Return what tells whether a row matches a query; the tags are decoded only where they matter."""
    if query.is_all:
        return lambda row: True
    if any(item.tags for item in query.items):
        return lambda row: query.matches(row.type, _decode_tags(row.tags))
    types = {name for item in query.items for name in item.types}
    return lambda row: row.type in types
