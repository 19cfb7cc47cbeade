"""Scenarios of SQL projections and reactions, which run as workers run them, against a real database in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import copy_context
from typing import Any, NamedTuple, Self, TypeVar, Unpack

from twofold.engines.memory import MemoryReadDatabase
from twofold.errors import ProjectionFailedError
from twofold.log.codec.event_types import EventTypes
from twofold.messages.event import RawEvent, RecordedEvent
from twofold.ports.checkpoints import SQL, generations_of
from twofold.ports.segments import Segment, Step
from twofold.projections.kinds import runner_of
from twofold.projections.reaction import Reaction
from twofold.projections.runner import ProjectionBatch, ProjectionRunner, decoder_for
from twofold.projections.sql_projection import SqlProjection
from twofold.synchronizer.generations import prepare
from twofold.testing.scenarios.history import Scenario, Where, types_of
from twofold.testing.scenarios.report import content, expect_error, fail_with

__tracebackhide__ = True  # pytest then shows the line of the test

T = TypeVar("T")


class SqlScenario(Scenario):
    """An SQL projection: `given(SOLD).then_rows("SELECT product, pieces FROM sales", ("tea", 3))`.

    It writes into a database in memory, in SQLite's dialect, as a worker would let it.
    """

    def __init__(self, projection: SqlProjection) -> None:
        super().__init__(_types(projection))
        self._projection = projection

    def when(self, *events: object, **where: Unpack[Where]) -> Self:
        """Let further events be recorded; see `given`."""
        return self._when(self._history.add(events, **where))

    def then_rows(self, sql: str, *rows: tuple[Any, ...]) -> Self:
        """Expect that a query returns exactly these rows, in the order that it asks for.

        Raises:
            AssertionError: it returns others.
            Exception: whatever the projection has raised.
        """
        found, error = self._run(sql)
        if error is not None:
            raise error
        if found != list(rows):
            fail_with("other rows than expected (-) came of it (+):", self._told, rows, found)
        return self

    def then_raises(self, error: type[Exception], match: str = "") -> None:
        """Expect that an event of the last `when` fails with an error of this class, whose text matches.

        Raises:
            AssertionError: it was otherwise.
        """
        _, raised = self._run("")
        expect_error(raised, error, match, self._told, "it took all events")

    def _run(self, sql: str) -> tuple[list[tuple[Any, ...]], BaseException | None]:
        """Let the projection take all events; return what a query finds then, and why the last `when` failed."""
        self._then()

        async def work() -> tuple[list[tuple[Any, ...]], BaseException | None]:
            async with _driven(self._projection) as driven:
                events = driven.recorded(self)
                since = len(events) if self._since is None else self._since
                if (error := await driven.take(events[:since])) is not None:
                    raise error
                error = await driven.take(events[since:])
                return (await driven.database.query(sql) if sql and error is None else []), error

        return in_own_loop(work)


class ReactionScenario(Scenario):
    """A reaction: `given(PLACED).when(PAID).then_sends(Mail("ann"))`. What is only given has happened before its time.

    It works with adapters that the test makes, such as a mailbox that keeps what is sent in a list.

    Args:
        reaction: what is tested.
        sends: the list in which its adapters keep what it sends.
        publishes: the list in which they keep what it publishes.
    """

    def __init__(self, reaction: Reaction, sends: Sequence[Any] | None, publishes: Sequence[Any] | None) -> None:
        super().__init__(_types(reaction))
        self._reaction = reaction
        self._lists = {"sends": sends, "publishes": publishes}
        self._before: dict[str, int] = {}
        self._error: BaseException | None = None

    def when(self, *events: object, **where: Unpack[Where]) -> Self:
        """Let events be recorded now, and the reaction do what follows from them; see `given`."""
        other = self._when(self._history.add(events, **where))
        other._before = {name: len(kept) for name, kept in self._lists.items() if kept is not None}
        other._error = other._react()
        return other

    def then_sends(self, *messages: object) -> Self:
        """Expect that exactly these were sent, in this order; of commands, ids and times do not matter.

        Raises:
            AssertionError: others were.
            TypeError: the scenario does not know where they are kept.
        """
        return self._expect("sends", "sent", messages)

    def then_publishes(self, *messages: object) -> Self:
        """Expect that exactly these were published, in this order.

        Raises:
            AssertionError: others were.
            TypeError: the scenario does not know where they are kept.
        """
        return self._expect("publishes", "published", messages)

    def then_raises(self, error: type[Exception], match: str = "") -> None:
        """Expect that an event fails with an error of this class, whose text matches; it would be tried again.

        Raises:
            AssertionError: it was otherwise.
        """
        self._then()
        expect_error(self._error, error, match, self._told, "it did what follows from all events")

    def _expect(self, name: str, done: str, messages: Sequence[object]) -> Self:
        self._then()
        kept = self._lists[name]
        if kept is None:
            raise TypeError(f"say where your adapter keeps what is {done}: scenario(reaction, {name}=outbox.{done})")
        if self._error is not None:
            raise self._error
        found = kept[self._before.get(name, len(kept)) :]
        if list(map(content, messages)) != list(map(content, found)):
            fail_with(f"others than expected (-) were {done} (+):", self._told, messages, found)
        return self

    def _react(self) -> BaseException | None:
        async def work() -> BaseException | None:
            async with _driven(self._reaction) as driven:
                return await driven.take(driven.recorded(self)[self._since :])

        return in_own_loop(work)


def in_own_loop(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run asynchronous work to its end in a loop and a thread of its own, as one may run in this thread already."""
    with ThreadPoolExecutor(1, "twofold-scenario") as thread:
        return thread.submit(copy_context().run, asyncio.run, work()).result()


