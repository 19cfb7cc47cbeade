"""One run of a process in memory, with a clock of its own: its instances, and what they send."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Self
from uuid import UUID

import msgspec

from twofold.commands.command_types import CommandTypes, Results
from twofold.commands.results import to_builtins
from twofold.log.codec.event_types import EventTypes
from twofold.messages.event import RecordedEvent, event_type_of
from twofold.processes.inputs import Given, event_given, outcome_given, refuse_unstarted, take, timer_given
from twofold.processes.instance import Folding, Instance, WaitingCommand
from twofold.processes.process import Process
from twofold.processes.steps import CommandDone, CommandRefused

Outcome = Callable[[UUID], CommandDone | CommandRefused]


class ProcessRun:
    """Takes events in, lets time pass, and lets commands be carried out or refused.

    Args:
        process: whose instances run.
        types: the classes of events.
        now: the time at which it begins.
    """

    def __init__(self, process: Process[Any], types: EventTypes, now: datetime) -> None:
        self.process = process
        self.now = now
        self.instances: dict[str, Instance] = {}
        self.sent: list[Any] = []
        """The commands that followed from the last input."""
        self._commands = _AnyCommands()
        self._folding = Folding(process, types, self._commands)

    def copy(self) -> Self:
        """Return a run that goes on from here by itself."""
        other = copy.copy(self)
        other.instances, other.sent = dict(self.instances), []
        return other

    def take_event(self, recorded: RecordedEvent[Any]) -> None:
        """Take an event in.

        Raises:
            Exception: whatever the process raises, which in an application would park the event.
        """
        self.sent = []
        self.now = max(self.now, recorded.recorded_at)
        for each in self._folding.methods.ids(recorded.event):
            instance = self.instances.get(each) or self._folding.new(each)
            given = event_given(recorded)
            if not refuse_unstarted(self._folding, instance, given):
                self._take(instance, given)

    def pass_time(self, time: timedelta) -> None:
        """Let time pass, and the timers fire that are due until then, in their order."""
        self.sent = []
        end = self.now + time
        while (first := self._first_timer()) is not None and first[1] <= end:
            self._fire(*first)
        self.now = end

    def fire_next(self) -> None:
        """Let time pass until the next timer fires, if there is one."""
        self.sent = []
        if (first := self._first_timer()) is not None:
            self._fire(*first)

    def waiting(self, command_type: type | None = None) -> list[tuple[Instance, WaitingCommand]]:
        """Return the commands that were sent and have no outcome yet, of one class or of all."""
        name = command_type and event_type_of(command_type).name
        return [
            (instance, waiting)
            for instance in self.instances.values()
            for waiting in instance.commands
            if name in (None, waiting.sent.command)
        ]

    def finish(self, instance: Instance, waiting: WaitingCommand, outcome: Outcome) -> None:
        """Let a command that was sent have an outcome."""
        self.sent = []
        self._take(instance, outcome_given(self._folding, waiting, outcome(waiting.sent.command_id), self.now))

    def command(self, waiting: WaitingCommand) -> Any:
        """Return a command that was sent."""
        return self._commands.decode(waiting.stored)

    def _fire(self, instance: Instance, due_at: datetime, name: str) -> None:
        self.now = max(self.now, due_at)
        self._take(instance, timer_given(name, instance.timers[name], self.now))

    def _first_timer(self) -> tuple[Instance, datetime, str] | None:
        timers = [
            (instance, timer.due_at, name)
            for instance in self.instances.values()
            for name, timer in instance.timers.items()
        ]
        return min(timers, key=lambda each: each[1:], default=None)

    def _take(self, instance: Instance, given: Given) -> None:
        if instance.ending is not None and given.kind in ("event", "due"):
            return  # what comes after the end is ignored
        taken = take(self._folding, instance, given)
        self.instances[instance.id] = taken.instance
        self.sent += [self._commands.decode(each.stored) for each in taken.step.sent]


def done(value: Any) -> Outcome:
    """Return the outcome of a command that is carried out and returns a value."""
    return lambda command_id: CommandDone(command_id, _raw(value))


def refused(error: Exception) -> Outcome:
    """Return the outcome of a command that the domain refuses with an error."""
    return lambda command_id: CommandRefused(command_id, type(error).__name__, str(error))


class _AnyCommands(CommandTypes):
    """Takes every class of commands, whether or not it has a handler."""

    def __init__(self) -> None:
        self._seen: dict[type, None] = {}
        super().__init__(self._seen, lambda _: Results(lambda value: bytes(_raw(value)), msgspec.json.decode))

    def identified(self, command: object, command_id: UUID) -> Any:
        self._seen[type(command)] = None
        return super().identified(command, command_id)


def _raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value, enc_hook=to_builtins))
