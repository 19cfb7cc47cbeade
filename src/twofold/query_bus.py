"""The query bus: one handler per query, answered from read models and never from the event log."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar, cast

from twofold.errors import DuplicateHandlerError, HandlerNotFoundError
from twofold.handlers import Call, Middleware, compose, resolve
from twofold.messages import Query
from twofold.receipt import Receipt

Q_contra = TypeVar("Q_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)
R = TypeVar("R")


class QueryHandler(Protocol[Q_contra, R_co]):
    """Something that answers one type of queries. Its dependencies come by its constructor."""

    @abstractmethod
    async def handle(self, query: Q_contra) -> R_co:
        """Answer the query from a read model."""


async def _everything_is_visible(position: int, timeout: float) -> None:
    """Wait for no read model; the default of a bus that knows of none."""


class QueryBus:
    """Carries each query to its one handler, and knows what type of answer comes back.

    Args:
        middleware: wrapped around every handler, the first outermost; each gets the query and the next call.
        wait_for: how to wait until the read models have passed a position.
    """

    def __init__(
        self,
        *,
        middleware: Sequence[Middleware] = (),
        wait_for: Callable[[int, float], Awaitable[None]] = _everything_is_visible,
    ) -> None:
        self._middleware = tuple(middleware)
        self._wait_for = wait_for
        self._routes: dict[type, tuple[object, Call]] = {}

    def register(
        self, query_type: type[Query[R]], handler: QueryHandler[Any, R] | Callable[[Any], Awaitable[R]]
    ) -> None:
        """Let a handler, an object with `async handle(query)` or an `async` function, answer a type of queries.

        Raises:
            DuplicateHandlerError: the query has a handler already.
            InvalidHandlerError: the handler is not asynchronous, or is one for another query.
        """
        if query_type in self._routes:
            raise DuplicateHandlerError(query_type, self._routes[query_type][0])
        call = resolve(query_type, handler)
        self._routes[query_type] = (handler, compose(call, self._middleware))

    async def dispatch(self, query: Query[R], *, after: Receipt[Any] | int | None = None, timeout: float = 5.0) -> R:
        """Answer a query.

        Args:
            query: the question.
            after: the receipt of a command (or a position) whose effects the answer must show.
            timeout: seconds to wait for that, at most.

        Raises:
            HandlerNotFoundError: no handler is registered for it.
            StaleReadError: the read models did not get there in time.
            Exception: whatever the handler raises, as it is.
        """
        route = self._routes.get(type(query))
        if route is None:
            raise HandlerNotFoundError(type(query), "queries")
        if after is not None:
            await self._wait_for(after.position if isinstance(after, Receipt) else after, timeout)
        return cast(R, await route[1](query))
