"""The search for all states, breadth first.

1. In the first state, each command is tried; what is refused leads nowhere.
2. A state that was not seen before is checked, and explored in its turn, after all that were reached by fewer commands.
3. The first state that breaks an invariant is therefore reached by the fewest commands there are; these are told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol, TypeVar

from twofold.testing.scenarios.report import shown

__tracebackhide__ = True  # pytest then shows the line of the test

S = TypeVar("S")

Commands = Callable[[Any], Iterable[Any]]
"""Returns what is tried in a state."""
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


class Subject(Protocol):
    """What is explored. Its states are values: `take` returns another one."""

    @property
    def refusals(self) -> type[Exception]:
        """The errors with which it refuses a command, unless `explore` is told other ones."""

    def start(self) -> Any:
        """Return the initial state."""

    def views(self, state: Any) -> Sequence[Any]:
        """Return what invariants get, one after the other."""

    def inputs(self, state: Any, commands: Commands) -> Iterable[Any]:
        """Return what is to be tried in a state."""

    def take(self, state: Any, command: Any) -> tuple[Any, Sequence[Any]]:
        """Return the state after a command, and what followed from it.

        Raises:
            BrokenError: it is a mistake, whatever the refusals are.
            Exception: whatever the code raises.
        """

    def identity(self, state: Any) -> Hashable:
        """Return what is equal for equal states."""

    def told(self, state: Any) -> str:
        """Return a state as texts show it."""


class BrokenError(Exception):
    """What a command led to is a mistake, and no refusal. The text stands behind the command."""


@dataclass(frozen=True)
class _Step:
    """How a state was reached."""

    state: Any
    depth: int = 0
    before: _Step | None = None
    command: Any = None
    followed: tuple[Any, ...] = ()


class Search:
    """Explores a subject.

    Args:
        subject: what is explored.
        commands: those that are tried in each state, or a function that returns them for a state.
        invariants: what must hold.
        refusals: the errors with which a command is refused.
        most_states: states that are explored, at most.
    """

    def __init__(
        self,
        subject: Subject,
        commands: Commands | Iterable[Any],
        invariants: tuple[Invariant[Any], ...],
        refusals: type[Exception] | tuple[type[Exception], ...],
        most_states: int,
    ) -> None:
        self._subject, self._invariants = subject, invariants
        self._commands: Commands = commands if callable(commands) else _always(tuple(commands))
        self._refusals, self._most_states = refusals, most_states
        self._seen: set[Hashable] = set()
        self._waiting: deque[_Step] = deque()
        self._refused: dict[str, int] = {}
        self._transitions = 0

    def run(self, depth: int, progress: Callable[[Explored], object]) -> Explored:
        """Explore all sequences of commands up to a length; raises what `explore` raises."""
        self._reach(_Step(self._subject.start()))
        deepest = 0
        while self._waiting:
            step = self._waiting.popleft()
            if step.depth > deepest:
                progress(self._explored(deepest))
                deepest = step.depth
            if step.depth < depth:
                for command in self._subject.inputs(step.state, self._commands):
                    self._try(step, command)
        progress(explored := self._explored(deepest))
        return explored

    def _explored(self, depth: int) -> Explored:
        return Explored(len(self._seen), self._transitions, dict(self._refused), depth)

    def _try(self, before: _Step, command: Any) -> None:
        try:
            state, followed = self._subject.take(before.state, command)
        except BrokenError as broken:
            self._fail(before, f"{shown(command)} {broken}", broken.__cause__)
        except self._refusals as refusal:
            if isinstance(refusal, AssertionError):
                self._fail(before, f"deciding on {shown(command)} failed", refusal)
            name = type(refusal).__name__
            self._refused[name] = self._refused.get(name, 0) + 1
        except Exception as error:
            self._fail(before, f"deciding on {shown(command)} raised what is no refusal", error)
        else:
            self._transitions += 1
            self._reach(_Step(state, before.depth + 1, before, command, tuple(followed)))

    def _reach(self, step: _Step) -> None:
        identity = self._subject.identity(step.state)
        if identity in self._seen:
            return
        if len(self._seen) >= self._most_states:
            raise ValueError(
                f"there are more than {self._most_states:,} states; explore fewer commands, or not as deep as "
                f"{step.depth} (`depth`), or allow more (`most_states`)"
            )
        self._seen.add(identity)
        for view in self._subject.views(step.state):
            for invariant in self._invariants:
                self._check(step, invariant, view)
        self._waiting.append(step)

    def _check(self, step: _Step, invariant: Invariant[Any], view: Any) -> None:
        name = getattr(invariant, "__name__", repr(invariant))
        try:
            holds = invariant(view)
        except AssertionError as broken:
            self._fail(step, f"{name} does not hold: {broken}", broken)
        if holds is False:
            self._fail(step, f"{name} does not hold")

    def _fail(self, step: _Step, text: str, cause: BaseException | None = None) -> NoReturn:
        way = f"after {step.depth} command{'' if step.depth == 1 else 's'}" if step.depth else "at once"
        raise AssertionError("\n".join([f"{text}, {way}:", *self._told(step)])) from cause

    def _told(self, step: _Step) -> list[str]:
        """Return the way from the initial state to this one, a line for each command, event and state."""
        state = _indented(3, self._subject.told(step.state))
        if step.before is None:
            return state
        command = _indented(len(f"{step.depth}. "), shown(step.command))
        command[0] = f"{step.depth}. {command[0].lstrip()}"
        followed = [line for each in step.followed for line in _indented(5, shown(each))]
        return [*self._told(step.before), *command, *followed, *state]


def _always(commands: tuple[Any, ...]) -> Commands:
    return lambda _: commands


def _indented(width: int, text: str) -> list[str]:
    return [" " * width + line for line in text.splitlines()]
