"""Exploring a decider: every state that some commands can lead to, and what must hold in all of them.

1. From the initial state, each command is decided; what the decider refuses leads nowhere.
2. The events are folded. A state that was not seen before is checked, and explored in its turn, breadth first.
3. The first state that breaks an invariant is therefore reached by the fewest commands there are; these are told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, NoReturn, TypeVar

from twofold.commands.decider import Decider
from twofold.messages.command import Command

C = TypeVar("C")
S = TypeVar("S")

_OF_ALL = {each.name for each in fields(Command)}

Invariant = Callable[[S], object]
"""Returns False, or raises an `AssertionError`, if a state must not be."""


@dataclass(frozen=True)
class Explored:
    """How much was explored."""

    states: int
    """Different states that were reached, with the initial one."""
    transitions: int
    """Commands that were accepted."""
    refused: Mapping[str, int]
    """How often commands were refused, by the name of the error. What is missing here is a rule that was never met."""
    depth: int
    """Commands from the initial state to the last state that was found; less than asked for, if there are no more."""


def explore(
    decider: Decider[C, S, Any],
    commands: Iterable[C] | Callable[[S], Iterable[C]],
    invariants: Iterable[Invariant[S]],
    *,
    refusals: type[Exception] | tuple[type[Exception], ...] = Exception,
    depth: int = 10,
    most_states: int = 100_000,
) -> Explored:
    """Carry out all sequences of commands up to a length, and check each state that is reached.

    Args:
        decider: what is explored. States that are equal are one; those that cannot be hashed are told by their `repr`.
        commands: those that are tried in each state, or a function that returns them for a state.
        invariants: functions that return False, or raise an `AssertionError`, for a state that must not be.
        refusals: the errors with which the decider refuses a command. Others are failures.
        depth: commands of the longest sequence.
        most_states: states that are explored, at most.

    Returns:
        How much was explored.

    Raises:
        AssertionError: an invariant is broken, `evolve` failed, an event is none of the decider's `events`, or an error
            is no refusal. The text shows the fewest commands that lead there, with their events and states.
        ValueError: there are more states than `most_states`; explore fewer commands, or not as deep.
    """
    return _Exploration(decider, commands, tuple(invariants), refusals, most_states).run(depth)


@dataclass(frozen=True)
class _Step:
    """How a state was reached."""

    state: Any
    depth: int = 0
    before: _Step | None = None
    command: Any = None
    events: tuple[Any, ...] = ()

    def told(self) -> str:
        """Return the way from the initial state to this one, a line for each command, event and state."""
        if self.before is None:
            return f"   {self.state!r}"
        lines = [
            f"{self.depth}. {_shown(self.command)}",
            *(f"     {event!r}" for event in self.events),
            f"   {self.state!r}",
        ]
        return "\n".join([self.before.told(), *lines])


class _Exploration:
    def __init__(
        self,
        decider: Decider[Any, Any, Any],
        commands: Iterable[Any] | Callable[[Any], Iterable[Any]],
        invariants: tuple[Invariant[Any], ...],
        refusals: type[Exception] | tuple[type[Exception], ...],
        most_states: int,
    ) -> None:
        if not callable(commands):
            given = tuple(commands)
            commands = lambda _: given  # noqa: E731 - one or the other
        self._decider, self._commands, self._invariants = decider, commands, invariants
        self._refusals, self._most_states = refusals, most_states
        self._seen: set[Hashable] = set()
        self._waiting: deque[_Step] = deque()
        self._refused: dict[str, int] = {}
        self._transitions = 0

    def run(self, depth: int) -> Explored:
        self._reach(_Step(self._decider.initial_state()))
        deepest = 0
        while self._waiting:
            step = self._waiting.popleft()
            deepest = step.depth
            if step.depth < depth:
                for command in self._commands(step.state):
                    self._try(step, command)
        return Explored(len(self._seen), self._transitions, self._refused, deepest)

    def _try(self, before: _Step, command: Any) -> None:
        try:
            events = tuple(self._decider.decide(command, before.state))
        except self._refusals as refusal:
            if isinstance(refusal, AssertionError):
                _fail(before, f"deciding on {_shown(command)} failed", refusal)
            name = type(refusal).__name__
            self._refused[name] = self._refused.get(name, 0) + 1
            return
        except Exception as error:
            _fail(before, f"deciding on {_shown(command)} raised what is no refusal", error)
        self._transitions += 1
        self._reach(_Step(self._fold(before, command, events), before.depth + 1, before, command, events))

    def _fold(self, before: _Step, command: Any, events: tuple[Any, ...]) -> Any:
        state = before.state
        for event in events:
            if not isinstance(event, self._decider.events):
                _fail(before, f"{_shown(command)} led to {event!r}, whose class is none of the decider's `events`")
            try:
                state = self._decider.evolve(state, event)
            except Exception as error:
                _fail(before, f"{_shown(command)} led to {event!r}, which `evolve` does not take", error)
        return state

    def _reach(self, step: _Step) -> None:
        identity = _identity(step.state)
        if identity in self._seen:
            return
        if len(self._seen) >= self._most_states:
            raise ValueError(
                f"there are more than {self._most_states:,} states; explore fewer commands, or not as deep as "
                f"{step.depth} (`depth`), or allow more (`most_states`)"
            )
        self._seen.add(identity)
        for invariant in self._invariants:
            self._check(step, invariant)
        self._waiting.append(step)

    def _check(self, step: _Step, invariant: Invariant[Any]) -> None:
        name = getattr(invariant, "__name__", repr(invariant))
        try:
            holds = invariant(step.state)
        except AssertionError as broken:
            _fail(step, f"{name} does not hold: {broken}", broken)
        if holds is False:
            _fail(step, f"{name} does not hold")


def _shown(command: Any) -> str:
    """Return a command with what it says, without its id and time."""
    if not isinstance(command, Command):
        return repr(command)
    said = [f"{each.name}={getattr(command, each.name)!r}" for each in fields(command) if each.name not in _OF_ALL]
    return f"{type(command).__qualname__}({', '.join(said)})"


def _identity(state: Any) -> Hashable:
    try:
        hash(state)
    except TypeError:
        return repr(state)
    return (type(state), state)


def _fail(step: _Step, text: str, cause: Exception | None = None) -> NoReturn:
    way = f"after {step.depth} command{'' if step.depth == 1 else 's'}" if step.depth else "at once"
    raise AssertionError(f"{text}, {way}:\n{step.told()}") from cause
