"""What an instance makes of an input: one step, and the instance after it. Pure, apart from the step's id and span."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from twofold.errors import InvalidMessageTypeError, InvalidProcessError, ProcessNotStartedError
from twofold.log.codec.event_types import EventTypes, encode_metadata
from twofold.messages.context import caused_by
from twofold.messages.event import Metadata, RecordedEvent
from twofold.messages.ids import uuid7
from twofold.messages.position import Position
from twofold.messages.stored_event import NewEvent
from twofold.processes.instance import Folding, Instance, WaitingCommand, WaitingTimer, after_step
from twofold.processes.steps import (
    Cancelled,
    CommandDone,
    CommandRefused,
    CommandSent,
    EventReceived,
    Input,
    ProcessStep,
    TimerFired,
    TimerSet,
    command_id_of,
    stream_of,
    stream_type_of,
)
from twofold.processes.triggers import CancelTimer, SendStored, SetTimer, TriggerKind
from twofold.telemetry import is_observed, trace_step


class Given(NamedTuple):
    """An input, and how handlers are found and called for it."""

    input: Input
    kind: TriggerKind
    of: Any
    arguments: tuple[Any, ...]
    """What handlers get beside the state."""
    metadata: Metadata
    """On whose behalf, and by which event caused."""
    at: datetime


class Taken(NamedTuple):
    """A step that is to be appended, and the instance after it."""

    step: ProcessStep
    encoded: NewEvent
    """The step as an append wants it: one that cannot be stored fails with its own input, and with no other."""
    instance: Instance


def event_given(recorded: RecordedEvent[Any]) -> Given:
    """Return an event of the log as an input."""
    stored = recorded.stored
    received = EventReceived(
        stored.type,
        stored.schema_version,
        msgspec.Raw(stored.payload),
        recorded.event_id,
        stored.position,
        recorded.part,
    )
    return Given(received, "event", type(recorded.event), (recorded.event,), caused_by(recorded), recorded.recorded_at)


def timer_given(name: str, timer: WaitingTimer, now: datetime) -> Given:
    """Return a timer that is due as an input."""
    return Given(TimerFired(name, timer.due_at), "due", name, (), timer.metadata, now)


def outcome_given(
    folding: Folding, waiting: WaitingCommand, outcome: CommandDone | CommandRefused, now: datetime
) -> Given:
    """Return the outcome of a command as an input."""
    kind: TriggerKind = "done" if isinstance(outcome, CommandDone) else "refused"
    metadata = waiting.metadata
    if isinstance(outcome, CommandDone) and outcome.position:
        cause = UUID(bytes=Position.parse(outcome.position).event_id)
        metadata = msgspec.structs.replace(metadata, causation_id=cause)
    arguments = (folding.outcome(waiting, outcome),)
    return Given(outcome, kind, waiting.sent.command, arguments, metadata, now)


def cancellation_given(reason: str, metadata: Metadata, now: datetime) -> Given:
    """Return an operator's decision to end an instance as an input."""
    return Given(Cancelled(reason), "due", None, (), metadata, now)


def refuse_unstarted(folding: Folding, instance: Instance, given: Given) -> bool:
    """Return whether an event about an instance that was never started is to be left out.

    Raises:
        ProcessNotStartedError: it must not come.
    """
    trigger = folding.methods.trigger(given.kind, given.of)
    if instance.is_started or trigger is None or trigger.starts:
        return False
    if trigger.missing == "ignore":
        return True
    raise ProcessNotStartedError(folding.process.name, instance.id, given.of.__name__)


def take(folding: Folding, instance: Instance, given: Given) -> Taken:
    """Return what an instance makes of an input.

    Raises:
        InvalidProcessError: a handler gave what cannot follow, none takes the refusal of a command, or the id is empty.
        LimitExceededError: the step is too large to be stored, or the id too long.
        Exception: whatever the process's methods raise.
    """
    if not instance.id:
        raise InvalidProcessError(f"the key of {given.of!r} gave an empty id; let it give None to leave the event out")
    if is_observed():
        with trace_step(folding.process.name, given.metadata) as metadata:
            return _take(folding, instance, given._replace(metadata=metadata))
    return _take(folding, instance, given)


def _take(folding: Folding, instance: Instance, given: Given) -> Taken:
    methods, state = folding.methods, instance.state
    effects: list[Any] = []
    completed = False
    if instance.ending is None:
        state = methods.evolve(given.kind, given.of, state, *given.arguments)
        effects = _effects(folding, given, state)
        completed = bool(folding.process.is_completed(state))
    step = _step(folding, instance, given, effects, completed=completed)
    step_id = uuid7()
    encoded = encode(folding.events, folding.process.name, instance.id, step, step_id, given.metadata)
    caused = msgspec.structs.replace(
        given.metadata,
        correlation_id=given.metadata.correlation_id or step_id,
        causation_id=step_id,
        command_id=None,
    )
    return Taken(step, encoded, after_step(instance, step, state, caused))


def encode(
    events: EventTypes, process: str, process_id: str, step: ProcessStep, step_id: UUID, metadata: Metadata
) -> NewEvent:
    """Return a step as an append wants it.

    Raises:
        LimitExceededError: it is too large to be stored, or the id too long.
    """
    stream_id, stream_type = stream_of(process, process_id), stream_type_of(process)
    return events.encode(step, step_id, stream_id, stream_type, encode_metadata(metadata))


def _effects(folding: Folding, given: Given, state: Any) -> list[Any]:
    if given.kind == "refused" and folding.methods.trigger("refused", given.of) is None:
        refusal = given.arguments[0]
        raise InvalidProcessError(
            f"{given.of} was refused ({refusal.error}: {refusal.reason}), and {type(folding.process).__qualname__} has "
            f"no method for that; write one: @refused({given.of})"
        )
    return folding.methods.react(given.kind, given.of, state, *given.arguments)


def _step(
    folding: Folding, instance: Instance, given: Given, effects: Sequence[Any], *, completed: bool
) -> ProcessStep:
    sent: list[CommandSent] = []
    timers: dict[str, TimerSet] = {}
    cancelled: list[str] = []
    for effect in effects:
        match effect:
            case SetTimer(name):
                timers[_timer(folding, name)] = TimerSet(name, effect.due_at(given.at))
            case CancelTimer(name):
                timers.pop(name, None)
                cancelled.append(_timer(folding, name))
            case SendStored(command_id, stored):
                sent.append(CommandSent(command_id, stored.name, stored.schema_version, msgspec.Raw(stored.content)))
            case _:
                sent.append(_sent(folding, instance, effect, len(sent)))
    return ProcessStep(given.input, given.at, tuple(sent), tuple(timers.values()), tuple(cancelled), completed)


def _timer(folding: Folding, name: str) -> str:
    if folding.methods.trigger("due", name) is None:
        raise InvalidProcessError(
            f"{type(folding.process).__qualname__} has no method for its timer {name!r}; write one: @due({name!r})"
        )
    return name


def _sent(folding: Folding, instance: Instance, command: Any, place: int) -> CommandSent:
    stream_id = stream_of(folding.process.name, instance.id)
    command_id = command_id_of(stream_id, instance.version + 1, place)
    try:
        stored = folding.commands.encode(folding.commands.identified(command, command_id))
    except InvalidMessageTypeError as error:
        raise InvalidProcessError(
            f"{type(folding.process).__qualname__} yields {command!r}, which cannot be sent: {error}"
        ) from error
    return CommandSent(command_id, stored.name, stored.schema_version, msgspec.Raw(stored.content))
