"""Results of command handlers, kept for repeats of their commands: a repeat gets an equal value."""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import Any

import msgspec

from twofold.errors import InvalidHandlerError, NotCommittedError
from twofold.log.codec.fidelity import difference
from twofold.log.codec.proofs import Test, proof_of
from twofold.log.staged_receipt import NotCommitted
from twofold.messages.command import Command
from twofold.messages.position import Position
from twofold.middleware import Call, result_type

_PLAIN = (type(None), str, int, bool)
"""Types whose values come back equal from JSON that is decoded to no declared type."""


class ResultCodec:
    """Encodes what the handler of one type of commands returns, and decodes it to the type that is declared.

    Args:
        command_type: the type of the commands; `Command[R]` names the result, if the handler does not.
        call: the handler.
    """

    def __init__(self, command_type: type, call: Call) -> None:
        self._name = command_type.__name__
        wanted = result_type(call)
        declared = _named_result(command_type) if wanted is Any else wanted
        self.decode, self._is_proven = _codec(declared)
        """The first returns the value that was encoded; the second tells of a value that it need not be tried."""

    def encode(self, value: Any) -> bytes:
        """Return a result as JSON.

        Raises:
            InvalidHandlerError: it cannot be kept, or a repeat of the command would get another value.
        """
        try:
            encoded = msgspec.json.encode(value, enc_hook=to_builtins)
            found = None if self._is_proven(value) else self._unlike(value, encoded)
        except Exception as error:  # of msgspec, of pydantic, or of a property of the value's own
            raise InvalidHandlerError(
                f"the handler of {self._name} returned what cannot be kept for a repeat of the command, "
                f"so nothing was stored: {error}"
            ) from error
        if found:
            raise InvalidHandlerError(
                f"a repeat of {self._name} would get another value, so nothing was stored: {found}; annotate what the "
                f"handler returns, such as `-> {type(value).__qualname__}`"
            )
        return encoded

    def _unlike(self, value: Any, encoded: bytes) -> str | None:
        return difference(value, self.decode(encoded), "the result")  # field by field: `==` may leave some out


def _codec(declared: Any) -> tuple[Callable[[bytes], Any], Test]:
    """Return how to decode results of a type, and what tells of one by its type alone that it comes back equal."""
    try:
        decode = msgspec.json.Decoder(declared, dec_hook=_decoded).decode
        return decode, _is_plain if declared is Any else proof_of(declared) or _never
    except (TypeError, NameError):  # a type that msgspec does not know comes back as plain JSON
        return msgspec.json.decode, _is_plain


def _is_plain(value: Any) -> bool:
    return type(value) in _PLAIN


def _never(value: Any) -> bool:
    return False


def _named_result(command_type: type) -> Any:
    """Return the R of a `Command[R]`."""
    for parent in command_type.__mro__:
        for base in getattr(parent, "__orig_bases__", ()):
            if typing.get_origin(base) is Command and not isinstance(typing.get_args(base)[0], typing.TypeVar):
                return typing.get_args(base)[0]
    return Any


def to_builtins(value: Any) -> Any:
    """Return what msgspec does not know as what it knows.

    Raises:
        TypeError: it is no value that JSON can hold.
        NotCommittedError: it is of a receipt whose command has not been stored yet.
    """
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, Position):
        return value.text
    if isinstance(value, NotCommitted):  # of a `StagedReceipt`
        raise NotCommittedError("position", value.stream_id)
    raise TypeError(f"a {type(value).__qualname__} is no value that JSON can hold")


def _decoded(cls: type, data: Any) -> Any:
    if cls is Position:
        return Position.parse(data)
    return cls.model_validate(data) if hasattr(cls, "model_validate") else data
