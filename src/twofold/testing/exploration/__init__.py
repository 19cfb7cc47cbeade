"""Exploration: every state that some commands, events and timers can lead to, and what must hold in all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, overload

from twofold.commands.aggregate import Aggregate
from twofold.commands.decider import Decider
from twofold.log.folding.decision_model import DecisionModel
from twofold.processes.process import Process
from twofold.testing.exploration.deciding import ExploredAggregate, ExploredDecider, ExploredDecision
from twofold.testing.exploration.search import Explored, Invariant, Search, Subject
from twofold.testing.exploration.waiting import ExploredProcess, Instance

__all__ = ["Explored", "Instance", "Invariant", "explore"]

A = TypeVar("A", bound=Aggregate)
C = TypeVar("C")
S = TypeVar("S")

Refusals = type[Exception] | tuple[type[Exception], ...]
Progress = Callable[[Explored], object]


@overload
def explore(
    subject: Decider[C, S, Any],
    commands: Iterable[C] | Callable[[S], Iterable[C]],
    invariants: Iterable[Invariant[S]],
    *,
    refusals: Refusals | None = None,
    depth: int = 10,
    most_states: int = 100_000,
    progress: Progress | None = None,
) -> Explored: ...
@overload
def explore(
    subject: type[A],
    commands: Iterable[Callable[[A], object]] | Callable[[A], Iterable[Callable[[A], object]]],
    invariants: Iterable[Invariant[A]],
    *,
    refusals: Refusals | None = None,
    depth: int = 10,
    most_states: int = 100_000,
    progress: Progress | None = None,
    id: str = "1",
) -> Explored: ...
@overload
def explore(
    subject: DecisionModel[S],
    commands: Iterable[C] | Callable[[S], Iterable[C]],
    invariants: Iterable[Invariant[S]],
    *,
    refusals: Refusals | None = None,
    depth: int = 10,
    most_states: int = 100_000,
    progress: Progress | None = None,
    decide: Callable[[C, S], Sequence[object]],
) -> Explored: ...
@overload
def explore(
    subject: Process[S],
    commands: Iterable[object] | Callable[[Sequence[Instance[S]]], Iterable[object]],
    invariants: Iterable[Invariant[Instance[S]]],
    *,
    refusals: Refusals | None = None,
    depth: int = 10,
    most_states: int = 100_000,
    progress: Progress | None = None,
    outcomes: Mapping[type, Sequence[Any]] | None = None,
) -> Explored: ...
def explore(
    subject: Any,
    commands: Any,
    invariants: Iterable[Invariant[Any]],
    *,
    refusals: Refusals | None = None,
    depth: int = 10,
    most_states: int = 100_000,
    progress: Progress | None = None,
    id: str = "1",
    decide: Callable[[Any, Any], Sequence[object]] | None = None,
    outcomes: Mapping[type, Sequence[Any]] | None = None,
) -> Explored:
    """Carry out all sequences of commands up to a length, breadth first, and check each state that is reached.

    Args:
        subject: a decider; a class of aggregates; a decision model, with `decide`; or a process. States that are equal
            are one.
        commands: what is tried in each state, or a function that returns it for a state. Commands; for an aggregate
            functions, `lambda account: account.deposit(1)`; for a process events. Of a process, the next timer fires
            as well, and the commands that it has sent have their `outcomes`.
        invariants: functions that return False, or raise an `AssertionError`, for a state that must not be. They get
            the state, or the aggregate, or each `Instance` of a process.
        refusals: the errors with which a command is refused. Others are failures. By default every error refuses a
            command, and of a process `ProcessNotStartedError`, with which it parks an event.
        depth: commands of the longest sequence.
        most_states: states that are explored, at most.
        progress: called with how much was explored, whenever all sequences of one length were; such as `print`.
        id: the identity of the aggregate.
        decide: the events that follow from a command and the state of a decision model, or an error.
        outcomes: for each class of commands that the process sends, what may come of one: an error with which it is
            refused, anything else as what its handler returns. By default each is carried out and returns None.

    Returns:
        How much was explored.

    Raises:
        AssertionError: an invariant is broken, an event cannot be folded, or an error is no refusal. The text shows the
            fewest commands that lead there, with their events and states.
        ValueError: there are more states than `most_states`; explore fewer commands, or not as deep.
        TypeError: two states cannot be compared, or there is no way to explore such a subject.
    """
    explored = _subject(subject, id, decide, outcomes)
    return Search(explored, commands, tuple(invariants), refusals or explored.refusals, most_states).run(
        depth, progress or (lambda _: None)
    )


def _subject(subject: Any, id: str, decide: Any, outcomes: Any) -> Subject:
    match subject:
        case Decider():
            return ExploredDecider(subject)
        case DecisionModel() if decide is not None:
            return ExploredDecision(subject, decide)
        case DecisionModel():
            raise TypeError("say what follows from a command and the state: decide=lambda command, state: [...]")
        case Process():
            return ExploredProcess(subject, outcomes or {})
        case type() if issubclass(subject, Aggregate):
            return ExploredAggregate(subject, id)
    raise TypeError(f"{subject!r} is no decider, decision model or process, and no class of aggregates")
