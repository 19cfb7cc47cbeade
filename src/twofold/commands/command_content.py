"""What a command says and what its handler returned, as bytes, by which repeats are told and answered."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

import msgspec

from twofold.errors import InvalidHandlerError, InvalidMessageTypeError, NotCommittedError
from twofold.log.event_fields import is_pydantic
from twofold.messages.command import Command
from twofold.messages.position import Position
from twofold.middleware import Call, result_type

_NOT_CONTENT = {"command_id", "timestamp"}
"""What differs between two tries of the same intent."""


def content_hash_of(command_type: type) -> Callable[[Any], bytes]:
    """Return how to get a hash of what a command says; stored: version with care.

    Raises:
        InvalidMessageTypeError: the class is neither a dataclass, a msgspec Struct nor a pydantic model.
    """
    content = _content_of(command_type)
    return lambda command: blake2b(content(command), digest_size=16).digest()


def result_encoder(command_type: type) -> Callable[[Any], bytes]:
    """Return how to encode what the handler of a type of commands returned."""

    def encode(value: Any) -> bytes:
        try:
            return msgspec.json.encode(value, enc_hook=_to_builtins)
        except Exception as error:  # of msgspec, of pydantic, or of a property of the value's own
            raise InvalidHandlerError(
                f"the handler of {command_type.__name__} returned what cannot be kept for a repeat of the command, "
                f"so nothing was stored: {error}"
            ) from error

    return encode


def result_decoder(command_type: type, call: Call) -> Callable[[bytes], Any]:
    """Return how to decode it, to the type that the handler is annotated with, or else the command names."""
    wanted = result_type(call)
    try:
        return msgspec.json.Decoder(_named_result(command_type) if wanted is Any else wanted, dec_hook=_decoded).decode
    except (TypeError, NameError):  # a type that msgspec does not know comes back as plain JSON
        return msgspec.json.decode


def _named_result(command_type: type) -> Any:
    """Return the R of a `Command[R]`."""
    for parent in command_type.__mro__:
        for base in getattr(parent, "__orig_bases__", ()):
            if typing.get_origin(base) is Command and not isinstance(typing.get_args(base)[0], typing.TypeVar):
                return typing.get_args(base)[0]
    return Any


def _content_of(command_type: type) -> Callable[[Any], bytes]:
    prefix = command_type.__name__
    if is_pydantic(command_type):
        return lambda command: prefix.encode() + command.model_dump_json(exclude=_NOT_CONTENT).encode()
    if dataclasses.is_dataclass(command_type):
        names = [field.name for field in dataclasses.fields(command_type)]
    elif issubclass(command_type, msgspec.Struct):
        names = list(command_type.__struct_fields__)
    else:
        raise InvalidMessageTypeError(
            f"{command_type.__qualname__} must be a frozen dataclass, a frozen msgspec.Struct or a pydantic model"
        )
    names = [name for name in names if name not in _NOT_CONTENT]
    encoder = msgspec.json.Encoder(order="deterministic", enc_hook=_to_builtins)

    def content(command: Any) -> bytes:
        try:
            return encoder.encode([prefix, *(getattr(command, name) for name in names)])
        except TypeError as error:
            raise InvalidMessageTypeError(f"{prefix} cannot be told from another {prefix}: {error}") from error

    return content


def _to_builtins(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, Position):
        return value.text
    if isinstance(value, NotCommittedError):  # of a `StagedReceipt`
        raise value
    raise TypeError(f"a {type(value).__qualname__} is no value that JSON can hold")


def _decoded(cls: type, data: Any) -> Any:
    if cls is Position:
        return Position.parse(data)
    return cls.model_validate(data) if hasattr(cls, "model_validate") else data
