"""Commands: what an application is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from twofold.messages.event import utc_now
from twofold.messages.ids import uuid7


@dataclass(frozen=True, kw_only=True)
class Command:
    """An intent to change state.

    `command_id` identifies the intent: executed twice under one id, it takes effect once.
    """

    command_id: UUID = field(default_factory=uuid7)
    timestamp: datetime = field(default_factory=utc_now)
