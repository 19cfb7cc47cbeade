"""Folding streams, without folding a long one again and again.

1. A load looks for a state of the stream that this process has kept; else it reads the stream, if it is short. If it
   is longer than a chunk, it looks for a stored snapshot.
2. It reads the event again with which that state ends, and those behind it. If another event stands there, the log is
   of another history, and the state is forgotten or refused.
3. It folds what stands behind the state, or else the whole stream. If that was much, it keeps the new state, and offers
   it to be stored.
4. The append expects the version of the last event that was read. So a state that is out of date costs a retry, and
   never leads to a wrong decision.

Events that a fold ignores are not read. The last event of the stream always is, since its version is the stream's, and
since it says whether the stream is tombstoned: then there is nothing to fold, as in a stream that never was. That a
stream is closed is not folded.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence
from contextlib import aclosing
from typing import Any, Protocol, TypeVar
from weakref import WeakValueDictionary

from twofold.log.chunks import Pace, Read, Rows, chunks, pace_of
from twofold.log.codec.event_types import EventTypes
from twofold.log.codec.mutable_fields import copied
from twofold.log.codec.stored_names import can_be_stored
from twofold.log.folding.kept_states import KeptState, KeptStates, Key, copy_of
from twofold.log.folding.snapshots import LastEvent, Looked, Plan, Snapshots, StoredState
from twofold.log.unit_of_work import StreamHistory, current_unit
from twofold.messages.endings import ENDINGS, StreamClosed, is_gone
from twofold.messages.event import RecordedEvent
from twofold.messages.stored_event import StoredEvent
from twofold.options import LogOptions
from twofold.ports.event_log import EventLog
from twofold.ports.turns import Turns

S = TypeVar("S")


class Fold(Protocol[S]):
    """How the events of a stream become a state."""

    @property
    def owner(self) -> Any:
        """What tells this fold from others, such as the class of an aggregate; hashable."""
        ...

    @property
    def name(self) -> str:
        """What it is called in snapshots, such as `aggregate Order`."""
        ...

    @property
    def ignored(self) -> Collection[str]:
        """The stored names of events that change nothing of the state, and are not read."""
        ...

    def begin(self) -> S:
        """Return the state before the first event."""
        ...

    def take(self, state: S, events: Sequence[RecordedEvent[Any]]) -> S:
        """Return the state after some more stored events; may change the one that is given."""
        ...

    def take_staged(self, state: S, events: Sequence[Any]) -> S:
        """Return the state after events that the command itself has appended, and that have no record yet."""
        ...

    def at(self, state: S, version: int) -> S:
        """Return the state with the version of its stream, for states that know theirs."""
        ...

    def plan(self) -> Plan:
        """Return how its states are stored.

        Raises:
            UnstorableStateError: they cannot be; the text names the remedy.
        """
        ...


class Streams:
    """Reads streams of events and folds them.

    Args:
        log: where they are.
        events: the classes of events that are known.
        snapshots: finds and stores states.
        options: how the log is read in chunks, and which states are kept.
        kept: the states that the process keeps.
    """

    def __init__(
        self, log: EventLog, events: EventTypes, snapshots: Snapshots, options: LogOptions, kept: KeptStates
    ) -> None:
        self._log = log
        self._events = events
        self._snapshots = snapshots
        self._options = options
        self._kept = kept
        self._folding: WeakValueDictionary[Key, Turns] = WeakValueDictionary()
        self._middling: OrderedDict[Key, None] = OrderedDict()
        """Streams of more than a chunk that were not long enough for a snapshot when they were read last."""

    async def fold(self, stream_id: str, fold: Fold[S]) -> tuple[S, int]:
        """Return the state and the version of a stream as the command that is being handled sees it.

        What the command has staged comes last.
        """
        await self._events._fetch_keys(())  # no kept state outlives what is forgotten
        unit, cleared = current_unit(), self._kept.cleared
        history = unit.reads.histories.get(stream_id) if unit else None
        if history is not None and _serves(history, fold):
            state = self._folded(stream_id, fold, history)
        else:
            history, state = await self._read(stream_id, fold)
            if cleared != self._kept.cleared:  # it may have been folded before
                self._kept.forget((fold.owner, stream_id))
            if unit and unit.is_open:
                first = unit.reads.histories.setdefault(stream_id, history)
                if first is not history and _serves(first, fold):  # another task of the command has read it, too
                    history, state = first, self._folded(stream_id, fold, first)
        if is_gone(history.last):
            return fold.begin(), 0
        staged = unit.staged(stream_id) if unit else ()
        if not staged:
            return state, history.version
        version = history.version + len(staged)
        told = [each for each in staged if type(each) is not StreamClosed]
        return fold.at(fold.take_staged(state, copied(told)), version), version

    async def state_at(
        self, stream_id: str, fold: Fold[S], version: int | None = None, *, position: int | None = None
    ) -> tuple[S, int]:
        """Return the state of a stream after one of its events, by default the last, and the version of that event.

        All events up to it are read and folded, a chunk at a time: no snapshot and no kept state is believed. What a
        command has staged is not folded.

        Args:
            stream_id: which stream.
            fold: what folds it.
            version: of the last event that is folded.
            position: of the log; events that stand behind it are not folded.
        """
        state, reached, is_behind = fold.begin(), 0, version == 0
        async with aclosing(chunks(self.reader(stream_id), 0, self._pace(), limit=version)) as all_chunks:
            while not is_behind and (chunk := await anext(all_chunks, None)) is not None:
                rows = [row for row in chunk if position is None or row.position <= position]
                state = fold.take(state, await self._decoded(rows, fold))
                reached = rows[-1].version if rows else reached
                if rows and is_gone(rows[-1]):
                    return fold.begin(), 0
                is_behind = len(rows) < len(chunk)
        return fold.at(state, reached), reached

    def not_read(self, fold: Fold[Any]) -> Collection[str]:
        """Return the stored names of events that a fold need not read: those that it ignores for certain.

        Upcasters may make of ignored ones what it takes.
        """
        sources = self._events.sources
        return tuple(each for each in fold.ignored if each not in sources) if sources else fold.ignored

    def reader(self, stream_id: str, without: Collection[str] = ()) -> Read[int]:
        """Return how to read a stream in chunks, by versions, without events of some types."""

        async def follow(version: int, size: int) -> tuple[Rows, int]:
            rows = await self._rows(stream_id, version, size, without)
            return rows, rows[-1].version if rows else version

        return follow

    async def _read(self, stream_id: str, fold: Fold[S]) -> tuple[StreamHistory, S]:
        """Return what is stored of a stream, behind a state if there is one, and the state to which that leads."""
        key: Key = fold.owner, stream_id
        if history := await self._behind_kept(key, fold):
            return history, self._folded(stream_id, fold, history)
        pace = self._pace()
        rows = await self._begun(key, fold, pace.size)
        if rows is not None and len(rows) < pace.size:  # most streams are one chunk, which is read without an iterator
            history = _history(fold, await self._decoded(rows, fold), rows[-1] if rows else None)
            return history, self._folded(stream_id, fold, history)
        async with self._folding.setdefault(key, Turns()):  # of those that want it at once, one reads all of it
            history = await self._behind_kept(key, fold) or await self._read_long(stream_id, fold, rows, pace)
            return history, self._folded(stream_id, fold, history)

    async def _begun(self, key: Key, fold: Fold[Any], size: int) -> Rows | None:
        """Return the first chunk of a stream; None if it has more, and its fold may begin with a snapshot instead.

        Of a fold that ignores events, the length of the stream does not say how many it takes.
        """
        stream_id = key[1]
        if fold.ignored or key in self._middling or not self._snapshots.may_hold(fold.owner):
            return await self._rows(stream_id, 0, size, self.not_read(fold))
        return await self._snapshots.read_short(stream_id, size) if can_be_stored(stream_id) else ()

    async def _behind_kept(self, key: Key, fold: Fold[Any]) -> StreamHistory | None:
        """Return what is stored behind the state that is kept; None if none is, or if the log has another history."""
        if (kept := self._kept.of_stream(key)) is None:
            return None
        if (tail := await self._tail(key[1], fold, kept.last)) is None:
            self._kept.forget(key)
            return None
        return _history(fold, *tail, kept, kept.looked, kept.stored_at)

    async def _read_long(self, stream_id: str, fold: Fold[Any], begun: Rows | None, pace: Pace) -> StreamHistory:
        """Return what is stored behind a stored snapshot, or else all of a stream; a chunk may have been read."""
        looked, key = None, (fold.owner, stream_id)
        if key not in self._middling and (plan := self._snapshots.plan(fold.owner, fold.name, fold.plan)):
            looked = await self._snapshots.find(plan, stream_id)
            if (stored := looked.state) is not None:
                if tail := await self._tail(stream_id, fold, stored.last):
                    self._snapshots.used()
                    return _history(fold, *tail, stored, looked, stored.last.version)
                looked = self._snapshots.refuse(looked)
        events, last = await self._rest(stream_id, fold, begun or (), pace)
        self._middling.pop(key, None)
        if len(events) <= self._options.short_stream:
            self._middling[key] = None
            if len(self._middling) > self._options.fold_plans:
                self._middling.popitem(last=False)
        return _history(fold, events, last, looked=looked)

    async def _tail(
        self, stream_id: str, fold: Fold[Any], known: LastEvent
    ) -> tuple[list[RecordedEvent[Any]], StoredEvent | None] | None:
        """Return what stands behind a known event, and the last event; None if another one stands in its place."""
        pace = self._pace()
        rows = await self._rows(stream_id, known.version - 1, pace.size, self.not_read(fold))
        if not rows or not _is_same(known, rows[0]):
            return None
        if len(rows) < pace.size:
            return await self._decoded(rows[1:], fold), rows[-1]
        return await self._rest(stream_id, fold, rows, pace, skip=1)

    def _folded(self, stream_id: str, fold: Fold[S], history: StreamHistory) -> S:
        """Return the state to which a history leads, and keep it, if folding that history again would take long."""
        state: S = fold.begin() if history.state is None else history.state()
        events = history.events
        if fold.ignored:  # a conflict brings them all, and so does a fold that ignores none
            events = [each for each in events if each.type not in fold.ignored]
        if events:
            state = fold.take(state, events)
        state = fold.at(state, history.version)
        if history.last is not None:
            self._keep_if_long(stream_id, fold, state, history, history.last)
        return state

    def _keep_if_long(
        self, stream_id: str, fold: Fold[Any], state: object, history: StreamHistory, last: StoredEvent
    ) -> None:
        """Keep the state that a history leads to, if folding that history again would take long; and let it be stored.

        What was found stored is kept in any case: the next load then need not look for it.
        """
        few = self._options.short_stream if history.state is None else self._options.short_tail
        if len(history.events) <= few and (history.state is None or isinstance(history.state, KeptState)):
            return
        self._kept.forget(key := (fold.owner, stream_id))
        if (pickled := copy_of(state)) is None:
            return
        looked, stored_at = history.looked, history.stored_at
        looked = looked if isinstance(looked, Looked) else None
        plan = self._snapshots.plan(fold.owner, fold.name, fold.plan) if looked is not None else None
        if looked and plan and last.version - stored_at > self._options.snapshot_every:
            self._snapshots.offer(plan, stream_id, last, pickled, looked)
            looked, stored_at = looked._replace(useless=None), last.version
        looked = looked and looked._replace(state=None)  # the snapshot itself is not needed any more
        self._kept.keep(key, KeptState(last, pickled, looked, stored_at))

    async def _rest(
        self, stream_id: str, fold: Fold[Any], begun: Rows, pace: Pace, *, skip: int = 0
    ) -> tuple[list[RecordedEvent[Any]], StoredEvent | None]:
        """Return the events of a chunk that was read, but for the first ones, and all behind them; and the last one."""
        found, last = list[RecordedEvent[Any]](), begun[-1] if begun else None
        read = self.reader(stream_id, self.not_read(fold))
        async with aclosing(chunks(read, last.version if last else 0, pace, begun=begun)) as all_chunks:
            async for chunk in all_chunks:
                found += await self._decoded(chunk[skip:], fold)
                last, skip = chunk[-1] if chunk else last, 0
        return found, last

    async def _decoded(self, rows: Rows, fold: Fold[Any]) -> list[RecordedEvent[Any]]:
        await self._events._fetch_keys(rows)
        return taken(self._events, rows, fold)

    def _pace(self) -> Pace:
        return pace_of(self._log, self._options)

    async def _rows(self, stream_id: str, version: int, size: int, without: Collection[str]) -> Rows:
        if not can_be_stored(stream_id):  # such as an id that a client has made up: no log holds such a stream
            return ()
        if not without:
            return await self._log.read_stream(stream_id, after=version, limit=size)
        return await self._log.read_stream(stream_id, after=version, limit=size, without=tuple(without))


def taken(events: EventTypes, rows: Rows, fold: Fold[Any]) -> list[RecordedEvent[Any]]:
    """Return rows of a stream as the events that a fold takes."""
    while rows and rows[-1].type in ENDINGS:
        rows = rows[:-1]
    if not fold.ignored:
        return events.decode(rows)
    kept = [row for row in rows if row.type not in fold.ignored or row.type in events.sources]
    return [each for each in events.decode(kept) if each.type not in fold.ignored]


def events_of(records: Sequence[RecordedEvent[Any]]) -> Sequence[Any]:
    """Return the events of records, in which a fold cannot change what the next attempt of a command folds."""
    return copied([each.event for each in records])


def _history(
    fold: Fold[Any],
    events: list[RecordedEvent[Any]],
    last: StoredEvent | None,
    state: KeptState | StoredState | None = None,
    looked: Looked | None = None,
    stored_at: int = 0,
) -> StreamHistory:
    return StreamHistory(fold.owner, events, last, state, looked, stored_at, bool(fold.ignored))


def _is_same(known: LastEvent, row: StoredEvent) -> bool:
    """Return whether a row is the event that was there: a repeat in another history has another checksum."""
    return (row.version, row.event_id, row.checksum) == (known.version, known.event_id, known.checksum)


def _serves(history: StreamHistory, fold: Fold[Any]) -> bool:
    """Return whether a fold can go on from a history: it may be that of another one, which ignores other events."""
    return history.owner == fold.owner or (history.state is None and not history.is_partial)
