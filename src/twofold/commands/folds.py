"""How aggregates and deciders fold their streams, and how their states are stored."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import Any, Generic, TypeVar

from twofold.commands.aggregate import Aggregate
from twofold.commands.decider import Decider
from twofold.log.folding.fingerprint import fold_fingerprint
from twofold.log.folding.snapshots import Plan
from twofold.log.folding.state_form import AttributesForm, ValueForm, returned_type
from twofold.log.folding.streams import events_of
from twofold.messages.event import RecordedEvent, own_names

A = TypeVar("A", bound=Aggregate)

_NO_STATE = frozenset({"_uncommitted"})
_BEGINNING = ("__init__", "__new__")


@dataclass(frozen=True)
class AggregateFold(Generic[A]):
    """Folds the stream of one aggregate."""

    owner: type[A]
    id: str

    @property
    def name(self) -> str:
        """What it is called in snapshots. stored: change it with care."""
        return f"aggregate {self.owner.stream_type}"

    @property
    def ignored(self) -> Collection[str]:
        return _names(tuple(self.owner.ignores)) if self.owner.ignores else ()

    def begin(self) -> A:
        return self.owner(self.id)

    def take(self, state: A, events: Sequence[RecordedEvent[Any]]) -> A:
        if not self.owner.ignores and _is_gapless(events):
            return state.take(events_of(events))
        for recorded, event in zip(events, events_of(events), strict=True):
            state.version = recorded.version - 1  # a fold that asks for it sees the stream's
            state.take((event,))
        return state

    def take_staged(self, state: A, events: Sequence[Any]) -> A:
        return state.take(events)

    def at(self, state: A, version: int) -> A:
        state.version = version
        return state

    def plan(self) -> Plan:
        return _plan_of_aggregates(self.owner, self.name)  # type: ignore[arg-type]  # mypy: a class is not hashable


@dataclass(frozen=True)
class DeciderFold:
    """Folds a stream with a decider."""

    owner: Decider[Any, Any, Any]

    @property
    def name(self) -> str:
        """What it is called in snapshots. stored: change it with care."""
        return f"decider {self.owner.stream_type} {_name(self.owner.evolve)}"

    @property
    def ignored(self) -> Collection[str]:
        return _names(tuple(self.owner.ignores)) if self.owner.ignores else ()

    def begin(self) -> Any:
        return self.owner.initial_state()

    def take(self, state: Any, events: Sequence[RecordedEvent[Any]]) -> Any:
        return reduce(self.owner.evolve, events_of(events), state)

    def take_staged(self, state: Any, events: Sequence[Any]) -> Any:
        ignored = self.owner.ignores
        return reduce(self.owner.evolve, [each for each in events if type(each) not in ignored], state)

    def at(self, state: Any, version: int) -> Any:
        return state

    def plan(self) -> Plan:
        return _plan_of_decider(self.owner, self.name)


def _is_gapless(events: Sequence[RecordedEvent[Any]]) -> bool:
    """Return whether each event is one of the stream, and none between them was left out by an upcaster."""
    if not events:
        return True
    if events[-1].version - events[0].version != len(events) - 1:
        return False
    return not any([each.part for each in events])  # noqa: C419 - a generator takes twice as long, with each load


@lru_cache
def _names(ignored: tuple[type, ...]) -> Collection[str]:
    """Return the stored names of classes of events: once, since each row of a long stream asks for them."""
    return own_names(ignored)


@lru_cache
def _plan_of_aggregates(cls: type[Aggregate], name: str) -> Plan:
    form = AttributesForm(cls, lambda values: cls(values["id"]), lambda: cls("a"), _NO_STATE)
    methods = [method.__name__ for method in cls._methods.values()]
    folded = [(cls, (*_BEGINNING, *methods)), sorted(own_names(cls.ignores))]
    return Plan(name, form, fold_fingerprint(folded, form.types, tuple(cls._methods)))


@lru_cache
def _plan_of_decider(decider: Decider[Any, Any, Any], name: str) -> Plan:
    evolve = decider.evolve
    form = ValueForm(_name(evolve), decider.state_type or returned_type(evolve, decider.initial_state()))
    folded = [evolve, decider.initial_state, sorted(own_names(decider.ignores))]
    return Plan(name, form, fold_fingerprint(folded, form.types, decider.events))


def _name(function: Any) -> str:
    return str(getattr(function, "__qualname__", type(function).__qualname__))
