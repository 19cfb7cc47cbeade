"""Checks of arguments, before anything is queued or stored: each names the parameter, what came, and what to write."""

from __future__ import annotations

import math
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any


def check_text(name: str, value: Any, *, may_be_empty: bool = False) -> None:
    """Refuse what is no text.

    Raises:
        TypeError: it is something else.
        ValueError: it is empty.
    """
    if not isinstance(value, str):
        raise TypeError(f"`{name}` is a text, not {shown(value)}")
    if not value.strip() and not may_be_empty:
        raise ValueError(f"`{name}` is a text that is not empty, got {value!r}")


def check_path(name: str, value: Any) -> None:
    """Refuse what is no path of a single address.

    Raises:
        TypeError: it is no text.
        ValueError: it does not begin with a slash, or ends with one.
    """
    check_text(name, value)
    if not value.startswith("/") or value.endswith("/"):
        raise ValueError(f"`{name}` begins with a slash and ends with none, got {value!r}")


def check_texts(name: str, value: Any) -> tuple[str, ...]:
    """Return texts as a tuple.

    Raises:
        TypeError: it is a single text, which would be taken for its characters, or not all are texts.
        ValueError: one of them is empty.
    """
    if isinstance(value, str) or not isinstance(value, Iterable) or isinstance(value, type):
        raise TypeError(f"`{name}` takes several texts, not {shown(value)}; write {name}=[…]")
    texts = tuple(value)
    for each in texts:
        if not isinstance(each, str):
            raise TypeError(f"`{name}` takes texts, not {shown(each)}")
        if not each:
            raise ValueError(f"`{name}` has an empty text")
    return texts


def check_whole(name: str, value: Any, least: float = 0, most: float = math.inf) -> None:
    """Refuse what is no whole number within bounds.

    Raises:
        TypeError: it is something else.
        ValueError: it is out of bounds.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"`{name}` is a whole number, not {shown(value)}")
    if not least <= value <= most:
        bounds = f"from {least}" if most == math.inf else f"from {least} to {most}"
        raise ValueError(f"`{name}` is a whole number {bounds}, got {value}")


def check_number(name: str, value: Any) -> None:
    """Refuse what is no number from 0; infinity is one.

    Raises:
        TypeError: it is something else.
        ValueError: it is negative, or NaN.
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"`{name}` is a number, not {shown(value)}")
    if not value >= 0:
        raise ValueError(f"`{name}` is a number from 0, got {value}")


def check_flag(name: str, value: Any) -> None:
    """Refuse what is neither True nor False.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(value, bool):
        raise TypeError(f"`{name}` is True or False, not {shown(value)}")


def check_choice(name: str, value: Any, choices: Any, error: type[Exception] = ValueError) -> None:
    """Refuse a value that is none of those of a `Literal`.

    Raises:
        Exception: of the class `error`; it is none.
    """
    allowed = typing.get_args(choices)
    if not isinstance(value, str) or value not in allowed:
        raise error(f"{name}={value!r} is none; write one of: {', '.join(map(repr, allowed))}")


def check_instance(name: str, value: Any, kind: type | tuple[type, ...], remedy: str = "") -> None:
    """Refuse what is no instance of a class, such as the class itself.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(value, kind):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        names = " or ".join(each.__name__ for each in kinds)
        raise TypeError(f"`{name}` is {_article(names)} {names}, not {shown(value)}{f'; {remedy}' if remedy else ''}")


def check_age(name: str, value: Any) -> None:
    """Refuse what is no age.

    Raises:
        TypeError: it is no timedelta.
        ValueError: it is negative.
    """
    check_instance(name, value, timedelta, "such as timedelta(days=90)")
    if value < timedelta():
        raise ValueError(f"`{name}` is an age, and not negative; got {value}")


def check_port(name: str, value: Any, kind: str, *methods: str) -> None:
    """Refuse an object that lacks the methods of what it stands for, such as an event log.

    Raises:
        TypeError: it lacks one, or is a class.
    """
    if isinstance(value, type) or not all(hasattr(value, method) for method in methods):
        raise TypeError(f"`{name}` is {_article(kind)} {kind}, not {shown(value)}")


def check_class(name: str, value: Any, of: type = object, error: type[Exception] = TypeError) -> None:
    """Refuse what is no class below another one.

    Raises:
        Exception: of the class `error`; it is none.
    """
    if not isinstance(value, type) or not issubclass(value, of) or (value is of and of is not object):
        below = "" if of is object else f" below {of.__name__}"
        raise error(f"`{name}` is a class{below}, not {shown(value)}")


def check_function(name: str, value: Any) -> None:
    """Refuse what cannot be called.

    Raises:
        TypeError: it cannot.
    """
    if not callable(value) or (isinstance(value, type) and value is object):
        raise TypeError(f"`{name}` is a function, not {shown(value)}")


def check_iterable(name: str, value: Any) -> None:
    """Refuse what cannot be iterated over, such as a single thing in place of a list of it.

    Raises:
        TypeError: it cannot.
    """
    if isinstance(value, str | bytes | type) or not isinstance(value, Iterable):
        raise TypeError(f"`{name}` takes several things, not {shown(value)}; write {name}=[…]")


def check_items(name: str, value: Any, kind: Callable[[Any], bool], what: str) -> None:
    """Refuse what is not several of something; what can be iterated over only once is not looked through.

    Raises:
        TypeError: it is a single one, a text, or holds something else.
    """
    if isinstance(value, str | bytes | type | Mapping) or not isinstance(value, Iterable):
        raise TypeError(f"`{name}` takes several {what}, not {shown(value)}; write {name}=[…]")
    for each in () if isinstance(value, Iterator) else value:
        if not kind(each):
            raise TypeError(f"`{name}` takes {what}, not {shown(each)}")


def shown(value: Any) -> str:
    """Return a value as an error's text shows it; of a class, that it is one."""
    if isinstance(value, type):
        return f"the class {value.__qualname__}"
    text = f"{value!r}"
    return text if len(text) <= 60 else f"{text[:60]}…"


def _article(noun: str) -> str:
    return "an" if noun[0] in "AEIOUaeiou" else "a"
