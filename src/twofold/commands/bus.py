"""The command bus: one handler per command, and each command takes effect once.

1. `execute` finds the handler and calls it, through the middleware, by a chain of calls that is made once.
2. At its end stands `Execution`, which carries the command out as a unit of work, and once.
3. What was written is noted in the client's session.
4. Commands that are carried out later are stored as events, and the scheduler executes them.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Protocol, TypeVar, overload

import msgspec

from twofold.arguments import check_class, check_instance, check_text, check_whole
from twofold.commands.command_content import content_hash_of
from twofold.commands.command_types import CommandTypes, Results
from twofold.commands.execution import Execution, Handler, carried_out, given_id
from twofold.commands.results import ResultCodec
from twofold.commands.schedule import STREAM_TYPE, CommandScheduled, ScheduledCommand, Scheduler, scheduled_stream
from twofold.errors import (
    ConflictError,
    DuplicateHandlerError,
    HandlerNotFoundError,
    InvalidHandlerError,
    InvalidMessageTypeError,
    InvalidProcessError,
    OutcomeUnknownError,
    StorageError,
    UnitOfWorkError,
)
from twofold.log.event_store import EventStore
from twofold.log.unit_of_work import writing_unit
from twofold.messages.command import Command
from twofold.messages.context import current_context
from twofold.messages.event import Event, event_type_of
from twofold.messages.ids import uuid7
from twofold.messages.query import Query
from twofold.messages.receipt import Receipt
from twofold.messages.stream import NO_STREAM
from twofold.middleware import Call, Middleware, checked, compose, resolve
from twofold.options import CommandOptions
from twofold.telemetry import count, traced

log = logging.getLogger(__name__)

C_contra = TypeVar("C_contra", contravariant=True)
C = TypeVar("C")
R = TypeVar("R")


class CommandHandler(Protocol[C_contra]):
    """Something that carries out one type of commands. Its dependencies come by its constructor."""

    @abstractmethod
    async def handle(self, command: C_contra) -> Any:
        """Check the command, change state through repositories or the event store, return a value for the caller."""


class CommandBus:
    """Carries each command to its one handler.

    A command is a unit of work: what its handler saves and appends, and the commands that it dispatches, are stored in
    one step, with the command's id and the handler's result, once it returns. If another append came first, the
    handler runs again, on what that has stored; a handler must therefore have no other effects.

    Args:
        store: where the handlers' events go.
        middleware: wrapped around every handler, the first outermost; each gets the command and the next call.
        options: how often a command is tried.
    """

    def __init__(
        self, store: EventStore, *, middleware: Sequence[Middleware] = (), options: CommandOptions | None = None
    ) -> None:
        check_instance("store", store, EventStore)
        if options is not None:
            check_instance("options", options, CommandOptions)
        self._appender = store._appender
        self._middleware = checked(middleware)
        self._execution = Execution(store._appender, options or CommandOptions())
        self._routes: dict[type, tuple[Handler, Call]] = {}
        self.scheduler: Scheduler | None = None
        """Looks after commands that are carried out later, once the process for that is added."""
        self.types = CommandTypes(self._routes, self._results)
        """The classes of commands that have handlers, as they are stored until they are carried out."""

    @property
    def handlers(self) -> Mapping[type, object]:
        """The handlers that are registered, by the class of their commands."""
        return {command: handler.registered for command, (handler, _) in self._routes.items()}

    def register(self, command_type: type[C], handler: CommandHandler[C] | Callable[[C], Awaitable[Any]]) -> None:
        """Let a handler, an object with `async handle(command)` or an `async` function, take a type of commands.

        Raises:
            DuplicateHandlerError: the command has a handler already.
            InvalidHandlerError: the handler is not asynchronous, or is one for another command.
            InvalidMessageTypeError: the command is neither a dataclass, a msgspec Struct nor a pydantic model.
        """
        check_class("command_type", command_type, error=InvalidMessageTypeError)
        if command_type in self._routes:
            raise DuplicateHandlerError(command_type, self._routes[command_type][0].registered)
        call = resolve(command_type, handler)
        content_hash, results = content_hash_of(command_type), ResultCodec(command_type, call)
        name = event_type_of(command_type).name
        known = Handler(handler, call, results.encode, results.decode, content_hash, name)
        carry_out = partial(self._execution.carry_out, known)
        self._routes[command_type] = (known, traced(compose(carry_out, self._middleware)))

    def _results(self, command_type: type) -> Results:
        handler = self._routes[command_type][0]
        return Results(handler.encode_result, handler.decode_result)

    @overload
    async def dispatch(self, command: Command[R]) -> R: ...
    @overload
    async def dispatch(self, command: object) -> Any: ...
    async def dispatch(self, command: object) -> Any:
        """Carry out a command and return what its handler returned; see `execute`."""
        return (await self.execute(command)).value

    @overload
    async def execute(self, command: Command[R]) -> Receipt[R]: ...
    @overload
    async def execute(self, command: object) -> Receipt[Any]: ...
    async def execute(self, command: object) -> Receipt[Any]:
        """Carry out a command and return the receipt for what it wrote.

        A command with a `command_id` that has taken effect before does so no more: it gets the first receipt, with
        the first value.

        Within a command handler, the command is part of the outer one. It is stored with it or not at all, is repeated
        with it, and is not recorded under an id of its own; its receipt is a `StagedReceipt`. If its handler raises,
        what it has appended is dropped, and the outer handler may go on.

        Raises:
            HandlerNotFoundError: no handler is registered for it.
            InvalidHandlerError: a middleware answered itself, with something else than a receipt, or the handler with
                a value that cannot be kept; nothing was stored.
            CommandReusedError: its id belongs to an earlier command with other content.
            ConflictError: other appends came first, as often as it was tried.
            VersionMismatchError: the stream is not at the version that the current session expects.
            UnitOfWorkError: this code was begun by a command handler that has returned.
            OutcomeUnknownError, StorageError: the database failed; try again with the same command.
            Exception: whatever the handler raises, unchanged; nothing was stored then.
        """
        route = self._routes.get(type(command))
        if route is None:
            raise _no_handler(command)
        receipts: list[Receipt[Any]] = []
        token = carried_out.set(receipts)
        try:
            receipt = await route[1](command)
        except Exception as error:
            if current_context().unit is None:
                count(_outcome_of(error))
            raise
        finally:
            carried_out.reset(token)
        if not isinstance(receipt, Receipt):
            receipt = _instead_of(receipt, command, receipts)
        if receipt.is_staged:
            return receipt
        count("commands_repeated" if receipt.repeated else "commands_done")
        if (session := current_context().session) is not None:
            session.note(receipt)
        return receipt

    async def schedule(self, command: object, *, at: datetime | None = None, after: timedelta | None = None) -> str:
        """Let a command be carried out later, under its own id, and return the id for `cancel_scheduled`.

        Within a command handler, it is scheduled with the command that is being handled, or not at all. Scheduled
        again under its `command_id`, it stays as it was scheduled first.

        Args:
            command: which, with a `command_id`.
            at: when, with a time zone.
            after: in place of that, how long from now on, by the clock of the database.

        Raises:
            InvalidProcessError: this application has no `ScheduledCommands`; the text has the line to write.
            ValueError: neither or both of `at` and `after` are given, `at` has no time zone, or the time is beyond all
                calendars.
            InvalidMessageTypeError: the command has no handler here, or cannot be stored.
            StorageError: the database failed; nothing was stored.
        """
        if at is not None:
            check_instance("at", at, datetime, "such as datetime.now(UTC) + timedelta(hours=1)")
        if after is not None:
            check_instance("after", after, timedelta, "such as timedelta(hours=1)")
        self._scheduler()
        if (at is None) == (after is None) or (at is not None and at.tzinfo is None):
            raise ValueError("give either at=, a datetime with a time zone, or after=, a timedelta")
        _check_moment(at, after)
        stored, command_id = self.types.encode(command), given_id(command) or uuid7()
        schedule_id, seconds = str(command_id), None if after is None else after.total_seconds()
        event = CommandScheduled(
            schedule_id, command_id, stored.name, stored.schema_version, msgspec.Raw(stored.content), at, seconds
        )
        stream_id = scheduled_stream(schedule_id)
        try:
            await self._appender.write([event], stream_id, STREAM_TYPE, NO_STREAM, None, None, None)
        except ConflictError:
            if writing_unit() is not None:
                raise
        return schedule_id

    async def cancel_scheduled(self, schedule_id: str, *, reason: str = "cancelled by the application") -> bool:
        """Cancel a command that was scheduled, and return whether it was still waiting; then it never takes effect.

        Raises:
            InvalidProcessError: this application has no `ScheduledCommands`; the text has the line to write.
            UnitOfWorkError: this is a command handler, which may run more than once before its events are stored.
            StorageError: the database failed.
        """
        check_text("schedule_id", schedule_id)
        check_text("reason", reason)
        scheduler = self._scheduler()
        if writing_unit() is not None:
            raise UnitOfWorkError("a command handler cannot cancel what is scheduled: that is no part of its append")
        return await scheduler.cancel(schedule_id, reason)

    async def find_scheduled(self, schedule_id: str) -> ScheduledCommand | None:
        """Return a scheduled command that waits, also if it was scheduled a moment ago; None if none of this id does.

        Raises:
            InvalidProcessError: this application has no `ScheduledCommands`; the text has the line to write.
            StorageError: the database failed.
        """
        check_text("schedule_id", schedule_id)
        return await self._scheduler().find(schedule_id)

    async def scheduled(self, *, after: str = "", limit: int = 100) -> Sequence[ScheduledCommand]:
        """Return the commands that wait, in the order of their ids, behind one of them.

        One that was scheduled a moment ago may not be among them yet; `find_scheduled` finds it.

        Raises:
            InvalidProcessError: this application has no `ScheduledCommands`; the text has the line to write.
            StorageError: the database failed.
        """
        check_text("after", after, may_be_empty=True)
        check_whole("limit", limit, 1)
        return await self._scheduler().waiting(after=after, limit=limit)

    def _scheduler(self) -> Scheduler:
        if self.scheduler is None:
            raise InvalidProcessError(
                "nothing carries out scheduled commands; add `app.processes.add(ScheduledCommands())` where the "
                "application is wired"
            )
        return self.scheduler


def _outcome_of(error: Exception) -> str:
    """Return which of the tallies a command adds to that failed."""
    if isinstance(error, ConflictError):
        return "conflicts_lost"
    return "commands_failed" if isinstance(error, StorageError | OutcomeUnknownError) else "commands_refused"


def _instead_of(answer: object, command: object, receipts: Sequence[Receipt[Any]]) -> Receipt[Any]:
    """Return the receipt of a command that is carried out, although a middleware has answered something else.

    Raises:
        InvalidHandlerError: it is not carried out.
    """
    name = type(command).__name__
    remedy = "let it return what `await call_next(command)` returned"
    if not receipts:
        raise InvalidHandlerError(
            f"a middleware returned {answer!r} for a {name} that is not carried out; {remedy}, or a Receipt of its own"
        )
    log.error("a middleware returned %r for a %s that is carried out; its receipt was kept; %s", answer, name, remedy)
    return receipts[-1]


def _check_moment(at: datetime | None, after: timedelta | None) -> None:
    """Refuse a time that cannot be told in UTC."""
    try:
        (at or datetime.now(UTC)).astimezone(UTC) + (after or timedelta())
    except OverflowError:
        given = f"at={at}" if at else f"after={after}"
        raise ValueError(
            f"{given} is a time that no clock of ours shows; give one between the years 1 and 9999"
        ) from None


def _no_handler(command: object) -> Exception:
    """Return what is raised about something that no handler is registered for."""
    name = type(command).__name__
    match command:
        case type():
            return TypeError(f"`command` is the class {command.__name__}; give an instance: {command.__name__}(…)")
        case Event():
            return TypeError(f"`command` is the event {name}; append it: store.append([{name}(…)])")
        case Query():
            return TypeError(f"`command` is the query {name}; dispatch it with `queries`, such as app.queries")
    return HandlerNotFoundError(type(command), "commands")
