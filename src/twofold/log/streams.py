"""Folding streams, without folding a long one again and again.

1. A load looks for a state of the stream that this process has kept, and for the event with which that state ends.
2. It reads this event again, and those behind it. If another event stands there, the log is of another history, and the
   state is forgotten.
3. It folds what stands behind the state, or else the whole stream. If that was much, it keeps the new state.
4. The append expects the version of the last event that was read. So a state that is out of date costs a retry, and
   never leads to a wrong decision.

A kept state is pickled: nothing that a handler does to its own copy changes it, and its size is known. It never leaves
the process. A state is kept only if its copy equals it: one that holds an object which is known by its identity alone,
such as a sentinel, is folded each time.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from weakref import WeakValueDictionary

from twofold.log.chunks import Pace, Read, Rows, chunks
from twofold.log.codec.event_types import EventTypes
from twofold.log.codec.mutable_fields import copied
from twofold.log.codec.stored_names import can_be_stored
from twofold.log.unit_of_work import StreamHistory, current_unit
from twofold.messages.event import RecordedEvent
from twofold.options import LogOptions
from twofold.ports.event_log import EventLog
from twofold.ports.turns import Turns

S = TypeVar("S")
Key = tuple[Hashable, str]
"""What folds a stream, and the stream."""


class Fold(Protocol[S]):
    """How the events of a stream become a state."""

    @property
    def owner(self) -> Any:
        """What tells this fold from others, such as the class of an aggregate; hashable."""
        ...

    def begin(self) -> S:
        """Return the state before the first event."""
        ...

    def take(self, state: S, events: Sequence[Any]) -> S:
        """Return the state after some more events; may change the one that is given."""
        ...


@dataclass(frozen=True)
class KeptState:
    """The state of a stream at a version, and the event that stands there."""

    version: int
    event_id: Any
    pickled: bytes


class Streams:
    """Reads streams of events and folds them.

    Args:
        log: where they are.
        events: the classes of events that are known.
        options: how the log is read in chunks, and which states are kept.
    """

    def __init__(self, log: EventLog, events: EventTypes, options: LogOptions) -> None:
        self._log = log
        self._events = events
        self._options = options
        self._kept = KeptStates(options.kept_states)
        self._folding: WeakValueDictionary[Key, Turns] = WeakValueDictionary()

    async def fold(self, stream_id: str, fold: Fold[S]) -> tuple[S, int]:
        """Return the state and the version of a stream as the command that is being handled sees it.

        What the command has staged comes last.
        """
        unit = current_unit()
        history = unit.reads.histories.get(stream_id) if unit else None
        if history is not None and _serves(history, fold):
            state = self._folded(stream_id, fold, history)
        else:
            history, state = await self._read(stream_id, fold)
            if unit and unit.is_open:
                first = unit.reads.histories.setdefault(stream_id, history)
                if first is not history and _serves(first, fold):  # another task of the command has read it, too
                    history, state = first, self._folded(stream_id, fold, first)
        staged = unit.staged(stream_id) if unit else ()
        return (fold.take(state, copied(staged)) if staged else state), history.version + len(staged)

    def reader(self, stream_id: str) -> Read[int]:
        """Return how to read a stream in chunks, by versions."""

        async def follow(version: int, size: int) -> tuple[Rows, int]:
            rows = await self._rows(stream_id, version, size)
            return rows, rows[-1].version if rows else version

        return follow

    async def _read(self, stream_id: str, fold: Fold[S]) -> tuple[StreamHistory, S]:
        """Return what is stored of a stream, behind a state if one is kept, and the state to which that leads."""
        key: Key = fold.owner, stream_id
        if history := await self._behind_kept(key):
            return history, self._folded(stream_id, fold, history)
        pace = self._pace()
        rows = await self._rows(stream_id, 0, pace.size)
        if len(rows) < pace.size:  # most streams are one chunk, which is read without an iterator
            history = StreamHistory(fold.owner, self._events.decode(rows))
            return history, self._folded(stream_id, fold, history)
        async with self._folding.setdefault(key, Turns()):  # of those that want it at once, one reads all of it
            history = await self._behind_kept(key) or StreamHistory(fold.owner, await self._rest(stream_id, rows, pace))
            return history, self._folded(stream_id, fold, history)

    async def _behind_kept(self, key: Key) -> StreamHistory | None:
        """Return what is stored behind the state that is kept; None if none is, or if the log has another history."""
        if (kept := self._kept.get(key)) is None:
            return None
        owner, stream_id = key
        pace = self._pace()
        rows = await self._rows(stream_id, kept.version - 1, pace.size)
        found = self._events.decode(rows) if len(rows) < pace.size else await self._rest(stream_id, rows, pace)
        if not found or found[0].event_id != kept.event_id:
            self._kept.forget(key)
            return None
        return StreamHistory(owner, found[1:], kept.version, kept.pickled)

    def _folded(self, stream_id: str, fold: Fold[S], history: StreamHistory) -> S:
        """Return the state to which a history leads, and keep it, if folding that history again would take long."""
        state: S = fold.begin() if history.state is None else pickle.loads(history.state)  # noqa: S301 - see the module
        if history.events:
            events = copied([recorded.event for recorded in history.events])  # the next attempt folds the same history
            state = fold.take(state, events)
        self._keep_if_long((fold.owner, stream_id), state, history)
        return state

    def _keep_if_long(self, key: Key, state: object, history: StreamHistory) -> None:
        """Keep the state that a history leads to, if folding that history again would take long."""
        few = self._options.short_stream if history.state is None else self._options.short_tail
        if len(history.events) > few:
            self._kept.keep(key, history.version, history.events[-1].event_id, state)

    async def _rest(self, stream_id: str, begun: Rows, pace: Pace) -> list[RecordedEvent[Any]]:
        """Return the events of a chunk that was read, and all behind them."""
        found: list[RecordedEvent[Any]] = []
        async with aclosing(chunks(self.reader(stream_id), begun[-1].version, pace, begun=begun)) as all_chunks:
            async for chunk in all_chunks:
                found += self._events.decode(chunk)
        return found

    def _pace(self) -> Pace:
        return Pace(self._options.first_chunk, self._options.chunk, self._options.chunk_bytes)

    async def _rows(self, stream_id: str, version: int, size: int) -> Rows:
        if not can_be_stored(stream_id):  # such as an id that a client has made up: no log holds such a stream
            return ()
        return await self._log.read_stream(stream_id, after=version, limit=size)


def _serves(history: StreamHistory, fold: Fold[Any]) -> bool:
    """Return whether a fold can go on from a history: its state may be that of another one."""
    return history.state is None or history.owner == fold.owner


class KeptStates:
    """The states that were used last, up to a number of bytes.

    Args:
        most: bytes of all that are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._states: OrderedDict[Key, KeptState] = OrderedDict()
        self._bytes = 0

    def get(self, key: Key) -> KeptState | None:
        """Return the state that is kept for a key."""
        if (kept := self._states.get(key)) is not None:
            self._states.move_to_end(key)
        return kept

    def keep(self, key: Key, version: int, event_id: Any, state: object) -> None:
        """Keep a state, if it can be copied, and forget those that were not used for the longest time."""
        self.forget(key)
        try:
            pickled = pickle.dumps(state, pickle.HIGHEST_PROTOCOL)
            is_equal = _values(pickle.loads(pickled)) == _values(state)  # noqa: S301 - see the module
        except Exception:
            return
        if not is_equal:
            return
        self._states[key] = KeptState(version, event_id, pickled)
        self._bytes += len(pickled)
        while self._bytes > self._most:
            self._bytes -= len(self._states.popitem(last=False)[1].pickled)

    def forget(self, key: Key) -> None:
        """Keep nothing for a key."""
        if (kept := self._states.pop(key, None)) is not None:
            self._bytes -= len(kept.pickled)


def _values(state: object) -> object:
    """Return what makes two states equal: those of aggregates, which are no values, by their attributes."""
    return vars(state) if type(state).__eq__ is object.__eq__ and hasattr(state, "__dict__") else state
