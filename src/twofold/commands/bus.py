"""The command bus: one handler per command, and each command takes effect once.

1. `execute` finds the handler and calls it, through the middleware, with a unit of work in the context.
2. What the handler appends, and commands that it dispatches, are staged in that unit.
3. The unit is appended in one step, with the command's id, a hash of its content and the handler's result.
4. On a conflict, the events in the way are added to what was read, and the handler runs again: at once the first time,
   then in a queue with the other commands of this process that conflict on the same thing.
5. If an attempt fails, or finds nothing to do, and the command has taken effect before, it gets the first receipt.
"""

from __future__ import annotations

import dataclasses
import logging
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from typing import Any, NamedTuple, NoReturn, Protocol, TypeVar, overload
from uuid import UUID

import msgspec

from twofold.arguments import check_class, check_instance, check_text, check_whole
from twofold.commands.command_content import content_hash_of
from twofold.commands.command_types import CommandTypes, Results
from twofold.commands.results import ResultCodec
from twofold.commands.retry_queue import RetryQueue
from twofold.commands.schedule import STREAM_TYPE, CommandScheduled, ScheduledCommand, Scheduler, scheduled_stream
from twofold.errors import (
    CommandReusedError,
    ConflictError,
    DuplicateHandlerError,
    HandlerNotFoundError,
    InvalidHandlerError,
    InvalidMessageTypeError,
    InvalidProcessError,
    OutcomeUnknownError,
    StorageError,
    StorageUnavailableError,
    UnitOfWorkError,
    VersionMismatchError,
)
from twofold.log.appender import Appender, Committed, staged_receipt
from twofold.log.event_store import EventStore
from twofold.log.unit_of_work import CommandReads, UnitOfWork, writing_unit
from twofold.messages.command import Command
from twofold.messages.context import current_metadata
from twofold.messages.event import Metadata
from twofold.messages.ids import uuid7
from twofold.messages.receipt import Receipt
from twofold.messages.session import current_session
from twofold.messages.stream import ANY, NO_STREAM, ExpectedVersion, holds
from twofold.middleware import Call, Middleware, checked, compose, resolve
from twofold.options import CommandOptions
from twofold.ports.event_log import Append, CommandRecord

log = logging.getLogger(__name__)

_carried_out: ContextVar[list[Receipt[Any]]] = ContextVar("twofold-carried-out")
"""Takes the receipt of the command, so that no middleware can lose it."""

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
        self._options = options or CommandOptions()
        self._retries = RetryQueue()
        self._routes: dict[type, tuple[_Handler, Call]] = {}
        self.scheduler: Scheduler | None = None
        """Looks after commands that are carried out later, once the process for that is added."""
        self.types = CommandTypes(self._routes, self._results)
        """The classes of commands that have handlers, as they are stored until they are carried out."""

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
        known = _Handler(handler, call, results.encode, results.decode, content_hash)
        self._routes[command_type] = (known, compose(partial(self._execute, known), self._middleware))

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
            if isinstance(command, type):
                raise TypeError(f"`command` is the class {command.__name__}; give an instance: {command.__name__}(…)")
            raise HandlerNotFoundError(type(command), "commands")
        carried_out: list[Receipt[Any]] = []
        token = _carried_out.set(carried_out)
        try:
            receipt = await route[1](command)
        finally:
            _carried_out.reset(token)
        if not isinstance(receipt, Receipt):
            receipt = _instead_of(receipt, command, carried_out)
        if not receipt.is_staged and (session := current_session()):
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
        stored, command_id = self.types.encode(command), _command_id(command)
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

    async def _execute(self, handler: _Handler, command: Any) -> Receipt[Any]:
        outer, command_id = writing_unit(), _command_id(command)
        if outer is not None:
            receipt = await self._execute_within(outer, handler, command, command_id)
        else:
            receipt = await self._execute_alone(handler, command, command_id)
        _carried_out.get().append(receipt)
        return receipt

    async def _execute_alone(self, handler: _Handler, command: Any, command_id: UUID) -> Receipt[Any]:
        own_id = self._appender.own_id(command_id)
        repeat = _Repeat(self._appender, handler, command_id, own_id, handler.content_hash(command))
        expected, reads = _expected_version(), CommandReads()
        metadata = _metadata_of(command_id)
        with self._retries.place() as place:
            for attempt in count(1):
                unit = UnitOfWork(own_id, reads)
                try:
                    with unit.handling(metadata):
                        value = await handler.call(command)
                except Exception as error:  # a repeat of a command that has taken effect may well break a rule by now
                    return await repeat.instead_of(error)
                try:
                    return await self._store(unit, value, repeat, expected)
                except VersionMismatchError as error:  # to decide again would not help
                    return await repeat.instead_of(error)
                except ConflictError as conflict:
                    contested = reads.learn(conflict, unit.condition)
                    if attempt >= self._attempts(reads.informed):
                        raise
                    await place.take(contested)
                except Exception as error:
                    return await repeat.instead_of(error)
        raise AssertionError("unreachable")

    async def _execute_within(
        self, outer: UnitOfWork, handler: _Handler, command: Any, command_id: UUID
    ) -> Receipt[Any]:
        """Carry out a command within the handler of another one."""
        own_id, metadata = outer.nested_id(), _metadata_of(command_id)
        for attempt in count(1):
            unit = UnitOfWork(own_id, outer.reads, outer)
            with unit.handling(metadata):
                value = await handler.call(command)
            try:
                outer.merge(unit)
            except ConflictError:  # with another command within the outer one, which runs at the same time
                if attempt >= self._options.blind_attempts:
                    raise
            else:
                return staged_receipt(value, unit.events) if unit.events else Receipt(value=value)
        raise AssertionError("unreachable")

    async def _store(self, unit: UnitOfWork, value: Any, repeat: _Repeat, expected: ExpectedVersion) -> Receipt[Any]:
        if not unit.events:  # a repeat, too, may find that there is nothing left to do
            return await repeat.find() or Receipt(value=value)
        record = CommandRecord(unit.id.bytes, repeat.content_hash, repeat.handler.encode_result(value))
        receipt, result = await self._commit(unit.append(record), value, expected)
        if receipt.repeated:
            return dataclasses.replace(receipt, value=repeat.handler.decode_result(result))
        return receipt

    async def _commit(self, append: Append, value: Any, expected: ExpectedVersion) -> Committed:
        """Store what a handler has staged, provided that the stream of its last event is as the caller expects."""
        stream_id = append.events[-1].stream_id
        if expected is ANY or not stream_id:
            return await self._appender.commit(append, value)
        staged = dict(append.expected)
        version = staged.get(stream_id, ANY)
        if isinstance(version, int) and not holds(expected, version):
            raise VersionMismatchError(self._appender.shown(stream_id), expected, version)
        staged.setdefault(stream_id, expected)
        try:
            append = msgspec.structs.replace(append, expected=tuple(staged.items()))
            return await self._appender.commit(append, value)
        except ConflictError as conflict:
            if conflict.stored_stream == stream_id and not holds(expected, conflict.version):
                raise VersionMismatchError(conflict.stream_id, expected, conflict.version) from conflict
            raise

    def _attempts(self, is_informed: bool) -> int:
        most, blind = self._options.attempts, self._options.blind_attempts
        return most if is_informed else min(most, blind)


