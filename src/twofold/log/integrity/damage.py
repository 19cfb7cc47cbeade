"""What a check of the log has found to be wrong."""

from __future__ import annotations

from typing import Literal, NamedTuple

Check = Literal[
    "event", "tags", "command", "storage", "snapshot", "checkpoint", "anchor", "key", "tombstone", "archive"
]
"""stored: by those who read `twofold verify --json`."""


class Damage(NamedTuple):
    """One thing that is wrong."""

    check: Check
    """What was checked."""
    where: str
    """Which one it is, such as `position 12`, `command 6f1c…` or `aggregate Order of Order-7f3`."""
    error: Exception
    """What an application would be told; the text names the remedy."""
