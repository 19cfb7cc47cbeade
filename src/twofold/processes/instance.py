"""One instance of a process: its state and what it waits for, folded from its stream."""

from __future__ import annotations

import typing
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from twofold.commands.command_types import CommandTypes, StoredCommand
from twofold.log.codec.event_types import EventTypes
from twofold.log.folding.fingerprint import fold_fingerprint
from twofold.log.folding.snapshots import Plan
from twofold.log.folding.state_form import UnstorableStateError, ValueForm
from twofold.messages.context import caused_by
from twofold.messages.event import EPOCH, Metadata, RecordedEvent
from twofold.messages.position import Position
from twofold.messages.receipt import Receipt
from twofold.processes.methods import Methods
from twofold.processes.process import Process
from twofold.processes.steps import (
    CommandDone,
    CommandRefused,
    CommandSent,
    EventReceived,
    ProcessStep,
    TimerFired,
)
from twofold.processes.triggers import Done, Refusal, TriggerKind


class ProcessState(StrEnum):
    """Where an instance is in its life. stored: change with care."""

    RUNNING = "running"
    STUCK = "stuck"
    """A handler fails, or a command was refused and no handler takes that; an operator retries or cancels it."""
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class WaitingTimer(NamedTuple):
    """A timer that is set."""

    due_at: datetime
    metadata: Metadata
    """Of what it causes: on whose behalf it was set."""


class WaitingCommand(NamedTuple):
    """A command that was sent and has no outcome yet."""

    sent: CommandSent
    sent_at: datetime
    metadata: Metadata
    """Of what it causes."""

    @property
    def key(self) -> str:
        """Its id as text."""
        return str(self.sent.command_id)

    @property
    def stored(self) -> StoredCommand:
        """What is stored of the command."""
        return self.sent.stored


class Failure(NamedTuple):
    """Why an instance does not get on with a timer or a command. Kept in its row, not in its stream."""

    error: str
    attempts: int
    next_at: int | None
    """When it is tried again, in microseconds; None: when an operator says so."""


class Instance(msgspec.Struct, frozen=True):
    """An instance as of one version of its stream."""

    id: str
    version: int = 0
    state: Any = None
    position: int = 0
    """Of the last event that it took in."""
    part: int = 0
    """Which part of that event it was, if upcasters have made several of it."""
    timers: Mapping[str, WaitingTimer] = {}
    commands: tuple[WaitingCommand, ...] = ()
    ending: ProcessState | None = None
    """How it ended; None while it runs."""
    started_at: int = 0
    changed_at: int = 0
    """Microseconds."""
    ignored: int = 0
    """Inputs that came after its end."""
    failures: Mapping[str, Failure] = {}
    """Why it does not get on, by the timer or the id of the command that fails."""

    @property
    def status(self) -> ProcessState:
        """Where it is in its life."""
        if self.ending:
            return self.ending
        is_stuck = any(each.next_at is None for each in self.failures.values())
        return ProcessState.STUCK if is_stuck else ProcessState.RUNNING

    @property
    def next_at(self) -> int | None:
        """When it has something to do next, in microseconds; None if it waits for events only."""
        times = [self._time(name, microseconds(timer.due_at)) for name, timer in self.timers.items()]
        times += [self._time(each.key, microseconds(each.sent_at)) for each in self.commands[:1]]
        return min((each for each in times if each is not None), default=None)

    def _time(self, what: str, due: int) -> int | None:
        failure = self.failures.get(what)
        return failure.next_at if failure else due

    def may_go(self, what: str, now: int) -> bool:
        """Return whether a timer that is due, or a command, is to be tried now."""
        failure = self.failures.get(what)
        return failure is None or (failure.next_at is not None and failure.next_at <= now)

    def failed(self, what: str, failure: Failure) -> Instance:
        """Return it with why a timer or a command does not get on."""
        return self.replace(failures={**self.failures, what: failure})

    @property
    def is_started(self) -> bool:
        """Whether it has taken anything in."""
        return self.version > 0

    def replace(self, **changes: Any) -> Instance:
        """Return it with other values."""
        return msgspec.structs.replace(self, **changes)


