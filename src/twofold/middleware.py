"""What both buses do with handlers: check them, call them, wrap them in middleware."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from twofold.errors import InvalidHandlerError

Call = Callable[[Any], Awaitable[Any]]
"""Handle a message."""

Middleware = Callable[[Any, Call], Awaitable[Any]]
"""Handle a message by doing something before, after or instead of calling the next one."""


def resolve(message_type: type, handler: object) -> Call:
    """Return the coroutine function behind a handler: its `handle` method, or the handler itself.

    Raises:
        InvalidHandlerError: it is neither, is not asynchronous, or is annotated with another message.
    """
    call = getattr(handler, "handle", handler)
    name = getattr(handler, "__qualname__", type(handler).__qualname__)
    if isinstance(handler, type):
        raise InvalidHandlerError(f"{name} is a class; register an instance: {name}(...)")
    if not inspect.iscoroutinefunction(call):
        raise InvalidHandlerError(f"{name} must be an `async def` function or have an `async def handle` method")
    expected = _annotations(call).get(next(iter(inspect.signature(call).parameters), ""))
    if isinstance(expected, type) and expected is not Any and not issubclass(message_type, expected):
        raise InvalidHandlerError(f"{name} handles {expected.__name__}, not {message_type.__name__}")
    return typing.cast(Call, call)


def result_type(call: Call) -> Any:
    """Return the annotated type of what a handler returns, `Any` if there is none."""
    return _annotations(call).get("return", Any)


def compose(call: Call, middleware: Sequence[Middleware]) -> Call:
    """Wrap a call in middleware, the first outermost."""
    for each in reversed(middleware):
        call = _through(each, call)
    return call


def _through(middleware: Middleware, call_next: Call) -> Call:
    return lambda message: middleware(message, call_next)


def _annotations(call: Any) -> dict[str, Any]:
    while isinstance(call, partial):
        call = call.func
    try:
        return typing.get_type_hints(call)
    except NameError:  # a name that only type checkers can see
        return {}
