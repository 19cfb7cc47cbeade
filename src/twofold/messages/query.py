"""Queries: what an application asks its read models."""

from __future__ import annotations

from typing import Generic, TypeVar

R_co = TypeVar("R_co", covariant=True)


class Query(Generic[R_co]):
    """A question to a read model, answered with an `R`: `class GetOrder(Query[OrderView | None])`."""

    __slots__ = ()