class Folding:
    """Folds steps into instances of one process.

    Args:
        process: the code.
        events: the classes of events.
        commands: the classes of commands, and what their handlers returned.
    """

    def __init__(self, process: Process[Any], events: EventTypes, commands: CommandTypes) -> None:
        self.process = process
        self.methods = Methods(process)
        self.commands = commands
        self.events = events

    def new(self, process_id: str) -> Instance:
        """Return an instance that has taken nothing in."""
        return Instance(process_id, state=self.process.initial)

    def fold(self, instance: Instance, steps: Iterable[RecordedEvent[ProcessStep]]) -> Instance:
        """Return an instance after further steps of its stream.

        Raises:
            UnreadableEventError, UnknownEventTypeError, InvalidMessageTypeError: a step holds what today's code cannot
                read.
            Exception: whatever a method marked with `@evolve` raises.
        """
        for recorded in steps:
            kind, of, inputs = self._input(instance, recorded.event)
            state = instance.state if instance.ending else self.methods.evolve(kind, of, instance.state, *inputs)
            instance = after_step(instance, recorded.event, state, caused_by(recorded))
        return instance

    def _input(self, instance: Instance, step: ProcessStep) -> tuple[TriggerKind, Any, tuple[Any, ...]]:
        match step.input:
            case EventReceived() as received:
                return self._event(received)
            case TimerFired(timer):
                return "due", timer, ()
            case CommandDone() as given:
                return self._outcome(instance, "done", given)
            case CommandRefused() as given:
                return self._outcome(instance, "refused", given)
        return "due", None, ()  # a cancellation, which nothing folds

    def _event(self, received: EventReceived) -> tuple[TriggerKind, Any, tuple[Any, ...]]:
        payload = bytes(received.payload)
        parts = self.events.decode_payload(
            received.type, received.schema_version, payload, received.position, received.event_id.bytes
        )
        if len(parts) < max(received.part, 1):
            return "event", None, ()  # today's upcasters leave it out, and nothing folds it
        event = parts[max(received.part, 1) - 1].event
        return "event", type(event), (event,)

    def _outcome(
        self, instance: Instance, kind: TriggerKind, given: CommandDone | CommandRefused
    ) -> tuple[TriggerKind, Any, tuple[Any, ...]]:
        waiting = command_of(instance, given)
        if not self.methods.evolves(kind, waiting.sent.command):
            return kind, waiting.sent.command, ()  # the class of the command may be gone
        return kind, waiting.sent.command, (self.outcome(waiting, given),)

    def outcome(self, waiting: WaitingCommand, given: CommandDone | CommandRefused) -> Done[Any] | Refusal[Any]:
        """Return the outcome of a command as handlers get it."""
        command = self.commands.decode(waiting.stored)
        if isinstance(given, CommandRefused):
            return Refusal(command, given.error, given.reason)
        value = self.commands.decode_result(type(command), bytes(given.value))
        position = Position.parse(given.position) if given.position else Position()
        return Done(command, Receipt(value=value, stream_id=given.stream_id, version=given.version, position=position))


def command_of(instance: Instance, given: CommandDone | CommandRefused) -> WaitingCommand:
    """Return the waiting command whose outcome came."""
    return next(each for each in instance.commands if each.sent.command_id == given.command_id)


def after_step(instance: Instance, step: ProcessStep, state: Any, metadata: Metadata) -> Instance:
    """Return an instance after a step, given the state after it and the metadata of what the step causes."""
    timers = dict(instance.timers)
    commands = instance.commands
    position, part = instance.position, instance.part
    match step.input:
        case EventReceived():
            position, part = step.input.position, step.input.part
        case TimerFired(timer):
            timers.pop(timer, None)
        case CommandDone(command_id) | CommandRefused(command_id):
            commands = tuple(each for each in commands if each.sent.command_id != command_id)
    for name in step.cancelled:
        timers.pop(name, None)
    for each in step.timers:
        timers[each.timer] = WaitingTimer(each.due_at, metadata)
    commands += tuple(WaitingCommand(each, step.at, metadata) for each in step.sent)
    ending = instance.ending or _ending(step)
    if ending:
        timers = {}
    if ending is ProcessState.CANCELLED:
        commands = ()
    now = microseconds(step.at)
    return Instance(
        instance.id, instance.version + 1, state, position, part, timers, commands, ending,
        instance.started_at or now, now, instance.ignored, _still(instance.failures, timers, commands),
    )  # fmt: skip


