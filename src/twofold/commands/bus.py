"""The command bus: one handler per command, and each command takes effect once."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol, TypeVar
from uuid import UUID

import msgspec

from twofold.commands.retry_queue import Turns
from twofold.errors import (
    CommandReusedError,
    ConflictError,
    DuplicateHandlerError,
    HandlerNotFoundError,
    InvalidHandlerError,
    InvalidMessageTypeError,
    OutcomeUnknownError,
    StorageError,
    VersionMismatchError,
)
from twofold.log.event_fields import is_pydantic
from twofold.log.event_store import EventStore
from twofold.log.unit_of_work import UnitOfWork
from twofold.messages.context import current_metadata, metadata
from twofold.messages.ids import uuid7
from twofold.messages.receipt import Receipt
from twofold.messages.session import current_session
from twofold.messages.stream import ANY, ExpectedVersion, holds
from twofold.middleware import Call, Middleware, compose, resolve, result_type
from twofold.ports.event_log import Append, CommandRecord

BLIND_ATTEMPTS = 20
"""How often a command is tried that conflicts on what it has not read, and so learns nothing from the conflict."""

C_contra = TypeVar("C_contra", contravariant=True)
C = TypeVar("C")


class CommandHandler(Protocol[C_contra]):
    """Something that carries out one type of commands. Its dependencies come by its constructor."""

    @abstractmethod
    async def handle(self, command: C_contra) -> Any:
        """Check the command, change state through repositories, return a value for the caller."""


class CommandBus:
    """Carries each command to its one handler.

    The handler's writes are a unit of work: what it saves or stages is appended in one step, with the command's id
    and the handler's result, once it returns. If somebody else wrote first, the handler runs again, on what they
    wrote; a handler must therefore have no other effects.

    Args:
        store: where the handlers' events go.
        middleware: wrapped around every handler, the first outermost; each gets the command and the next call.
        attempts: how often a command is tried before a conflict is raised.
    """

    def __init__(self, store: EventStore, *, middleware: Sequence[Middleware] = (), attempts: int = 100) -> None:
        self._store = store
        self._middleware = tuple(middleware)
        self._attempts = attempts
        self._turns = Turns()
        self._routes: dict[type, tuple[_Handler, Call]] = {}

    def register(self, command_type: type[C], handler: CommandHandler[C] | Callable[[C], Awaitable[Any]]) -> None:
        """Let a handler, an object with `async handle(command)` or an `async` function, take a type of commands.

        Raises:
            DuplicateHandlerError: the command has a handler already.
            InvalidHandlerError: the handler is not asynchronous, or is one for another command.
            InvalidMessageTypeError: the command is neither a dataclass, a msgspec Struct nor a pydantic model.
        """
        if command_type in self._routes:
            raise DuplicateHandlerError(command_type, self._routes[command_type][0].registered)
        call = resolve(command_type, handler)
        known = _Handler(handler, call, _result_encoder(command_type), _result_decoder(call), _content_of(command_type))
        self._routes[command_type] = (known, compose(partial(self._execute, known), self._middleware))

    async def dispatch(self, command: object) -> Any:
        """Carry out a command and return what its handler returned; see `execute`."""
        return (await self.execute(command)).value

    async def execute(self, command: object) -> Receipt[Any]:
        """Carry out a command and return the receipt for what it wrote.

        A command with a `command_id` that has taken effect before does so no more: it gets the first receipt, with
        the first value.

        Raises:
            HandlerNotFoundError: no handler is registered for it.
            CommandReusedError: its id belongs to an earlier command with other content.
            ConflictError: others wrote first, as often as it was tried.
            VersionMismatchError: the stream is not at the version that the current session expects.
            OutcomeUnknownError, StorageError: the database failed; try again with the same command.
            Exception: whatever the handler raises, as it is; nothing was stored then.
        """
        route = self._routes.get(type(command))
        if route is None:
            raise HandlerNotFoundError(type(command), "commands")
        receipt: Receipt[Any] = await route[1](command)
        if session := current_session():
            session.note(receipt)
        return receipt

    async def _execute(self, handler: _Handler, command: Any) -> Receipt[Any]:
        command_id = _command_id(command)
        content_hash = blake2b(handler.content(command), digest_size=16).digest()
        expected = _expected_version()
        work, turn = UnitOfWork(command_id), self._turns.turn()
        with _metadata_of(command_id), turn:
            for attempt in range(1, self._attempts + 1):
                try:
                    return await self._attempt(handler, command, work, content_hash, expected)
                except VersionMismatchError:  # to decide again would not help
                    if earlier := await self._earlier(handler, command_id, content_hash):
                        return earlier
                    raise
                except ConflictError as conflict:
                    contested = work.learn(conflict)
                    if attempt >= (self._attempts if work.informed else min(self._attempts, BLIND_ATTEMPTS)):
                        raise
                    if UnitOfWork.current() is None:  # a command within a command would wait for its own outer one
                        await turn.take(contested)
                except OutcomeUnknownError as unknown:
                    with suppress(StorageError):  # which would say that nothing was stored
                        if earlier := await self._earlier(handler, command_id, content_hash):
                            return earlier
                    raise unknown
                except Exception:
                    # A repeat of a command that has taken effect may well break a rule by now.
                    if earlier := await self._earlier(handler, command_id, content_hash):
                        return earlier
                    raise
        raise AssertionError("unreachable")

    async def _attempt(
        self, handler: _Handler, command: Any, work: UnitOfWork, content_hash: bytes, expected: ExpectedVersion
    ) -> Receipt[Any]:
        with work.attempt():
            value = await handler.call(command)
        if work.is_empty:  # a repeat, too, may find that there is nothing left to do
            earlier = await self._earlier(handler, work.command_id, content_hash)
            return earlier or dataclasses.replace(work.receipt or Receipt(value=None), value=value)
        record = CommandRecord(work.command_id.bytes, content_hash, handler.encode_result(value))
        receipt = await self._commit(work.append(record), expected)
        if receipt.repeated:
            return await self._earlier(handler, work.command_id, content_hash) or receipt
        return dataclasses.replace(receipt, value=value)

    async def _commit(self, append: Append, expected: ExpectedVersion) -> Receipt[None]:
        """Store what a handler has staged, provided that the stream of its last event is as the caller expects."""
        stream_id = append.events[-1].stream_id
        if expected is ANY or not stream_id:
            return await self._store.commit(append)
        staged = dict(append.expected)
        version = staged.get(stream_id, ANY)
        if isinstance(version, int) and not holds(expected, version):
            raise VersionMismatchError(stream_id, expected, version)
        staged.setdefault(stream_id, expected)
        try:
            return await self._store.commit(msgspec.structs.replace(append, expected=tuple(staged.items())))
        except ConflictError as conflict:
            if conflict.stream_id == stream_id and not holds(expected, conflict.version):
                raise VersionMismatchError(stream_id, expected, conflict.version) from conflict
            raise

    async def _earlier(self, handler: _Handler, command_id: UUID, content_hash: bytes) -> Receipt[Any] | None:
        known = await self._store.find_command(command_id)
        if known is None:
            return None
        record, receipt = known
        if record.content_hash != content_hash:
            raise CommandReusedError(command_id)
        return dataclasses.replace(receipt, value=handler.decode_result(record.result))


class _Handler(NamedTuple):
    registered: object
    call: Call
    encode_result: Callable[[Any], bytes]
    decode_result: Callable[[bytes], Any]
    content: Callable[[Any], bytes]


def _metadata_of(command_id: UUID) -> Any:
    outer = current_metadata()
    return metadata(
        command_id=command_id,
        correlation_id=outer.correlation_id or command_id,
        causation_id=outer.command_id or outer.causation_id or command_id,
    )


def _expected_version() -> ExpectedVersion:
    """Return what the session expects of the stream. A command within a command is its handler's business."""
    session = current_session()
    return session.take_expected_version() if session and UnitOfWork.current() is None else ANY


