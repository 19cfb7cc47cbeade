"""Commands that are carried out later: the event that says so, and what `CommandBus.schedule` needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

import msgspec

from twofold.messages.event import AwareDatetime, event_type
from twofold.messages.stream import RESERVED


@event_type("twofold.CommandScheduled")
class CommandScheduled(msgspec.Struct, frozen=True, omit_defaults=True):
    """A command is to be carried out later. stored: version with care."""

    schedule_id: str
    command_id: UUID
    command: str
    """The stored name of its class."""
    schema_version: int
    content: msgspec.Raw
    at: AwareDatetime | None = None
    after: float | None = None
    """Seconds after this event was recorded; one of both is given."""


@dataclass(frozen=True, kw_only=True)
class ScheduledCommand:
    """A command that waits for its time."""

    id: str
    """What `cancel_scheduled` takes."""
    due_at: datetime
    command: Any


STREAM_TYPE = f"{RESERVED}scheduled"
"""stored: the type of the streams of scheduled commands."""


def scheduled_stream(schedule_id: str) -> str:
    """Return the stream that holds the one event of a scheduled command. stored."""
    return f"{STREAM_TYPE}-{schedule_id}"


class Scheduler(Protocol):
    """Looks after the commands that wait."""

    async def cancel(self, schedule_id: str, reason: str) -> bool:
        """Cancel a command, and return whether it was still waiting."""

    async def find(self, schedule_id: str) -> ScheduledCommand | None:
        """Return a command that waits; None if none of this id does."""

    async def waiting(self, *, after: str, limit: int) -> Sequence[ScheduledCommand]:
        """Return the commands that wait, in the order of their ids."""
