"""What a failed scenario says: what was given, what was done, and what came of it beside what was expected."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, NoReturn

from twofold.log.codec.fidelity import field_names

__tracebackhide__ = True  # pytest then shows the line of the test

MOST_SHOWN = 20
"""Events of the past that a text shows. Higher: long texts; lower: the cause may be cut off."""
WIDTH = 96
"""Characters of a line; a value that takes more is shown with a line for each of its fields."""
_OWN = {"command_id", "timestamp"}
"""Fields of commands that are filled in by themselves, and differ between two that say the same."""


class Words(str):
    """A text that is shown without quotation marks."""

    __slots__ = ()

    __repr__ = str.__str__


class Told(NamedTuple):
    """What a scenario was told."""

    given: Sequence[object] = ()
    when: Sequence[object] = ()


def fail(text: str, told: Told, cause: BaseException | None = None, then: Iterable[str] = ()) -> NoReturn:
    """Fail a test: say why, what was given and done, and (line by line) what came of it.

    Raises:
        AssertionError: always.
    """
    given = _shortened(told.given)
    parts = [text, *_part("given", given or ["nothing"]), *_part("when", _lines(told.when)), *_part("then", then)]
    raise AssertionError("\n".join(parts)) from cause


def fail_with(text: str, told: Told, expected: Sequence[object], actual: Sequence[object]) -> NoReturn:
    """Fail a test as `fail` does, and show what was expected (-) and what came (+) side by side.

    Raises:
        AssertionError: always.
    """
    lines = difflib.ndiff(_lines(expected), _lines(actual))
    fail(text, told, then=[line.rstrip() for line in lines])


def expect_error(error: BaseException | None, expected: type[BaseException], match: str, told: Told, came: str) -> None:
    """Make sure that an error is of a class, and that its text matches a regular expression.

    Args:
        error: what was raised, if anything was.
        expected: the class.
        match: found anywhere in the text.
        told: what was given and done.
        came: what came instead of an error.

    Raises:
        AssertionError: it is not so.
    """
    if error is None:
        fail(f"expected {expected.__name__}, but {came}", told)
    if not isinstance(error, expected):
        fail(f"expected {expected.__name__}, but it raised {error!r}", told, error)
    if not re.search(match, str(error)):
        fail(f"expected {expected.__name__} to match {match!r}, but it says {str(error)!r}", told, error)


def shown(value: object) -> str:
    """Return a value as a reader wants to see it: a command without its id and time, a long one in several lines."""
    names = field_names(type(value))
    if names is None:
        return repr(value)
    said = [f"{name}={getattr(value, name)!r}" for name in names if "command_id" not in names or name not in _OWN]
    name = type(value).__qualname__.rpartition("<locals>.")[2]
    text = f"{name}({', '.join(said)})" if "command_id" in names else repr(value)
    if len(text) <= WIDTH:
        return text
    return "\n".join([f"{name}(", *(f"    {each}," for each in said), ")"])


def content(message: Any) -> object:
    """Return what a command says, as a value to be compared: its class and its fields but for id and time."""
    names = field_names(type(message)) or ()
    if "command_id" not in names:
        return message
    return type(message), [(name, getattr(message, name)) for name in names if name not in _OWN]


def _lines(values: Iterable[object]) -> list[str]:
    return [line for each in values for line in shown(each).splitlines()]


def _shortened(given: Sequence[object]) -> list[str]:
    left_out = len(given) - MOST_SHOWN
    return [f"… {left_out} before, and"] * (left_out > 0) + _lines(given[-MOST_SHOWN:])


def _part(name: str, lines: Iterable[str]) -> list[str]:
    found = [f"    {line}" for line in lines]
    return [f"  {name}", *found] if found else []
