"""States of long streams and of long decisions that a process keeps, up to a number of bytes.

A kept state is pickled: nothing that a handler does to its own copy changes it, and its size is known. It never leaves
the process. A state is kept only if its copy equals it: one that holds an object which is known by its identity alone,
such as a sentinel, is folded each time.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, NamedTuple

from twofold.log.folding.snapshots import Looked
from twofold.messages.event_query import EventQuery
from twofold.messages.stored_event import StoredEvent

Key = tuple[Hashable, str]
"""What folds a stream, and the stream."""
DecisionKey = tuple[bytes, EventQuery]
"""The fingerprint of what folds a decision, and its query."""

OVERHEAD = 500
"""Bytes, about, of the objects around a kept state. They count, or else many small states would take what they like."""


@dataclass(frozen=True)
class KeptState:
    """The state of a stream, and the event with which it ends."""

    last: StoredEvent
    pickled: bytes
    looked: Looked | None = None
    """What the look for a stored snapshot has found; None: states of this fold are not stored."""
    stored_at: int = 0
    """The version of the newest snapshot that this process has found or offered."""

    def __call__(self) -> Any:
        """Return the state, a new one each time."""
        return pickle.loads(self.pickled)  # noqa: S301 - see the module


class LastMatch(NamedTuple):
    """The last event that the state of a decision contains; a repeat in another history has another checksum."""

    position: int
    event_id: bytes
    checksum: int


@dataclass(frozen=True)
class KeptDecision:
    """The state of a decision, and the event with which it ends."""

    last: LastMatch
    pickled: bytes
    looked: Looked
    """What the look for a stored snapshot has found, and how often tags had been added to stored events by then."""
    unstored: int
    """Events that it contains, and the newest snapshot that is known does not."""

    def __call__(self) -> Any:
        """Return the state, a new one each time."""
        return pickle.loads(self.pickled)  # noqa: S301 - see the module


class KeptStates:
    """The states that were used last, up to a number of bytes.

    Args:
        most: bytes of all that are kept.
    """

    def __init__(self, most: int) -> None:
        self.cleared = 0
        """How often all were dropped: what was read before that is not kept behind it."""
        self._most = most
        self._states: OrderedDict[Key | DecisionKey, KeptState | KeptDecision] = OrderedDict()
        self._bytes = 0

    def of_stream(self, key: Key) -> KeptState | None:
        """Return the state that is kept of a stream."""
        kept = self._get(key)
        return kept if isinstance(kept, KeptState) else None

    def of_decision(self, key: DecisionKey) -> KeptDecision | None:
        """Return the state that is kept of a decision."""
        kept = self._get(key)
        return kept if isinstance(kept, KeptDecision) else None

    def keep(self, key: Key | DecisionKey, state: KeptState | KeptDecision) -> None:
        """Keep a state, and forget those that were not used for the longest time."""
        self.forget(key)
        self._states[key] = state
        self._bytes += _size(state)
        while self._bytes > self._most:
            self._bytes -= _size(self._states.popitem(last=False)[1])

    def clear(self) -> None:
        """Keep nothing: one of the states may hold personal data that is forgotten."""
        self._states.clear()
        self._bytes = 0
        self.cleared += 1

    def forget(self, key: Key | DecisionKey) -> None:
        """Keep nothing for a key."""
        if (kept := self._states.pop(key, None)) is not None:
            self._bytes -= _size(kept)

    def _get(self, key: Key | DecisionKey) -> KeptState | KeptDecision | None:
        if (kept := self._states.get(key)) is not None:
            self._states.move_to_end(key)
        return kept


def _size(kept: KeptState | KeptDecision) -> int:
    """Return how many bytes a kept state takes, about."""
    last = len(kept.last.payload) if isinstance(kept, KeptState) else 0
    return len(kept.pickled) + last + OVERHEAD


def copy_of(state: object) -> bytes | None:
    """Return a pickled copy of a state; None if it has no copy that equals it."""
    try:
        pickled = pickle.dumps(state, pickle.HIGHEST_PROTOCOL)
        is_equal = _values(pickle.loads(pickled)) == _values(state)  # noqa: S301 - what was pickled above
    except Exception:
        return None
    return pickled if is_equal else None


def _values(state: object) -> object:
    """Return what makes two states equal: those of aggregates, which are no values, by their attributes."""
    return vars(state) if type(state).__eq__ is object.__eq__ and hasattr(state, "__dict__") else state
