"""Answers: what a query gets, and how fresh it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Generic, TypeVar

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class Answer(Generic[T_co]):
    """The answer to a query, and whether it is all that was asked for."""

    value: T_co
    stale: bool = False
    """It does not show what it had to show, or is older than a `max_lag` allows."""
    age: timedelta | None = None
    """Of a stale answer: the age of the oldest event that is missing in it; None if that is not known."""
    position: int = field(default=0, compare=False)
    """All up to this position of the log is in it, for certain."""
