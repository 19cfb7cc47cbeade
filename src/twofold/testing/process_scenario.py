"""Given, when, then for processes, with a clock of their own: a test of three days takes no time.

given = scenario(FulfilOrder())
given(placed).when(paid).then_sends(ReserveItems(order_id="a"))
given(placed).when_time_passes(days=3).then_sends(CancelOrder(order_id="a", reason="not paid"))
given(placed, paid).when_refused(ReserveItems, NoStockError("none left")).then_sends(RefundPayment(order_id="a"))
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Self
from uuid import UUID

import msgspec

from twofold.commands.command_types import CommandTypes, Results
from twofold.commands.results import to_builtins
from twofold.log.codec.event_types import EventTypes
from twofold.log.codec.fidelity import field_names
from twofold.messages.event import RecordedEvent, event_type_of
from twofold.messages.stored_event import record
from twofold.processes.inputs import Given, event_given, outcome_given, refuse_unstarted, take, timer_given
from twofold.processes.instance import Folding, Instance, ProcessState, microseconds
from twofold.processes.process import Process
from twofold.processes.steps import CommandDone, CommandRefused
from twofold.testing.reports import difference, fail

NOT_CONTENT = {"command_id", "timestamp"}


class ProcessScenario:
    """A process in memory: what it sends, what it waits for, and how it stands.

    Args:
        process: what is tested.
        start: the time at which the first event is recorded.
        events: what has happened.
    """

    def __init__(self, process: Process[Any], start: datetime, events: Sequence[object]) -> None:
        self.now = start
        self._types = EventTypes()
        self._commands = _AnyCommands()
        self._folding = Folding(process, self._types, self._commands)
        self._process = process
        self._instances: dict[str, Instance] = {}
        self._position = 0
        self._sent: list[Any] = []
        for event in events:
            self.when(event)

    def when(self, event: object) -> Self:
        """Let an event be recorded now.

        Raises:
            Exception: whatever the process raises, which in an application would park the event.
        """
        self._sent = []
        recorded = self._recorded(event)
        for each in self._folding.methods.ids(recorded.event):
            instance = self._instances.get(each) or self._folding.new(each)
            given = event_given(recorded)
            if not refuse_unstarted(self._folding, instance, given):
                self._take(instance, given)
        return self

    def when_time_passes(self, time: timedelta | None = None, **parts: float) -> Self:
        """Let time pass, `when_time_passes(days=3)`, and the timers fire that are due until then."""
        self._sent = []
        end = self.now + (time or timedelta(**parts))
        while (first := self._first_due(end)) is not None:
            instance, name = first
            timer = instance.timers[name]
            self.now = max(self.now, timer.due_at)
            self._take(instance, timer_given(name, timer, self.now))
        self.now = end
        return self

    def when_done(self, command_type: type, value: Any = None) -> Self:
        """Let a command of this type that the process has sent be carried out."""
        return self._when_outcome(command_type, lambda command_id: CommandDone(command_id, _raw(value)))

    def when_refused(self, command_type: type, error: Exception) -> Self:
        """Let the domain refuse a command of this type that the process has sent."""
        name = type(error).__name__
        return self._when_outcome(command_type, lambda command_id: CommandRefused(command_id, name, str(error)))

    def then_sends(self, *commands: object) -> Self:
        """Expect exactly these commands of the last `when`, in this order; their ids and times do not matter.

        Raises:
            AssertionError: others were sent.
        """
        if list(map(_content, commands)) != list(map(_content, self._sent)):
            shown = difference(list(map(_content, commands)), list(map(_content, self._sent)))
            fail(f"other commands than expected (-) were sent (+):\n{shown}")
        return self

    def then_timers(self, **timers: timedelta) -> Self:
        """Expect that exactly these timers are set, each with the time until it is due.

        Raises:
            AssertionError: others are.
        """
        found = {
            name: timer.due_at - self.now for each in self._instances.values() for name, timer in each.timers.items()
        }
        if found != timers:
            fail(f"expected the timers {timers}, there are {found}")
        return self

    def then_state(self, state: object, id: str | None = None) -> Self:
        """Expect the state of an instance, which need not be named if it is the only one.

        Raises:
            AssertionError: it is another one.
        """
        found = self._instance(id).state
        if found != state:
            fail(f"another state than expected (-) came of it (+):\n{difference([state], [found])}")
        return self

    def then_completed(self, id: str | None = None) -> Self:
        """Expect that an instance is at its end.

        Raises:
            AssertionError: it goes on.
        """
        instance = self._instance(id)
        if instance.ending is not ProcessState.COMPLETED:
            fail(f"expected {self._process.name} {instance.id!r} to be completed, its state is {instance.state!r}")
        return self

    def then_running(self, id: str | None = None) -> Self:
        """Expect that an instance goes on.

        Raises:
            AssertionError: it is at its end.
        """
        instance = self._instance(id)
        if instance.ending is not None:
            fail(f"expected {self._process.name} {instance.id!r} to go on, its state is {instance.state!r}")
        return self

    def _take(self, instance: Instance, given: Given) -> None:
        if instance.ending is not None and given.kind in ("event", "due"):
            return  # what comes after the end is ignored
        taken = take(self._folding, instance, given)
        self._instances[instance.id] = taken.instance
        self._sent += [self._commands.decode(each.stored) for each in taken.step.sent]

    def _when_outcome(self, command_type: type, outcome: Any) -> Self:
        self._sent = []
        for instance in self._instances.values():
            for waiting in instance.commands:
                if waiting.sent.command == event_type_of(command_type).name:
                    given = outcome_given(self._folding, waiting, outcome(waiting.sent.command_id), self.now)
                    self._take(instance, given)
                    return self
        return fail(f"{self._process.name} has sent no {command_type.__name__} that has no outcome yet")

    def _first_due(self, end: datetime) -> tuple[Instance, str] | None:
        due = [
            (timer.due_at, name, instance)
            for instance in self._instances.values()
            for name, timer in instance.timers.items()
            if timer.due_at <= end
        ]
        _, name, instance = min(due, key=lambda each: each[:2], default=(None, "", None))
        return (instance, name) if instance else None

    def _instance(self, id: str | None) -> Instance:
        if id is None and len(self._instances) == 1:
            return next(iter(self._instances.values()))
        if id not in self._instances:
            fail(f"{self._process.name} has no instance {id!r}; there is {', '.join(self._instances) or 'none'}")
        return self._instances[id]

    def _recorded(self, event: object) -> RecordedEvent[Any]:
        """Encode and decode an event, so that the process sees what it would read from a log."""
        self._position += 1
        new = self._types.encode(event, UUID(int=self._position), "", "", b"{}")
        return self._types.decode([record(new, self._position, 0, microseconds(self.now))])[0]


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


def _content(command: Any) -> tuple[str, dict[str, Any]]:
    names = [name for name in field_names(type(command)) or () if name not in NOT_CONTENT]
    return type(command).__name__, {name: getattr(command, name) for name in names}