def _command_id(command: Any) -> UUID:
    given = getattr(command, "command_id", None)
    command_id: UUID = uuid7() if given is None else given
    if not isinstance(command_id, UUID):
        raise InvalidMessageTypeError(f"{type(command).__name__}.command_id must be a UUID, not {given!r}")
    return command_id


def _result_encoder(command_type: type) -> Callable[[Any], bytes]:
    def encode(value: Any) -> bytes:
        try:
            return msgspec.json.encode(value, enc_hook=_to_builtins)
        except TypeError as error:
            raise InvalidHandlerError(
                f"the handler of {command_type.__name__} returned what cannot be kept for a repeat of the command, "
                f"so nothing was stored: {error}"
            ) from error

    return encode


def _result_decoder(call: Call) -> Callable[[bytes], Any]:
    try:
        return msgspec.json.Decoder(result_type(call), dec_hook=_from_builtins).decode
    except TypeError:  # a type that msgspec does not know comes back as plain JSON
        return msgspec.json.decode


def _to_builtins(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    raise TypeError(f"a {type(value).__qualname__} is no value that JSON can hold")


def _from_builtins(cls: type, data: Any) -> Any:
    return cls.model_validate(data) if hasattr(cls, "model_validate") else data


def _content_of(command_type: type) -> Callable[[Any], bytes]:
    """Return how to get a command's content, without what differs between two tries of the same intent."""
    without = {"command_id", "timestamp"}
    prefix = command_type.__name__
    if is_pydantic(command_type):
        return lambda command: prefix.encode() + command.model_dump_json(exclude=without).encode()
    if dataclasses.is_dataclass(command_type):
        names = [field.name for field in dataclasses.fields(command_type)]
    elif issubclass(command_type, msgspec.Struct):
        names = list(command_type.__struct_fields__)
    else:
        raise InvalidMessageTypeError(
            f"{command_type.__qualname__} must be a frozen dataclass, a frozen msgspec.Struct or a pydantic model"
        )
    names = [name for name in names if name not in without]
    encoder = msgspec.json.Encoder(order="deterministic", enc_hook=_to_builtins)

    def content(command: Any) -> bytes:
        try:
            return encoder.encode([prefix, *(getattr(command, name) for name in names)])
        except TypeError as error:
            raise InvalidMessageTypeError(f"{prefix} cannot be told from another {prefix}: {error}") from error

    return content