class _Driven(NamedTuple):
    """A projection with its read model, ready to take events."""

    database: MemoryReadDatabase
    runner: ProjectionRunner
    suffix: str
    segment: Segment

    def recorded(self, scenario: Scenario) -> list[RecordedEvent[Any]]:
        """Return the events of a scenario as this projection takes them."""
        return scenario._history.recorded(scenario._types, decoder_for(self.runner, scenario._types).decode)

    async def take(self, events: Sequence[RecordedEvent[Any]]) -> BaseException | None:
        """Let it take events, in batches as large as it takes them; return why the first one failed that did."""
        handled, size = self.runner.projection.handles(), self.runner.batch_size
        taken = [each for each in events if RawEvent in handled or type(each.event) in handled]
        for first in range(0, len(taken), size):
            error = await self._project(taken[first : first + size])
            if error is not None:
                return error
        return None

    async def _project(self, events: Sequence[RecordedEvent[Any]]) -> BaseException | None:
        at = {"name": self.segment.projection, "generation": self.segment.generation}
        [(before,)] = await self.database.query(SQL["position_of"], **at)
        step = Step(self.segment, 0, before, events[-1].position)
        try:
            done = await self.runner.project(ProjectionBatch(self.suffix, self.runner.keyed(events), step))
        except ProjectionFailedError as failure:  # what a reaction talks to is away
            return failure.__cause__
        return next((failure.error for failure in done.failures if failure.error), None)


@asynccontextmanager
async def _driven(projection: SqlProjection | Reaction) -> AsyncIterator[_Driven]:
    database = MemoryReadDatabase()
    await database.open()
    try:
        runner = runner_of(projection, database, database.batch_size)
        await prepare(database, runner)
        async with database.transaction() as transaction:
            [made] = await generations_of(transaction, runner.name)
        yield _Driven(database, runner, made.suffix, Segment(runner.name, made.number))
    finally:
        await database.close()


def _types(projection: SqlProjection | Reaction) -> EventTypes:
    return types_of(each for each in projection.handles() if each is not RawEvent)
