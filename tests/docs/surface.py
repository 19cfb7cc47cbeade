"""The public surface: every exported name, with the signatures of public classes and functions, as one text.

`python -m tests.docs.surface` writes it to `public_surface.txt`, which a test compares with the code.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("public_surface.txt")
MODULES = (
    "twofold",
    "twofold.errors",
    "twofold.fastapi",
    "twofold.inspection",
    "twofold.options",
    "twofold.processes",
    "twofold.testing",
)


def surface() -> str:
    """Return the public surface, a line for each name."""
    lines = [line for module in MODULES for line in _module(module)]
    return "\n".join(lines) + "\n"


def _module(name: str) -> Iterator[str]:
    module = import_module(name)
    exported = getattr(module, "__all__", None) or [
        each for each, value in vars(module).items() if getattr(value, "__module__", "") == name and each[0] != "_"
    ]
    for each in sorted(exported):
        yield from _thing(f"{name}.{each}", getattr(module, each))


def _thing(name: str, thing: Any) -> Iterator[str]:
    if inspect.isclass(thing):
        yield f"class {name}{_bases(thing)}{_signature(thing)}"
        yield from _members(name, thing)
    elif callable(thing):
        yield f"{_kind(thing)} {name}{_signature(thing)}"
    else:
        yield f"value {name}: {type(thing).__name__}"


def _members(name: str, cls: type) -> Iterator[str]:
    own = {
        each: value
        for base in reversed(cls.__mro__)
        if base.__module__.startswith("twofold")
        for each, value in vars(base).items()
        if not each.startswith("_") and not hasattr(BaseException, each)  # what every exception has
    }
    for each, value in sorted(own.items()):
        if isinstance(value, property):
            yield f"  property {name}.{each}: {_annotation(value.fget)}"
        elif isinstance(value, classmethod | staticmethod) or inspect.isfunction(value):
            function = getattr(value, "__func__", value)
            yield f"  {_kind(function)} {name}.{each}{_signature(function)}"
        elif isinstance(value, enum.Enum):
            yield f"  value {name}.{each} = {value.value!r}"
    yield from sorted(_fields(name, cls))


def _fields(name: str, cls: type) -> Iterator[str]:
    if dataclasses.is_dataclass(cls):
        for field in dataclasses.fields(cls):
            yield f"  field {name}.{field.name}: {field.type}"


def _kind(function: Any) -> str:
    is_async = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
    return "async def" if is_async else "def"


def _bases(cls: type) -> str:
    names = [base.__name__ for base in cls.__bases__ if base not in (object,)]
    return f" [{', '.join(names)}]" if names else ""


def _signature(thing: Any) -> str:
    try:
        signature = inspect.signature(thing)
    except (TypeError, ValueError):
        return "(…)"
    parameters = [
        each.replace(default=_default(each), annotation=_Unquoted.of(each.annotation))
        for each in signature.parameters.values()
        if each.name != "self"
    ]
    return str(signature.replace(parameters=parameters, return_annotation=_Unquoted.of(signature.return_annotation)))


class _Unquoted(str):
    """An annotation that was written as a text, shown without the quotation marks."""

    __slots__ = ()

    @classmethod
    def of(cls, annotation: Any) -> Any:
        return cls(annotation) if isinstance(annotation, str) else annotation

    def __repr__(self) -> str:
        return str(self)


def _default(parameter: inspect.Parameter) -> Any:
    is_told = parameter.default is parameter.empty or _is_plain(parameter.default)
    return parameter.default if is_told else _Unquoted("…")


def _is_plain(value: object) -> bool:
    """Return whether a default's text is the same in every process and on every Python."""
    return isinstance(value, str | int | float | bool | tuple | None)


def _annotation(function: Any) -> str:
    return str(function.__annotations__.get("return", "")) if function else ""


if __name__ == "__main__":
    FILE.write_text(surface(), "utf-8")
