"""Deciders, aggregates and decision models, as they are explored."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from twofold.commands.aggregate import Aggregate
from twofold.commands.decider import Decider
from twofold.errors import InvalidEventError
from twofold.log.codec.event_types import EventTypes
from twofold.log.folding.decision_model import DecisionModel
from twofold.testing.exploration.identity import identity_of
from twofold.testing.exploration.search import BrokenError, Commands
from twofold.testing.scenarios.deciding import act
from twofold.testing.scenarios.history import History
from twofold.testing.scenarios.outcome import Action
from twofold.testing.scenarios.report import shown


class ExploredDecider:
    """A decider; its states are what it says."""

    refusals: type[Exception] = Exception

    def __init__(self, decider: Decider[Any, Any, Any]) -> None:
        self._decider = decider

    def start(self) -> Any:
        return self._decider.initial_state()

    def views(self, state: Any) -> Sequence[Any]:
        return (state,)

    def inputs(self, state: Any, commands: Commands) -> Iterable[Any]:
        return commands(state)

    def take(self, state: Any, command: Any) -> tuple[Any, Sequence[Any]]:
        events = tuple(self._decider.decide(command, state))
        for event in events:
            if not isinstance(event, self._decider.events):
                raise BrokenError(f"led to {event!r}, whose class is none of the decider's `events`")
            state = _folded(event, self._decider.evolve, state, event)
        return state, events

    def identity(self, state: Any) -> Hashable:
        return identity_of(state)

    def told(self, state: Any) -> str:
        return shown(state)


class ExploredAggregate:
    """A class of aggregates. A state is made of its events each time, as an aggregate changes in place."""

    refusals: type[Exception] = Exception

    def __init__(self, aggregate_type: type[Aggregate], id: str) -> None:
        self._type, self._id = aggregate_type, id

    def start(self) -> tuple[Any, ...]:
        return ()

    def views(self, state: tuple[Any, ...]) -> Sequence[Aggregate]:
        return (self._type.from_history(self._id, state),)

    def inputs(self, state: tuple[Any, ...], commands: Commands) -> Iterable[Action]:
        return map(Action, commands(self.views(state)[0]))

    def take(self, state: tuple[Any, ...], command: Action) -> tuple[Any, Sequence[Any]]:
        try:
            events = act(self.views(state)[0], command)
        except InvalidEventError as error:
            raise BrokenError(f"recorded what it cannot fold: {error}") from error
        return (*state, *events), events

    def identity(self, state: tuple[Any, ...]) -> Hashable:
        return identity_of(self._values(state))

    def told(self, state: tuple[Any, ...]) -> str:
        said = ", ".join(f"{name}={value!r}" for name, value in sorted(self._values(state).items()))
        return f"{self._type.__name__}({said})"

    def _values(self, state: tuple[Any, ...]) -> dict[str, Any]:
        """Return what makes the aggregate up: its own values, and those of its class that it has not changed."""
        aggregate = self.views(state)[0]
        classes = [
            each for each in reversed(self._type.__mro__) if issubclass(each, Aggregate) and each is not Aggregate
        ]
        names = {name for each in classes for name, value in vars(each).items() if not _is_code(name, value)}
        return {name: getattr(aggregate, name) for name in names | vars(aggregate).keys() - _OF_ALL}


class ExploredDecision:
    """A decision model, and what follows from it. Its states are what it says after the events so far."""

    refusals: type[Exception] = Exception

    def __init__(self, model: DecisionModel[Any], decide: Callable[[Any, Any], Sequence[object]]) -> None:
        self._model, self._decide = model, decide
        self._fold = replace(model, require=None).fold
        self._types = EventTypes()

    def start(self) -> tuple[Any, History]:
        return self._model.initial_state, History()

    def views(self, state: tuple[Any, History]) -> Sequence[Any]:
        return state[:1]

    def inputs(self, state: tuple[Any, History], commands: Commands) -> Iterable[Any]:
        return commands(state[0])

    def take(self, state: tuple[Any, History], command: Any) -> tuple[Any, Sequence[Any]]:
        known, history = state
        if self._model.require is not None:
            self._model.require(known)
        events = tuple(self._decide(command, known))
        after = history.add(events)
        recorded = after.recorded(self._types)
        return (_folded(events, self._fold, recorded), after), events

    def identity(self, state: tuple[Any, History]) -> Hashable:
        return identity_of(state[0])

    def told(self, state: tuple[Any, History]) -> str:
        return shown(state[0])


_OF_ALL = {"id", "version", "_uncommitted"}
"""What every aggregate has, and what is no part of its state."""


def _is_code(name: str, value: object) -> bool:
    return name.startswith("__") or name in ("_methods", "stream_type") or callable(value) or hasattr(value, "__get__")


def _folded(what: object, fold: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return fold(*arguments)
    except Exception as error:
        raise BrokenError(f"led to {what!r}, which `evolve` does not take") from error
