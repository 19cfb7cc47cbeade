"""Decision models: state folded from an event query for one decision (a dynamic consistency boundary)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any, Generic, TypeVar

from twofold.messages.event import RecordedEvent
from twofold.messages.event_query import AppendCondition, EventQuery

S = TypeVar("S")


@dataclass(frozen=True, kw_only=True)
class DecisionModel(Generic[S]):
    """What one decision needs to know, and from which events it follows.

    The boundary is the query: the decision holds as long as no further event matches it.
    """

    query: EventQuery
    initial_state: S
    evolve: Callable[[S, RecordedEvent[Any]], S]
    """Fold one matching event into the state; pure."""

    def fold(self, events: Iterable[RecordedEvent[Any]]) -> S:
        """Return the state after these events; those that the query does not match are passed over."""
        state = self.initial_state
        for recorded in events:
            if self.query.matches(recorded.type, recorded.tags):
                state = self.evolve(state, recorded)
        return state


def combine(*models: DecisionModel[Any]) -> DecisionModel[tuple[Any, ...]]:
    """Make one model of several: one read, one condition, and a tuple of their states.

    Raises:
        ValueError: there is no model.
    """
    if not models:
        raise ValueError("combine at least one decision model")

    def evolve(states: tuple[Any, ...], recorded: RecordedEvent[Any]) -> tuple[Any, ...]:
        type_name, tags = recorded.type, recorded.tags
        return tuple(
            model.evolve(state, recorded) if model.query.matches(type_name, tags) else state
            for model, state in zip(models, states, strict=True)
        )

    return DecisionModel(
        query=reduce(or_, (model.query for model in models)),
        initial_state=tuple(model.initial_state for model in models),
        evolve=evolve,
    )


@dataclass(frozen=True)
class Decision(Generic[S]):
    """A folded state, and the condition under which what is decided on it may be appended."""

    state: S
    condition: AppendCondition
