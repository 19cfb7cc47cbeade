"""Commands that are carried out later: the event that says so, and what `CommandBus.schedule` needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

import msgspec

from twofold.messages.event import AwareDatetime, event_type


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


class Scheduler(Protocol):
    """Looks after the commands that wait."""

    async def cancel(self, schedule_id: str, reason: str) -> bool:
        """Cancel a command, and return whether it was still waiting."""

    async def waiting(self, *, after: str, limit: int) -> Sequence[ScheduledCommand]:
        """Return the commands that wait, in the order of their ids."""
