"""The methods of a process, found by the input that they take."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twofold.errors import InvalidProcessError
from twofold.processes.process import Process
from twofold.processes.triggers import CancelTimer, SetTimer, Trigger, TriggerKind


class Methods:
    """Finds and calls the methods of a process. They are not the class's own, where a user's names could hide them.

    Args:
        process: whose.
    """

    def __init__(self, process: Process[Any]) -> None:
        self._process = process
        self._declaration = process._declaration

    def ids(self, event: Any) -> tuple[str, ...]:
        """Return the ids of the instances that an event is about.

        Raises:
            Exception: whatever a `key` of the process's own raises.
        """
        return tuple(dict.fromkeys(self._declaration.keys[type(event)](event)))

    def trigger(self, kind: TriggerKind, of: Any) -> Trigger | None:
        """Return how an input is declared; None if no handler takes it."""
        found = self._handler(kind, of)
        return found[1] if found else None

    def evolve(self, kind: TriggerKind, of: Any, state: Any, *inputs: Any) -> Any:
        """Return the state after an input."""
        name = self._fold(kind, of)
        if name is None:
            return state
        after_it = getattr(self._process, name)(state, *inputs)
        if after_it is None and state is not None:
            raise InvalidProcessError(
                f"{type(self._process).__qualname__}.{name} returned None; let it return the next state"
            )
        return after_it

    def evolves(self, kind: TriggerKind, of: Any) -> bool:
        """Return whether an input is folded into the state."""
        return self._fold(kind, of) is not None

    def react(self, kind: TriggerKind, of: Any, state: Any, *inputs: Any) -> list[Any]:
        """Return what follows from an input: commands, timers to be set and to be cancelled.

        Raises:
            InvalidProcessError: the handler gave no sequence.
            Exception: whatever the handler raises.
        """
        found = self._handler(kind, of)
        if found is None:
            return []
        given = getattr(self._process, found[0])(state, *inputs)
        if not isinstance(given, Iterable) or isinstance(given, str | SetTimer | CancelTimer):
            where = f"{type(self._process).__qualname__}.{found[0]}"
            raise InvalidProcessError(
                f"{where} returned {given!r}; `yield` each thing that follows, or `return ()` if nothing does"
            )
        return list(given)

    def _handler(self, kind: TriggerKind, of: Any) -> tuple[str, Trigger] | None:
        handlers = self._declaration.handlers
        return handlers.get((kind, of)) or handlers.get((kind, None))

    def _fold(self, kind: TriggerKind, of: Any) -> str | None:
        folds = self._declaration.folds
        return folds.get((kind, of)) or folds.get((kind, None))