def _still(
    failures: Mapping[str, Failure], timers: Mapping[str, WaitingTimer], commands: Iterable[WaitingCommand]
) -> Mapping[str, Failure]:
    """Return the failures of what is still waited for."""
    if not failures:
        return failures
    waiting = {*timers, *(each.key for each in commands)}
    return {what: failure for what, failure in failures.items() if what in waiting}


def _ending(step: ProcessStep) -> ProcessState | None:
    if not isinstance(step.input, EventReceived | TimerFired | CommandDone | CommandRefused):
        return ProcessState.CANCELLED
    return ProcessState.COMPLETED if step.completed else None


def microseconds(moment: datetime) -> int:
    """Return a moment as microseconds since 1970-01-01 UTC, exactly."""
    since = moment - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def moment_of(time: int) -> datetime:
    """Return microseconds since 1970-01-01 UTC as a moment."""
    return EPOCH + timedelta(microseconds=time)


@dataclass(frozen=True)
class InstanceFold:
    """Folds the stream of one instance as `Streams` does all others, so that long ones are kept and stored."""

    folding: Folding
    id: str

    @property
    def owner(self) -> Any:
        return self.folding

    @property
    def name(self) -> str:
        """What it is called in snapshots. stored: change it with care."""
        return f"process {self.folding.process.name}"

    @property
    def ignored(self) -> Collection[str]:
        return ()

    def begin(self) -> Instance:
        return self.folding.new(self.id)

    def take(self, state: Instance, events: Sequence[RecordedEvent[Any]]) -> Instance:
        return self.folding.fold(state, events)

    def take_staged(self, state: Instance, events: Sequence[Any]) -> Instance:
        raise TypeError("no command appends to the stream of an instance")

    def at(self, state: Instance, version: int) -> Instance:
        return state

    def plan(self) -> Plan:
        process = self.folding.process
        cls, folds = type(process), process._declaration.folds
        form = InstanceForm(_state_type(cls))
        classes = [of for _, of in folds if isinstance(of, type)]
        types = form.types | {f"input {n}": each for n, each in enumerate(classes)}
        fingerprint = fold_fingerprint([(cls, tuple(folds.values())), [process.initial]], types, process.handles())
        return Plan(self.name, form, fingerprint)


class InstanceForm:
    """Stores instances: what Twofold knows of one, and the state of the process by its own type."""

    def __init__(self, state_type: Any) -> None:
        self._state = ValueForm("the state", state_type)
        fields = ", ".join(Instance.__struct_fields__)
        self.types = {**self._state.types, f"instance ({fields})": Instance}

    def encode(self, state: Instance) -> bytes:
        shell, own = state.replace(state=None, failures={}), self._state.encode(state.state)
        encoded = msgspec.json.encode((shell, msgspec.Raw(own)))
        if msgspec.json.encode(self._parts(encoded)[0]) != msgspec.json.encode(shell):
            raise UnstorableStateError("what an instance waits for would come back as something else")
        return encoded

    def decode(self, encoded: bytes) -> Instance:
        shell, own = self._parts(encoded)
        return shell.replace(state=self._state.decode(bytes(own)))

    def difference(self, one: Instance, other: Instance) -> str | None:
        return self._state.difference(one.state, other.state)

    def _parts(self, encoded: bytes) -> tuple[Instance, msgspec.Raw]:
        return msgspec.json.decode(encoded, type=tuple[Instance, msgspec.Raw])


def _state_type(cls: type[Process[Any]]) -> Any:
    """Return the type of a process's states: what stands in the brackets of `Process[…]`, else that of the first."""
    for each in cls.__mro__:
        for base in vars(each).get("__orig_bases__", ()):
            if typing.get_origin(base) is Process and not isinstance(typing.get_args(base)[0], typing.TypeVar):
                return typing.get_args(base)[0]
    return type(cls.initial) if cls.initial is not None else None
