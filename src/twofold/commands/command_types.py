"""Commands as JSON and back, for those that are carried out later: each under its name, as events are.

A class of commands may declare its stored name, its schema version and upcasters with `@event_type`, as events do.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from twofold.commands.results import to_builtins
from twofold.errors import InvalidMessageTypeError
from twofold.log.event_fields import is_pydantic
from twofold.messages.event import Event, EventType, event_type_of

_encode = msgspec.json.Encoder(order="deterministic", enc_hook=to_builtins).encode


class StoredCommand(NamedTuple):
    """What is stored of a command until it is carried out."""

    name: str
    schema_version: int
    content: bytes
    """JSON."""


class Results(NamedTuple):
    """What the handler of a class of commands returns, as JSON and back."""

    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


class CommandTypes:
    """The classes of commands that a bus has handlers for, each under its stored name.

    Args:
        known: the classes; there may be more of them from one call to the next.
        results: returns what encodes the results of a class.
    """

    def __init__(self, known: Collection[type], results: Callable[[type], Results]) -> None:
        self._known = known
        self._results = results
        self._codecs: dict[type, _Codec] = {}
        self._by_name: dict[str, type] = {}

    def encode(self, command: object) -> StoredCommand:
        """Return what is stored of a command.

        Raises:
            InvalidMessageTypeError: it has no handler, no `command_id`, or would not come back equal.
        """
        return self._codec(type(command)).encode(command)

    def decode(self, stored: StoredCommand) -> Any:
        """Return a stored command as one of today's class.

        Raises:
            InvalidMessageTypeError: no class of this name has a handler, or the content does not fit it.
        """
        cls = self._by_name.get(stored.name)
        if cls is None:
            named = [each for each in self._known if stored.name in _names(each)]
            if not named:
                raise InvalidMessageTypeError(
                    f"a stored command is a {stored.name}, which has no handler here; register one, or declare the "
                    f"class that it is now with @event_type({stored.name!r}), or as one of its aliases"
                )
            cls = named[0]
            self._codec(cls)
        return self._codec(cls).decode(stored)

    def identified(self, command: object, command_id: UUID) -> Any:
        """Return a command under another id.

        Raises:
            InvalidMessageTypeError: it has none.
        """
        return self._codec(type(command)).identified(command, command_id)

    def encode_result(self, command_type: type, value: Any) -> bytes:
        """Return what the handler of a class of commands returned, as JSON.

        Raises:
            InvalidHandlerError: it would not come back equal.
        """
        return self._results(command_type).encode(value)

    def decode_result(self, command_type: type, result: bytes) -> Any:
        """Return what the handler of a class of commands has returned."""
        return self._results(command_type).decode(result)

    def _codec(self, cls: type) -> _Codec:
        codec = self._codecs.get(cls)
        if codec is None:
            if cls not in self._known:
                _refuse_event(cls)
                raise InvalidMessageTypeError(
                    f"{cls.__qualname__} has no handler here; add `commands.register({cls.__name__}, handler)` where "
                    f"the application is wired"
                )
            for other in self._known:
                if other is not cls and set(_names(other)) & set(_names(cls)):
                    raise InvalidMessageTypeError(
                        f"{cls.__qualname__} and {other.__qualname__} are both stored as {event_type_of(cls).name!r}; "
                        f"give one of them another name with @event_type(...)"
                    )
            codec = self._codecs[cls] = _Codec(cls)
            self._by_name.update(dict.fromkeys(_names(cls), cls))
        return codec


class _Codec:
    def __init__(self, cls: type) -> None:
        self._cls = cls
        self._declared: EventType = event_type_of(cls)
        self._dump, self._load, self._replace = _serializer(cls)

    def encode(self, command: object) -> StoredCommand:
        try:
            content = self._dump(command)
            back = self._load(content)
        except Exception as error:  # msgspec's, pydantic's, or one of the user's constructor
            raise InvalidMessageTypeError(f"{self._cls.__qualname__} cannot be stored: {error}") from error
        if back != command:
            raise InvalidMessageTypeError(
                f"{self._cls.__qualname__} would come back as {back!r} from what is stored of {command!r}; declare its "
                f"fields as what they hold"
            )
        return StoredCommand(self._declared.name, self._declared.version, content)

    def decode(self, stored: StoredCommand) -> Any:
        try:
            if stored.schema_version == self._declared.version:
                return self._load(stored.content)
            data = msgspec.json.decode(stored.content)
            for version in range(stored.schema_version, self._declared.version):
                data = _next(self._declared.upcasters[version](data))
            return self._load(_encode(data))
        except Exception as error:
            raise InvalidMessageTypeError(
                f"a stored {stored.name} of schema version {stored.schema_version} cannot be read: {error}"
            ) from error

    def identified(self, command: object, command_id: UUID) -> Any:
        return self._replace(command, command_id)


def _next(made: Any) -> dict[str, Any]:
    if not isinstance(made, dict):
        raise TypeError(f"a command stays one command; its upcaster makes one dict, not {made!r:.60}")
    return made


_Serializer = tuple[Callable[[Any], bytes], Callable[[bytes], Any], Callable[[Any, UUID], Any]]


def _serializer(cls: Any) -> _Serializer:
    if is_pydantic(cls):
        _check_id(cls, cls.model_fields)
        return (
            lambda command: command.model_dump_json().encode(),
            cls.model_validate_json,
            lambda command, command_id: command.model_copy(update={"command_id": command_id}),
        )
    if dataclasses.is_dataclass(cls):
        fields = {field.name for field in dataclasses.fields(cls) if field.init}
        _check_id(typing.cast(type, cls), fields)
        replace: Callable[..., Any] = dataclasses.replace
    else:
        _check_id(cls, getattr(cls, "__struct_fields__", ()))
        replace = msgspec.structs.replace
    try:
        load = msgspec.json.Decoder(cls).decode
    except (TypeError, NameError) as error:
        raise InvalidMessageTypeError(f"{_named(cls)} cannot be stored: {error}") from error
    return _encode, load, lambda command, command_id: replace(command, command_id=command_id)


def _named(cls: Any) -> str:
    return str(cls.__qualname__)


def _refuse_event(cls: type) -> None:
    if issubclass(cls, Event):
        raise InvalidMessageTypeError(
            f"{cls.__qualname__} is an event; send a command, and let its handler append the event"
        )


def _check_id(cls: type, fields: Iterable[str]) -> None:
    if "command_id" not in fields:
        _refuse_event(cls)
        raise InvalidMessageTypeError(
            f"{cls.__qualname__} has no command_id, by which a command that is sent twice takes effect once; derive it "
            f"from Command, or declare `command_id: UUID`"
        )


def _names(cls: type) -> tuple[str, ...]:
    declared = event_type_of(cls)
    return (declared.name, *declared.aliases)
