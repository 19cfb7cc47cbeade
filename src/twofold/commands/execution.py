"""Carrying one command out: as a unit of work, in as many attempts as it takes, and once.

1. The handler is called with a unit of work in its context, where all that it appends is staged.
2. The unit is appended in one step, with the command's id, a hash of its content and the handler's result.
3. On a conflict, the events in the way are added to what was read, and the handler runs again: at once the first time,
   then in a queue with the other commands of this process that conflict on the same thing.
4. If an attempt fails, or finds nothing to do, and the command has taken effect before, it gets the first receipt; at
   once, and in one round trip, if this process has sent it before.

A command that has no id of its own cannot have been sent before: it is looked up nowhere, and gets an id only when
something is stored with it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextvars import ContextVar
from itertools import count
from typing import Any, NamedTuple, NoReturn
from uuid import UUID

import msgspec

from twofold.commands.retry_queue import RetryQueue
from twofold.errors import (
    CommandReusedError,
    ConflictError,
    InvalidMessageTypeError,
    OutcomeUnknownError,
    StorageError,
    StorageUnavailableError,
    VersionMismatchError,
)
from twofold.log.appender import Appender, Committed, staged_receipt
from twofold.log.unit_of_work import UnitOfWork, ended
from twofold.messages.context import Context, current_context
from twofold.messages.ids import uuid7
from twofold.messages.receipt import Receipt, nothing_written
from twofold.messages.stream import ANY, ExpectedVersion, holds
from twofold.middleware import Call
from twofold.options import CommandOptions
from twofold.ports.event_log import Append, CommandRecord
from twofold.telemetry import count as tally

carried_out: ContextVar[list[Receipt[Any]]] = ContextVar("twofold-carried-out")
"""Takes the receipt of a command, so that no middleware can lose it."""


class Handler(NamedTuple):
    """What carries out one type of commands, and how its results are kept."""

    registered: object
    call: Call
    encode_result: Callable[[Any], bytes]
    decode_result: Callable[[bytes], Any]
    content_hash: Callable[[Any], bytes]
    name: str
    """Under which the log records its commands."""


class Execution:
    """Carries commands out.

    Args:
        appender: stores what their handlers append.
        options: how often a command is tried.
    """

    def __init__(self, appender: Appender, options: CommandOptions) -> None:
        self._appender = appender
        self._has_tenants = appender.has_tenants
        self._options = options
        self._retries = RetryQueue()
        self._sent: dict[UUID, None] = {}
        """The ids of commands that were sent to the log, the earliest first. One that comes again is most likely one
        that has taken effect: then its handler need not load and decide to find that out."""

    async def carry_out(self, handler: Handler, command: Any) -> Receipt[Any]:
        """Carry out a command, alone or within the one that is being handled; see `CommandBus.execute`."""
        here, given = current_context(), getattr(command, "command_id", None)
        if given is not None:
            given = given_id(command)
        if here.unit is not None:
            receipt = await self._within(here, handler, command, given or uuid7())
            carried_out.get().append(receipt)
            return receipt
        expected = ANY if here.session is None else here.session.take_expected_version()
        unit = UnitOfWork(None) if given is None and not self._has_tenants else self._identified(given or uuid7())
        repeat = None if given is None else self._repeat(unit, handler, command)
        if repeat is not None and repeat.own_id in self._sent and (first := await repeat.find()):
            carried_out.get().append(first)
            return first
        outcome = await self._attempt(here, unit, handler, command, expected, repeat)
        if isinstance(outcome, ConflictError):
            outcome = await self._attempt_again(outcome, here, unit, handler, command, expected, repeat)
        carried_out.get().append(outcome)
        return outcome

    async def _attempt(
        self,
        here: Context,
        unit: UnitOfWork,
        handler: Handler,
        command: Any,
        expected: ExpectedVersion,
        repeat: _Repeat | None,
    ) -> Receipt[Any] | ConflictError:
        """Return the receipt of a command, or the conflict after which another attempt may succeed."""
        try:
            unit.begin(here)
            try:
                value = await handler.call(command)
            finally:
                unit.end()
        except Exception as error:  # a repeat of a command that has taken effect may well break a rule by now
            return await _instead_of(error, repeat)
        try:
            if unit.events or repeat is not None:
                return await self._store(unit, value, handler, command, expected, repeat)
            return nothing_written(value)
        except VersionMismatchError as error:  # to decide again would not help
            return await _instead_of(error, repeat)
        except ConflictError as conflict:
            return conflict
        except Exception as error:  # what was sent to the database may be stored, also if the id is new
            return await _instead_of(error, repeat or self._repeat(unit, handler, command))

    async def _attempt_again(
        self,
        conflict: ConflictError,
        here: Context,
        unit: UnitOfWork,
        handler: Handler,
        command: Any,
        expected: ExpectedVersion,
        repeat: _Repeat | None,
    ) -> Receipt[Any]:
        """Let the handler run again, and again, on what was in the way.

        Raises:
            ConflictError: other appends came first, as often as it was tried.
        """
        with self._retries.place() as place:
            for attempt in count(1):
                contested = unit.reads.learn(conflict, unit.condition)
                if attempt >= self._attempts(unit.reads.informed):
                    raise conflict
                tally("conflicts_retried")
                await place.take(contested)
                unit = unit.renewed()
                outcome = await self._attempt(here, unit, handler, command, expected, repeat)
                if isinstance(outcome, Receipt):
                    return outcome
                conflict = outcome
        raise AssertionError("unreachable")

    async def _within(self, here: Context, handler: Handler, command: Any, command_id: UUID) -> Receipt[Any]:
        """Carry out a command within the handler of another one."""
        outer: UnitOfWork = here.unit
        if not outer.is_open:
            raise ended()
        own_id = outer.nested_id()
        for attempt in count(1):
            unit = UnitOfWork(own_id, command_id, outer.reads, outer)
            unit.begin(here)
            try:
                value = await handler.call(command)
            finally:
                unit.end()
            try:
                outer.merge(unit)
            except ConflictError:  # with another command within the outer one, which runs at the same time
                if attempt >= self._options.blind_attempts:
                    raise
            else:
                return staged_receipt(value, unit.events) if unit.events else nothing_written(value)
        raise AssertionError("unreachable")

    def _identified(self, command_id: UUID) -> UnitOfWork:
        return UnitOfWork(self._appender.own_id(command_id), command_id)

    def _repeat(self, unit: UnitOfWork, handler: Handler, command: Any) -> _Repeat:
        return _Repeat(self._appender, handler, unit.command_id, unit.id, handler.content_hash(command))

    async def _store(
        self,
        unit: UnitOfWork,
        value: Any,
        handler: Handler,
        command: Any,
        expected: ExpectedVersion,
        repeat: _Repeat | None,
    ) -> Receipt[Any]:
        if not unit.events:  # a repeat, too, may find that there is nothing left to do
            return (repeat and await repeat.find()) or nothing_written(value)
        content_hash = repeat.content_hash if repeat else handler.content_hash(command)
        record = CommandRecord(unit.id.bytes, content_hash, handler.encode_result(value), handler.name)
        if repeat is not None:
            self._note_sent(unit.id)
        receipt, result = await self._commit(unit.append(record), value, expected)
        if receipt.repeated:
            return dataclasses.replace(receipt, value=handler.decode_result(result))
        return receipt

    def _note_sent(self, own_id: UUID) -> None:
        self._sent.setdefault(own_id)
        if len(self._sent) > self._options.remembered:
            del self._sent[next(iter(self._sent))]

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


class _Repeat(NamedTuple):
    """Finds out whether a command has taken effect before."""

    appender: Appender
    handler: Handler
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


def given_id(command: Any) -> UUID | None:
    """Return the id that a command has; None if it has none.

    Raises:
        InvalidMessageTypeError: it is no UUID.
    """
    given = getattr(command, "command_id", None)
    if given is not None and not isinstance(given, UUID):
        raise InvalidMessageTypeError(f"{type(command).__name__}.command_id must be a UUID, not {given!r}")
    return given


async def _instead_of(error: Exception, repeat: _Repeat | None) -> Receipt[Any]:
    """Return the first receipt of a command, or raise the error if it has not taken effect before."""
    if repeat is None:
        raise error
    return await repeat.instead_of(error)


def _reraise(error: Exception) -> NoReturn:
    raise error
