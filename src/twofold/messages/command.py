"""Commands: what an application is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic
from uuid import UUID

from twofold.messages.event import utc_now
from twofold.messages.ids import uuid7

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # which type checkers bring along: a plain `Command` is a `Command[Any]`

    R_co = TypeVar("R_co", covariant=True, default=Any)
else:
    from typing import TypeVar

    R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, kw_only=True)
class Command(Generic[R_co]):
    """An intent to change state; its handler returns an `R`: `class OpenAccount(Command[str])`.

    `command_id` identifies the intent: executed twice under one id, it takes effect once.
    """

    command_id: UUID = field(default_factory=uuid7)
    timestamp: datetime = field(default_factory=utc_now)
