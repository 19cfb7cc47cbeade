"""Processes, as they are explored: by events, by the timers that fire, and by what comes of the commands they send."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, NamedTuple, TypeVar

from twofold.errors import ProcessNotStartedError
from twofold.processes.instance import ProcessState
from twofold.processes.process import Process
from twofold.testing.exploration.identity import identity_of
from twofold.testing.exploration.search import Commands
from twofold.testing.scenarios.history import NEW_YEAR_2026, History, types_of
from twofold.testing.scenarios.process_run import ProcessRun, done, refused
from twofold.testing.scenarios.report import content, shown

S = TypeVar("S")


@dataclass(frozen=True)
class Instance(Generic[S]):
    """An instance of a process in one of the states that it can be in."""

    id: str
    state: S
    timers: Mapping[str, timedelta]
    """The timers that are set, each with the time until it is due."""
    waits_for: tuple[Any, ...]
    """The commands that it has sent and that have no outcome yet."""
    is_completed: bool


class _State(NamedTuple):
    run: ProcessRun
    events: int
    """How many it has taken in."""


class _Input(NamedTuple):
    """Something else than an event that a process takes in."""

    text: str
    act: Callable[[ProcessRun], object]

    def __repr__(self) -> str:
        return self.text


class ExploredProcess:
    """A process, with all its instances.

    Args:
        process: what is explored.
        outcomes: for each class of commands, what may come of one.
    """

    refusals: type[Exception] = ProcessNotStartedError

    def __init__(self, process: Process[Any], outcomes: Mapping[type, Sequence[Any]]) -> None:
        self._process, self._outcomes = process, outcomes
        self._types = types_of(process.handles())

    def start(self) -> _State:
        return _State(ProcessRun(self._process, self._types, NEW_YEAR_2026), 0)

    def views(self, state: _State) -> Sequence[Instance[Any]]:
        run = state.run
        return [
            Instance(
                each.id,
                each.state,
                {name: timer.due_at - run.now for name, timer in sorted(each.timers.items())},
                tuple(map(run.command, each.commands)),
                each.ending is ProcessState.COMPLETED,
            )
            for each in run.instances.values()
        ]

    def inputs(self, state: _State, commands: Commands) -> Iterable[Any]:
        yield from commands(self.views(state))
        if any(each.timers for each in state.run.instances.values()):
            yield _Input("the next timer fires", ProcessRun.fire_next)
        for place, (_, waiting) in enumerate(state.run.waiting()):
            command = state.run.command(waiting)
            for outcome in self._outcomes.get(type(command), (None,)):
                yield _of_outcome(place, command, outcome)

    def take(self, state: _State, command: Any) -> tuple[_State, Sequence[Any]]:
        run, events = state.run.copy(), state.events
        if isinstance(command, _Input):
            command.act(run)
        else:
            events += 1
            for recorded in History().add([command], position=events, at=run.now).recorded(self._types):
                run.take_event(recorded)
        return _State(run, events), run.sent

    def identity(self, state: _State) -> Hashable:
        return frozenset(
            (each.id, identity_of(each.state), identity_of(each.timers), each.is_completed, _contents(each.waits_for))
            for each in self.views(state)
        )

    def told(self, state: _State) -> str:
        return "\n".join(map(_told, self.views(state))) or "nothing has begun"


def _of_outcome(place: int, command: Any, outcome: Any) -> _Input:
    is_refusal = isinstance(outcome, Exception)
    text = f"{shown(command)} is {f'refused with {outcome!r}' if is_refusal else f'done, with {outcome!r}'}"
    came = refused(outcome) if is_refusal else done(outcome)
    return _Input(text, lambda run: run.finish(*run.waiting()[place], came))


def _contents(commands: Sequence[Any]) -> Hashable:
    return tuple(identity_of(content(each)) for each in commands)


def _told(instance: Instance[Any]) -> str:
    parts = [f"{instance.id}: {instance.state!r}"]
    parts += [f"{name} in {time}" for name, time in instance.timers.items()]
    parts += [f"waits for {shown(each)}" for each in instance.waits_for]
    return ", ".join(parts + ["completed"] * instance.is_completed)
