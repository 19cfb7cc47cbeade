"""What an operator types, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Twofold = Callable[..., "Done"]
Fails = Callable[..., str]


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str
