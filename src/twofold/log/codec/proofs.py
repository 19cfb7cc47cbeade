"""Proofs: tests that tell of a value by its type alone that it comes back from JSON equal, without decoding it.

`proof_of(Ordered)` writes a function such as this one, which takes a fraction of the time of decoding:

    def is_proven(v0):
        if type(v0) is not Ordered: return False
        v1 = v0.order_id
        if type(v1) is not str: return False
        ...
        return True
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import types
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from enum import Enum, Flag
from typing import Any
from uuid import UUID

import msgspec

Test = Callable[[Any], bool]

_EXACT = (str, int, bool, bytes, UUID, dt.date, type(None))
"""Types all of whose values come back equal. A subclass may not, so that the type has to be exactly one of these."""
_CAREFUL = {
    float: "{v} - {v} != 0.0",  # neither infinite nor NaN
    Decimal: "not {v}.is_finite()",
    dt.datetime: "{v}.tzinfo is not UTC",  # the offset of another zone may have seconds
}


def proof_of(hint: Any) -> Test | None:
    """Return the proof for the values of a type; None if they have to be decoded and compared.

    A value that fails the proof may come back equal all the same.
    """
    function = _Function()
    if not function.add(hint):
        return None
    return function.compiled()


class _Function:
    """A function in the making, statement by statement."""

    def __init__(self) -> None:
        self._names: dict[str, Any] = {"UTC": dt.UTC}
        self._lines = ["def is_proven(v0):"]
        self._indent = 1
        self._variables = 0
        self._within: list[type] = []

    def compiled(self) -> Test:
        """Return the function."""
        source = "\n".join([*self._lines, "    return True"])
        exec(source, self._names)  # noqa: S102  # of names that this module makes, and of fields of classes
        return typing.cast(Test, self._names["is_proven"])

    def add(self, hint: Any, value: str = "v0") -> bool:
        """Add what tests a variable; return whether the type can be tested."""
        if extras := getattr(hint, "__metadata__", ()):
            constrains = any(isinstance(extra, msgspec.Meta) and extra != msgspec.Meta(tz=True) for extra in extras)
            return not constrains and self.add(hint.__origin__, value)
        hint = type(None) if hint is None else hint
        if hint in _EXACT:
            return self._refuse(f"type({value}) is not {self._name(hint)}")
        if hint in _CAREFUL:
            return self._refuse(f"type({value}) is not {self._name(hint)} or {_CAREFUL[hint].format(v=value)}")
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if origin in (typing.Union, types.UnionType):
            return self._add_optional(arguments, value)
        if origin in (tuple, list, dict):
            return self._add_items(origin, arguments, value)
        if isinstance(hint, type) and issubclass(hint, Enum) and not issubclass(hint, Flag):
            return self._refuse(f"type({value}) is not {self._name(hint)}")
        return isinstance(hint, type) and self._add_record(hint, value)

    def _add_optional(self, members: tuple[Any, ...], value: str) -> bool:
        others = [each for each in members if each is not type(None)]
        if len(others) != 1 or len(members) != 2:
            return False
        with self._block(f"if {value} is not None:"):
            return self.add(others[0], value)

    def _add_items(self, container: type, arguments: tuple[Any, ...], value: str) -> bool:
        self._refuse(f"type({value}) is not {self._name(container)}")
        item = self._variable()
        if container is dict and len(arguments) == 2 and arguments[0] is str:
            with self._block(f"for key, {item} in {value}.items():"):
                return self._refuse("type(key) is not str") and self.add(arguments[1], item)
        if (container is list and len(arguments) == 1) or (container is tuple and arguments[1:] == (Ellipsis,)):
            with self._block(f"for {item} in {value}:"):
                return self.add(arguments[0], item)
        return False

    def _add_record(self, cls: type, value: str) -> bool:
        names = _plain_fields(cls)
        if names is None or cls in self._within:
            return False
        try:
            hints = typing.get_type_hints(cls, include_extras=True)
        except NameError:
            return False
        self._refuse(f"type({value}) is not {self._name(cls)}")
        self._within.append(cls)
        for name in names:
            field = self._variable()
            self._add_line(f"{field} = {value}.{name}")
            if not self.add(hints[name], field):
                return False
        self._within.pop()
        return True

    def _refuse(self, condition: str) -> bool:
        self._add_line(f"if {condition}: return False")
        return True

    def _add_line(self, line: str) -> None:
        self._lines.append("    " * self._indent + line)

    @contextmanager
    def _block(self, head: str) -> Iterator[None]:
        self._add_line(head)
        self._indent += 1
        yield
        self._indent -= 1

    def _variable(self) -> str:
        self._variables += 1
        return f"v{self._variables}"

    def _name(self, cls: type) -> str:
        name = f"{cls.__name__}_{len(self._names)}" if cls.__name__.isidentifier() else f"class_{len(self._names)}"
        self._names[name] = cls
        return name


def _plain_fields(cls: type) -> tuple[str, ...] | None:
    """Return the fields of a class whose instances are all that their fields are; None of any other class."""
    if hasattr(cls, "__post_init__") or getattr(cls, "__parameters__", None):
        return None
    if dataclasses.is_dataclass(cls):
        fields = dataclasses.fields(cls)
        return tuple(field.name for field in fields) if all(field.init for field in fields) else None
    if issubclass(cls, msgspec.Struct) and cls.__struct_config__.tag is None:
        return cls.__struct_fields__
    return None
