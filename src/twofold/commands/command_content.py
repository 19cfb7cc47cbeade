"""What a command says, as bytes, by which repeats are told."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

import msgspec

from twofold.commands.results import to_builtins
from twofold.errors import InvalidMessageTypeError
from twofold.log.event_fields import is_pydantic

_NOT_CONTENT = {"command_id", "timestamp"}
"""What differs between two tries of the same intent."""


def content_hash_of(command_type: type) -> Callable[[Any], bytes]:
    """Return how to get a hash of what a command says; stored: version with care.

    Raises:
        InvalidMessageTypeError: the class is neither a dataclass, a msgspec Struct nor a pydantic model.
    """
    content = _content_of(command_type)
    return lambda command: blake2b(content(command), digest_size=16).digest()


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
    encoder = msgspec.json.Encoder(order="deterministic", enc_hook=to_builtins)

    def content(command: Any) -> bytes:
        try:
            return encoder.encode([prefix, *(getattr(command, name) for name in names)])
        except TypeError as error:
            raise InvalidMessageTypeError(f"{prefix} cannot be told from another {prefix}: {error}") from error

    return content
