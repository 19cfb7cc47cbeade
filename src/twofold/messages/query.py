"""Queries: what an application asks its read models; and answers: what it gets, and how fresh that is."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Generic, TypeVar

R_co = TypeVar("R_co", covariant=True)


class Query(Generic[R_co]):
    """A question to a read model, answered with an `R`: `class GetOrder(Query[OrderView | None])`."""

    __slots__ = ()


@dataclass(frozen=True)
class Answer(Generic[R_co]):
    """The answer to a query, and whether it is all that was asked for."""

    value: R_co
    stale: bool = False
    """It does not show what it had to show, or is older than a `max_lag` allows."""
    age: timedelta | None = None
    """Of a stale answer: the age of the oldest event that is missing in it; None if that is not known."""
    position: int = field(default=0, compare=False)
    """All up to this position of the log is in it, for certain."""
