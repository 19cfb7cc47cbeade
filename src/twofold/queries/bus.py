"""The query bus: one handler per query, answered from read models and never from the event log."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from twofold.arguments import check_class, check_flag, check_function, check_instance, check_number, check_texts
from twofold.errors import DuplicateHandlerError, HandlerNotFoundError, InvalidHandlerError, InvalidMessageTypeError
from twofold.messages.command import Command
from twofold.messages.query import Answer, Query
from twofold.messages.read_policy import ReadPolicy
from twofold.messages.receipt import Receipt
from twofold.messages.session import NOTHING_WRITTEN, WriteToken, current_session
from twofold.middleware import Call, Middleware, admits_none, checked, compose, resolve, result_type
from twofold.queries.consistency import Asking, Progress, Tagging, catch_up, current_asking
from twofold.telemetry import traced

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
        progress: of the read models that handlers with SQL of their own read, by name; `ReadModel`s know theirs.
        policy: of the queries that are registered without one, and whose projections declare none.
    """

    def __init__(
        self,
        *,
        middleware: Sequence[Middleware] = (),
        progress: Mapping[str, Progress] | None = None,
        policy: ReadPolicy = ReadPolicy(),  # noqa: B008 - it is immutable
    ) -> None:
        check_instance("policy", policy, ReadPolicy)
        if progress is not None:
            check_instance("progress", progress, Mapping)
        self._middleware = checked(middleware)
        self._policy = policy
        self._routes: dict[type, _Route] = {}
        self._unclear: set[type] = set()
        """Queries whose handlers asked no read model and have not said what they read."""
        self._progress: Mapping[str, Progress] = {} if progress is None else progress

    @property
    def handlers(self) -> Mapping[type, tuple[object, Collection[str] | None]]:
        """The handlers that are registered, each with what it says that it reads, by the class of their queries."""
        return {query: (route.handler, route.reads) for query, route in self._routes.items()}

    def register(
        self,
        query_type: type[Query[R]],
        handler: QueryHandler[Any, R] | Callable[[Any], Awaitable[R]],
        *,
        reads: Collection[str] | None = None,
        tag: Tagging | None = None,
        policy: ReadPolicy | None = None,
    ) -> None:
        """Let a handler, an object with `async handle(query)` or an `async` function, answer a type of queries.

        A handler that asks `ReadModel`s needs neither `reads` nor `tag`: each of them waits for what it must show.

        Args:
            query_type: the class of the queries.
            handler: what answers them.
            reads: the names of the projections whose tables the handler reads with SQL of its own.
            tag: from a query to the tag of all events on which its answer depends, such as
                `lambda query: f"order:{query.order_id}"`; what was written without it is not waited for.
            policy: how long it waits for its read models, and what happens then; by default what the projection of each
                read model declares.

        Raises:
            DuplicateHandlerError: the query has a handler already.
            InvalidHandlerError: the handler is not asynchronous, or is one for another query, or there is a `tag`
                without `reads`.
            InvalidMessageTypeError: the query's type is no class.
            TypeError, ValueError: another argument is of another type, or empty.
        """
        check_class("query_type", query_type, error=InvalidMessageTypeError)
        if policy is not None:
            check_instance("policy", policy, ReadPolicy)
        if query_type in self._routes:
            raise DuplicateHandlerError(query_type, self._routes[query_type].handler)
        answer = resolve(query_type, handler)
        call, has_none = traced(compose(answer, self._middleware)), admits_none(result_type(answer))
        if isinstance(reads, str):
            raise InvalidHandlerError(f"`reads` takes a list of names; write `reads=[{reads!r}]`")
        names = None if reads is None else check_texts("reads", reads)
        if tag is not None:
            check_function("tag", tag)
        if tag is not None and reads is None:
            raise InvalidHandlerError(
                f"{handler!r} has a `tag` and no `reads`; leave it out: a ReadModel knows the tags of a row's events"
            )
        self._routes[query_type] = _Route(handler, call, names, tag, policy, has_none)

    def check(self, query: Query[Any] | None = None) -> None:
        """Make sure that there is a handler for a query, and that the names in its `reads` are names of projections.

        Args:
            query: the question; by default all routes are checked, which the application does at its start.

        Raises:
            HandlerNotFoundError: no handler is registered for the query.
            InvalidHandlerError: a name in `reads` is that of no projection.
        """
        for route in self._routes.values() if query is None else [self._route(query)]:
            self._reads(route)

    async def dispatch(
        self, query: Query[R], *, after: Receipt[Any] | WriteToken | int | None = None, timeout: float | None = None
    ) -> R:
        """Answer a query; see `ask`, which tells of an answer whether it is stale."""
        route = self._route(query)
        asking, tell = self._begin(route, after, timeout, None)
        value: R = await self._answer(route, query, asking)
        tell(asking)
        return value

    async def ask(
        self,
        query: Query[R],
        *,
        after: Receipt[Any] | WriteToken | int | None = None,
        timeout: float | None = None,
        policy: ReadPolicy | None = None,
    ) -> Answer[R]:
        """Answer a query, and say whether the answer is stale.

        The read models that its handler asks wait for what they must show: what `after` and the current session have
        written, if that concerns the rows that are asked for; and until they are no further behind than their
        `max_lag`. Read models that are not asked are not waited for. What a handler with SQL of its own reads is waited
        for before it begins; if it has not said what that is, all read models are.

        Args:
            query: the question.
            after: the receipt of a command (or a position) whose effects the answer must show.
            timeout: seconds to wait, at most, instead of what the policy says.
            policy: instead of the query's own.

        Raises:
            HandlerNotFoundError: no handler is registered for it.
            TypeError, ValueError: an argument is of another type, or negative.
            StaleReadError: the read models did not get there in time, and the policy is to refuse then.
            InvalidHandlerError: the answer is None, which the handler is not annotated to return.
            Exception: whatever the handler raises, unchanged.
        """
        return (await self.ask_where(query, after=after, timeout=timeout, policy=policy))[0]

    async def ask_where(
        self,
        query: Query[R],
        *,
        after: Receipt[Any] | WriteToken | int | None = None,
        timeout: float | None = None,
        policy: ReadPolicy | None = None,
        is_watched: bool = False,
    ) -> tuple[Answer[R], Asking]:
        """Answer a query, and return also what it was answered from; else as `ask`.

        Args:
            query: the question.
            after: as for `ask`.
            timeout: as for `ask`.
            policy: as for `ask`.
            is_watched: whether the scopes are wanted with their tags.
        """
        route = self._route(query)
        check_flag("is_watched", is_watched)
        asking, tell = self._begin(route, after, timeout, policy)
        asking.is_watched = is_watched
        value = await self._answer(route, query, asking)
        tell(asking)
        return Answer(value, asking.stale, asking.age, asking.position or 0), asking

    def _begin(
        self,
        route: _Route,
        after: Receipt[Any] | WriteToken | int | None,
        timeout: float | None,
        policy: ReadPolicy | None,
    ) -> tuple[Asking, Callable[[Asking], None]]:
        """Return what a query's answer must show, and what is to be told how good it was."""
        if timeout is not None:
            check_number("timeout", timeout)
        if policy is not None:
            check_instance("policy", policy, ReadPolicy)
        session, outer = current_session(), current_asking()
        written = NOTHING_WRITTEN if after is None else WriteToken.of(after)
        if session:
            written = written.merge(session.written)
            timeout = session.wait if timeout is None else timeout
        if outer:
            written = written.merge(outer.written)
        asking = Asking(written, policy=policy or route.policy, default=self._policy, timeout=timeout)
        return asking, outer.include if outer else session.note_answer if session else _forget

    async def _answer(self, route: _Route, query: Any, asking: Asking) -> Any:
        """Wait for what the handler reads with SQL of its own, and let it answer."""
        reads = self._reads(route)
        if type(query) in self._unclear:
            reads = self._progress.values()
        if reads:
            await catch_up(asking, reads, [route.tag(query)] if route.tag else ())
        before = asking.questions
        with asking:
            value = await route.call(query)
        if value is None and not route.has_none:
            raise InvalidHandlerError(
                f"{type(query).__name__} was answered with None, which its handler is not annotated to return: a "
                f"middleware has lost the answer, or the handler returns nothing; annotate `-> … | None` if it may"
            )
        if route.reads is not None or not self._progress:
            return value
        if asking.questions > before:  # it has asked read models, which have waited
            self._unclear.discard(type(query))
        elif not reads:  # it reads what it has not told: all must show what was written before it reads
            self._unclear.add(type(query))
            return await self._answer(route, query, asking)
        return value

    def _reads(self, route: _Route) -> Collection[Progress]:
        if not route.reads:
            return ()
        unknown = sorted(set(route.reads) - set(self._progress))
        if unknown:
            raise InvalidHandlerError(
                f"{route.handler!r} reads {', '.join(unknown)}, which is no projection; there are "
                f"{', '.join(self._progress) or 'none'}, add the others with `projections.add(...)`"
            )
        return [self._progress[name] for name in route.reads]

    def _route(self, query: object) -> _Route:
        route = self._routes.get(type(query))
        if route is None:
            if isinstance(query, type):
                raise TypeError(f"`query` is the class {query.__name__}; give an instance: {query.__name__}(…)")
            if isinstance(query, Command):
                name = type(query).__name__
                raise TypeError(f"`query` is the command {name}; dispatch it with `commands`, such as app.commands")
            raise HandlerNotFoundError(type(query), "queries")
        return route


def _forget(_: Asking) -> None:
    """Do nothing: neither a query nor a session wants to know how good an answer was."""


class _Route(NamedTuple):
    handler: object
    call: Call
    reads: tuple[str, ...] | None
    tag: Tagging | None
    policy: ReadPolicy | None
    has_none: bool
    """Whether None is an answer."""
