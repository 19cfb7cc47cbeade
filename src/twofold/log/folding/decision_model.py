"""Decision models: state folded from an event query for one decision (a dynamic consistency boundary)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import or_
from typing import Any, Generic, TypeVar, overload

from twofold.arguments import check_function, check_instance, check_items, check_iterable
from twofold.log.codec.mutable_values import is_mutable
from twofold.log.folding.state_form import returned_type
from twofold.messages.event import RecordedEvent
from twofold.messages.event_methods import fold_parameters
from twofold.messages.event_query import AppendCondition, EventQuery

S = TypeVar("S")
S1 = TypeVar("S1")
S2 = TypeVar("S2")
S3 = TypeVar("S3")
S4 = TypeVar("S4")
S5 = TypeVar("S5")

Fold = Callable[[S, RecordedEvent[Any]], S]


@dataclass(frozen=True, kw_only=True)
class DecisionModel(Generic[S]):
    """What one decision needs to know, and from which events it follows.

    The boundary is the query: the decision holds as long as no further event matches it.

    Raises:
        TypeError: `evolve` takes other parameters than these, or `initial_state` can be changed.
    """

    query: EventQuery
    initial_state: S
    evolve: Callable[..., S]
    """Fold one matching event into the state; pure: `evolve(state, event)`.

    A parameter that is named `recorded`, or annotated with `RecordedEvent`, gets the event with its record; it may
    stand instead of the event or behind it.
    """
    require: Callable[[S], object] | None = None
    """Raise an error of the domain if the folded state forbids the decision; by default every state allows it."""
    state_type: Any = None
    """The type of the states, with which they are stored as snapshots; by default what `evolve` says it returns, or the
    type of the initial state."""

    def __post_init__(self) -> None:
        check_instance("query", self.query, EventQuery, "such as EventQuery.of(OrderCreated)")
        check_function("evolve", self.evolve)
        if self.require is not None:
            check_function("require", self.require)
        self._fold  # noqa: B018 - a wrong signature is refused here
        if self.state_type is None:
            object.__setattr__(self, "state_type", returned_type(self.evolve, self.initial_state))
        if is_mutable(self.initial_state):
            kind = type(self.initial_state).__name__
            raise TypeError(
                f"initial_state is a {kind}, which one decision could change for the next; use a value that cannot "
                f"change, such as a tuple, a frozenset or a frozen dataclass, and let evolve return a new one"
            )

    def fold(self, events: Iterable[RecordedEvent[Any]]) -> S:
        """Return the state after these events; those that the query does not match are left out.

        Raises:
            Exception: whatever `require` raises.
        """
        check_iterable("events", events)
        return self._folded(self.initial_state, events)

    def _folded(self, state: S, events: Iterable[RecordedEvent[Any]], *, checked: bool = True) -> S:
        """Return the state after some more events, and raise what `require` raises, unless it is only to be stored."""
        fold = self._fold
        for recorded in events:
            if self.query.wants(recorded.type, recorded.tags):
                state = fold(state, recorded)
        if self.require is not None and checked:
            self.require(state)
        return state

    @cached_property
    def _fold(self) -> Fold[S]:
        return _as_fold(self.evolve)


def _as_fold(evolve: Callable[..., S]) -> Fold[S]:
    """Return `evolve` as a function of a state and a recorded event."""
    names, record = parameters = fold_parameters(evolve)
    count = len(parameters.others)
    if record is None and count == 2:
        return lambda state, recorded: evolve(state, recorded.event)
    if record is not None and count == 1 and names[1] == record:
        return evolve
    if record is not None and count == 2 and names[-1] == record:
        return lambda state, recorded: evolve(state, recorded.event, **{record: recorded})
    name = getattr(evolve, "__qualname__", repr(evolve))
    takes = f"`evolve`: {name} takes ({parameters.text})"
    raise TypeError(f"{takes}; write evolve(state, event) or evolve(state, event, recorded)")


@overload
def combine(a: DecisionModel[S1], /) -> DecisionModel[tuple[S1]]: ...
@overload
def combine(a: DecisionModel[S1], b: DecisionModel[S2], /) -> DecisionModel[tuple[S1, S2]]: ...
@overload
def combine(
    a: DecisionModel[S1], b: DecisionModel[S2], c: DecisionModel[S3], /
) -> DecisionModel[tuple[S1, S2, S3]]: ...
@overload
def combine(
    a: DecisionModel[S1], b: DecisionModel[S2], c: DecisionModel[S3], d: DecisionModel[S4], /
) -> DecisionModel[tuple[S1, S2, S3, S4]]: ...
@overload
def combine(
    a: DecisionModel[S1], b: DecisionModel[S2], c: DecisionModel[S3], d: DecisionModel[S4], e: DecisionModel[S5], /
) -> DecisionModel[tuple[S1, S2, S3, S4, S5]]: ...
@overload
def combine(*models: DecisionModel[S]) -> DecisionModel[tuple[S, ...]]: ...
def combine(*models: DecisionModel[Any]) -> DecisionModel[Any]:
    """Make one model of several: one read, one condition, and a tuple of their states.

    Raises:
        ValueError: there is no model.
    """
    check_items("models", models, lambda each: isinstance(each, DecisionModel), "decision models")
    if not models:
        raise ValueError("combine at least one decision model")
    folds = [(model.query, model._fold) for model in models]

    def evolve(states: tuple[Any, ...], recorded: RecordedEvent[Any]) -> tuple[Any, ...]:
        type_name, tags = recorded.type, recorded.tags
        return tuple(
            fold(state, recorded) if query.wants(type_name, tags) else state
            for (query, fold), state in zip(folds, states, strict=True)
        )

    def require(states: tuple[Any, ...]) -> None:
        for model, state in zip(models, states, strict=True):
            if model.require is not None:
                model.require(state)

    types = tuple(model.state_type for model in models)
    return DecisionModel(
        query=reduce(or_, (model.query for model in models)),
        initial_state=tuple(model.initial_state for model in models),
        evolve=evolve,
        require=require,
        state_type=tuple[types] if None not in types else None,  # type: ignore[valid-type]
    )


@dataclass(frozen=True)
class Decision(Generic[S]):
    """A folded state, and the condition under which what is decided on it may be appended."""

    state: S
    condition: AppendCondition