class _Handler(NamedTuple):
    registered: object
    call: Call
    encode_result: Callable[[Any], bytes]
    decode_result: Callable[[bytes], Any]
    content_hash: Callable[[Any], bytes]


class _Repeat(NamedTuple):
    """Finds out whether a command has taken effect before."""

    appender: Appender
    handler: _Handler
    command_id: UUID
    own_id: UUID
    """Under which it is recorded: with tenants, each has ids of its own."""
    content_hash: bytes

    async def find(self) -> Receipt[Any] | None:
        """Return the first receipt of the command; None if it has not taken effect."""
        known = await self.appender.find_command(self.own_id)
        if known is None:
            return None
        record, receipt = known
        if record.content_hash != self.content_hash:
            raise CommandReusedError(self.command_id)
        return dataclasses.replace(receipt, value=self.handler.decode_result(record.result))

    async def instead_of(self, error: Exception) -> Receipt[Any]:
        """Return the first receipt of the command, or raise the error if it has not taken effect before.

        While the database is away, the question would only wait once more: that error says what to do.
        """
        if isinstance(error, StorageUnavailableError):
            raise error
        if isinstance(error, CommandReusedError) and error.command_id == self.own_id:
            raise CommandReusedError(self.command_id) from error
        try:
            receipt = await self.find()
        except StorageError:
            if isinstance(error, OutcomeUnknownError):  # a StorageError would say that nothing was stored
                _reraise(error)
            raise
        return receipt or _reraise(error)


def _instead_of(answer: object, command: object, carried_out: Sequence[Receipt[Any]]) -> Receipt[Any]:
    """Return the receipt of a command that is carried out, although a middleware has answered something else.

    Raises:
        InvalidHandlerError: it is not carried out.
    """
    name = type(command).__name__
    remedy = "let it return what `await call_next(command)` returned"
    if not carried_out:
        raise InvalidHandlerError(
            f"a middleware returned {answer!r} for a {name} that is not carried out; {remedy}, or a Receipt of its own"
        )
    log.error("a middleware returned %r for a %s that is carried out; its receipt was kept; %s", answer, name, remedy)
    return carried_out[-1]


def _reraise(error: Exception) -> NoReturn:
    raise error


def _metadata_of(command_id: UUID) -> Metadata:
    outer = current_metadata()
    return msgspec.structs.replace(
        outer,
        command_id=command_id,
        correlation_id=outer.correlation_id or command_id,
        causation_id=outer.command_id or outer.causation_id or command_id,
    )


def _expected_version() -> ExpectedVersion:
    """Return what the session expects of the stream."""
    session = current_session()
    return session.take_expected_version() if session else ANY


def _check_moment(at: datetime | None, after: timedelta | None) -> None:
    """Refuse a time that cannot be told in UTC."""
    try:
        (at or datetime.now(UTC)).astimezone(UTC) + (after or timedelta())
    except OverflowError:
        given = f"at={at}" if at else f"after={after}"
        raise ValueError(
            f"{given} is a time that no clock of ours shows; give one between the years 1 and 9999"
        ) from None


def _command_id(command: Any) -> UUID:
    given = getattr(command, "command_id", None)
    command_id: UUID = uuid7() if given is None else given
    if not isinstance(command_id, UUID):
        raise InvalidMessageTypeError(f"{type(command).__name__}.command_id must be a UUID, not {given!r}")
    return command_id
