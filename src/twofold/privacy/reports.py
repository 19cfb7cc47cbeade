"""What is told of persons and of forgettings."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, kw_only=True)
class KnownSubject:
    """A person of whom there is personal data, or whose key at least was made."""

    subject: str
    since: datetime


@dataclass(frozen=True, kw_only=True)
class ForgottenSubject:
    """The record of a forgetting. The digest stands in the log, too; nothing tells the person of it."""

    number: int
    digest: str
    at: datetime
    reason: str
    by: str
    is_done: bool
    """Whether everything that was made of the person's events is folded again."""


@dataclass(frozen=True, kw_only=True)
class ForgetReport:
    """What a forgetting has touched. Forgettings that are under way at the same time are reported together."""

    digest: str
    number: int
    forgotten_at: datetime
    events: int
    """Events whose personal fields cannot be read any more."""
    streams: int
    types: tuple[str, ...]
    read_models: tuple[str, ...]
    """Those that were built again, without the personal data."""
    snapshots: int
    """Stored snapshots that were deleted; they could not be read any more."""
    parked: int
    """Parked and skipped events whose errors' texts were removed."""
