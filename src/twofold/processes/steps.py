"""What stands in the stream of an instance: one event for each input. stored: version with care."""

from __future__ import annotations

from uuid import UUID, uuid5

import msgspec

from twofold.commands.command_types import StoredCommand
from twofold.messages.event import AwareDatetime, event_type, event_type_of
from twofold.messages.stream import RESERVED

_COMMANDS = UUID("8f6a3c52-4f0e-5a5d-9f6b-2f0f5f7a1c10")
"""stored: the namespace of the ids of commands that processes send."""


class EventReceived(msgspec.Struct, frozen=True, tag_field="kind", tag="event", omit_defaults=True):
    """An event of the log."""

    type: str
    """Its stored name."""
    schema_version: int
    payload: msgspec.Raw
    """The stored JSON; it is upcast whenever it is folded."""
    event_id: UUID
    position: int
    part: int = 0
    """Which of the events it is that upcasters have made of the stored one, from 1; 0 if it is one event."""


class TimerFired(msgspec.Struct, frozen=True, tag_field="kind", tag="timer"):
    """A timer that was due."""

    timer: str
    due_at: AwareDatetime


class CommandDone(msgspec.Struct, frozen=True, tag_field="kind", tag="done"):
    """A command that was carried out."""

    command_id: UUID
    value: msgspec.Raw
    """What its handler returned, as the command bus keeps it."""
    stream_id: str = ""
    version: int = 0
    position: str = ""


class CommandRefused(msgspec.Struct, frozen=True, tag_field="kind", tag="refused"):
    """A command that the domain refused."""

    command_id: UUID
    error: str
    reason: str


class Cancelled(msgspec.Struct, frozen=True, tag_field="kind", tag="cancelled"):
    """An operator ended the instance."""

    reason: str


Input = EventReceived | TimerFired | CommandDone | CommandRefused | Cancelled


class CommandSent(msgspec.Struct, frozen=True):
    """A command that follows from the input."""

    command_id: UUID
    command: str
    """The stored name of its class."""
    schema_version: int
    content: msgspec.Raw

    @property
    def stored(self) -> StoredCommand:
        """What is stored of the command."""
        return StoredCommand(self.command, self.schema_version, bytes(self.content))


class TimerSet(msgspec.Struct, frozen=True):
    """A timer that follows from the input."""

    timer: str
    due_at: AwareDatetime


@event_type("twofold.ProcessStep")
class ProcessStep(msgspec.Struct, frozen=True, omit_defaults=True):
    """One input of an instance, and all that followed from it."""

    input: Input
    at: AwareDatetime
    """The time of the input by the database's clock: when the event was recorded, or the timer or the outcome came."""
    sent: tuple[CommandSent, ...] = ()
    timers: tuple[TimerSet, ...] = ()
    cancelled: tuple[str, ...] = ()
    """The timers that were cancelled."""
    completed: bool = False


STEP = event_type_of(ProcessStep).name
"""The stored name of steps, which keep the events that they have taken in."""

decode_step = msgspec.json.Decoder(ProcessStep).decode
"""Return a step from its stored payload, without the application's code."""


def stream_of(process: str, process_id: str) -> str:
    """Return the stream of an instance. stored."""
    return f"{stream_type_of(process)}-{process_id}"


def stream_type_of(process: str) -> str:
    """Return the type of the streams of the instances of a process. stored."""
    return f"{RESERVED}{process}"


def command_id_of(stream_id: str, version: int, place: int) -> UUID:
    """Return the id of the command that stands at a place in a step. stored: the bus knows a repeat by it."""
    return uuid5(_COMMANDS, f"{stream_id}/{version}/{place}")
