"""The query bus: one handler per query, answered from read models and never from the event log."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import timedelta
from typing import Any, NamedTuple, Protocol, TypeVar

from twofold.errors import DuplicateHandlerError, HandlerNotFoundError, InvalidHandlerError
from twofold.messages.answer import Answer
from twofold.messages.query import Query
from twofold.messages.read_policy import Policy, WhenLate, strictest
from twofold.messages.receipt import Receipt
from twofold.messages.session import Written, current_session
from twofold.middleware import Call, Middleware, compose, resolve
from twofold.queries.consistency import Progress, Tagging, age_of, catch_up, reached_by
from twofold.queries.read_model import overlaying

Q_contra = TypeVar("Q_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)
R = TypeVar("R")


class QueryHandler(Protocol[Q_contra, R_co]):
    """Something that answers one type of queries. Its dependencies come by its constructor."""

    @abstractmethod
    async def handle(self, query: Q_contra) -> R_co:
        """Answer the query from a read model."""


class QueryBus:
    """Carries each query to its one handler, and knows what type of answer comes back.

    Args:
        middleware: wrapped around every handler, the first outermost; each gets the query and the next call.
        progress: how far the read models have come; without it, no query waits.
        policy: of the queries that are registered without one, and whose projections declare none.
    """

    def __init__(
        self,
        *,
        middleware: Sequence[Middleware] = (),
        progress: Progress | None = None,
        policy: Policy = Policy(),  # noqa: B008 - it is immutable
    ) -> None:
        self._middleware = tuple(middleware)
        self._policy = policy
        self._routes: dict[type, _Route] = {}
        self.progress = progress

    def register(
        self,
        query_type: type[Query[R]],
        handler: QueryHandler[Any, R] | Callable[[Any], Awaitable[R]],
        *,
        reads: Collection[str] | None = None,
        tag: Tagging | None = None,
        policy: Policy | None = None,
    ) -> None:
        """Let a handler, an object with `async handle(query)` or an `async` function, answer a type of queries.

        Args:
            query_type: the class of the queries.
            handler: what answers them.
            reads: the names of the projections whose read models it asks; by default, any may be.
            tag: from a query to the tag of all events on which its answer depends, such as
                `lambda query: f"order:{query.order_id}"`; what was written without it is not waited for.
            policy: how long it waits for its read models, and what happens then; by default what the projections that
                it reads declare, the strictest of them if they are several.

        Raises:
            DuplicateHandlerError: the query has a handler already.
            InvalidHandlerError: the handler is not asynchronous, or is one for another query.
        """
        if query_type in self._routes:
            raise DuplicateHandlerError(query_type, self._routes[query_type].handler)
        call = compose(resolve(query_type, handler), self._middleware)
        reads = None if reads is None else tuple(reads)
        self._routes[query_type] = _Route(handler, call, reads, tag, policy)

    async def dispatch(
        self, query: Query[R], *, after: Receipt[Any] | Written | int | None = None, timeout: float | None = None
    ) -> R:
        """Answer a query; see `ask`, which tells of an answer whether it is stale."""
        return (await self.ask(query, after=after, timeout=timeout)).value

    async def ask(
        self,
        query: Query[R],
        *,
        after: Receipt[Any] | Written | int | None = None,
        timeout: float | None = None,
        policy: Policy | None = None,
    ) -> Answer[R]:
        """Answer a query, and say whether the answer is stale.

        It waits for what it must show: what `after` and the current session have written, if its read models handle
        that; and until none of them is further behind than its `max_lag`.

        Args:
            query: the question.
            after: the receipt of a command (or a position) whose effects the answer must show.
            timeout: seconds to wait, at most, instead of what the policy says.
            policy: instead of the query's own.

        Raises:
            HandlerNotFoundError: no handler is registered for it.
            StaleReadError: the read models did not get there in time, and the policy is to refuse then.
            Exception: whatever the handler raises, as it is.
        """
        route = self._route(query)
        policy = policy or self._policy_of(route)
        session, written = current_session(), Written.of(after or 0)
        if session:
            written = written.merge(session.written)
            timeout = session.wait if timeout is None else timeout
        wait = policy.wait if timeout is None else timeout
        stale, age, position = await self._catch_up(route, query, written, wait, policy.then)
        if stale and policy.then is WhenLate.OVERLAY:
            answer: Answer[R] = await _overlaid(route.call, query, age, position)
        else:
            answer = Answer(await route.call(query), stale, age, position)
        if session:
            session.note_answer(answer)
        return answer

    def reads(self, query: Query[Any]) -> Collection[str]:
        """Return the names of the projections whose read models answer a query.

        Raises:
            HandlerNotFoundError: no handler is registered for it.
            InvalidHandlerError: it was registered with a name that no projection has.
        """
        route = self._route(query)
        return _reads(route, self.progress) if self.progress else ()

    async def _catch_up(
        self, route: _Route, query: object, written: Written, wait: float, then: WhenLate
    ) -> tuple[bool, timedelta | None, int]:
        """Return how good an answer that is given now will be."""
        if self.progress is None:
            return False, None, 0
        reads, tag = _reads(route, self.progress), route.tag and route.tag(query)
        late = await catch_up(self.progress, reads, written, tag, wait)
        if late and then is WhenLate.REFUSE:
            raise late
        age = await age_of(self.progress, reads) if late else None
        return late is not None, age, reached_by(self.progress, reads)

    def _policy_of(self, route: _Route) -> Policy:
        if route.policy or self.progress is None:
            return route.policy or self._policy
        declared = [policy for name in _reads(route, self.progress) if (policy := self.progress.policy(name))]
        return strictest(declared) if declared else self._policy

    def _route(self, query: object) -> _Route:
        route = self._routes.get(type(query))
        if route is None:
            raise HandlerNotFoundError(type(query), "queries")
        return route


class _Route(NamedTuple):
    handler: object
    call: Call
    reads: tuple[str, ...] | None
    tag: Tagging | None
    policy: Policy | None


async def _overlaid(call: Call, query: object, age: timedelta | None, position: int) -> Answer[Any]:
    with overlaying() as overlay:
        value = await call(query)
    return Answer(value, position=position) if overlay.is_complete else Answer(value, True, age, position)


def _reads(route: _Route, progress: Progress) -> Collection[str]:
    known = progress.projections()
    if route.reads is None:
        return known
    if unknown := sorted(set(route.reads) - set(known)):
        raise InvalidHandlerError(
            f"{route.handler!r} reads {', '.join(unknown)}, which is no projection; there are "
            f"{', '.join(known) or 'none'}, add the others with `projections.add(...)`"
        )
    return route.reads
