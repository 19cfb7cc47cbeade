"""States of long streams that a process keeps, up to a number of bytes.

A kept state is pickled: nothing that a handler does to its own copy changes it, and its size is known. It never leaves
the process. A state is kept only if its copy equals it: one that holds an object which is known by its identity alone,
such as a sentinel, is folded each time.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from twofold.log.folding.snapshots import Looked
from twofold.messages.stored_event import StoredEvent

Key = tuple[Hashable, str]
"""What folds a stream, and the stream."""


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

    def keep(self, key: Key, state: KeptState) -> None:
        """Keep a state, and forget those that were not used for the longest time."""
        self.forget(key)
        self._states[key] = state
        self._bytes += len(state.pickled)
        while self._bytes > self._most:
            self._bytes -= len(self._states.popitem(last=False)[1].pickled)

    def clear(self) -> None:
        """Keep nothing."""
        self._states.clear()
        self._bytes = 0

    def forget(self, key: Key) -> None:
        """Keep nothing for a key."""
        if (kept := self._states.pop(key, None)) is not None:
            self._bytes -= len(kept.pickled)


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
