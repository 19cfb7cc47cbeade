"""What both buses do with handlers: check them, call them, wrap them in middleware."""

from __future__ import annotations

import dis
import inspect
import types
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
        raise InvalidHandlerError(f"the handler {name} is a class; register an instance: {name}(...)")
    if not inspect.iscoroutinefunction(call):
        raise InvalidHandlerError(
            f"the handler {name} must be an `async def` function or have an `async def handle` method"
        )
    expected = _annotations(call).get(next(iter(inspect.signature(call).parameters), ""))
    if isinstance(expected, type) and expected is not Any and not issubclass(message_type, expected):
        raise InvalidHandlerError(f"{name} handles {expected.__name__}, not {message_type.__name__}")
    return typing.cast(Call, call)


def result_type(call: Call) -> Any:
    """Return the annotated type of what a handler returns, `Any` if there is none."""
    return _annotations(call).get("return", Any)


def admits_none(hint: Any) -> bool:
    """Return whether None is a value of an annotated type, as far as the annotation tells."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return any(map(admits_none, typing.get_args(hint)))
    if isinstance(hint, type):
        return hint in (type(None), object, Any)
    return not isinstance(typing.get_origin(hint), type)


def checked(middleware: Sequence[Middleware]) -> tuple[Middleware, ...]:
    """Return middleware that can work.

    Raises:
        TypeError: it is no sequence of functions.
        InvalidHandlerError: one of them is not asynchronous, does not take a message and the next call, or never
            returns anything, so that every answer would be lost.
    """
    if isinstance(middleware, str) or not isinstance(middleware, Sequence):
        raise TypeError(f"`middleware` is a list of functions, not {middleware!r}; write middleware=[…]")
    for each in middleware:
        _check(each)
    return tuple(middleware)


def _check(middleware: Any) -> None:
    function = _function(middleware)
    name = getattr(middleware, "__qualname__", None) or getattr(function, "__qualname__", repr(middleware))
    if isinstance(middleware, type) or not inspect.iscoroutinefunction(function):
        raise InvalidHandlerError(f"the middleware {name} must be an `async def` of (message, call_next)")
    try:
        inspect.signature(middleware).bind("message", "call_next")
    except TypeError as error:
        raise InvalidHandlerError(f"the middleware {name} must take a message and the next call: {error}") from None
    if _returns_nothing(function):
        raise InvalidHandlerError(
            f"the middleware {name} returns nothing, so that every answer would be lost; end it with "
            f"`return await call_next(message)`"
        )


def _function(middleware: Any) -> Any:
    """Return the function behind a callable object, a method or a partial, as it was before it was decorated."""
    while isinstance(middleware, partial):
        middleware = middleware.func
    if not inspect.isroutine(middleware):
        middleware = getattr(middleware, "__call__", middleware)  # noqa: B004 - its function is wanted
    return getattr(middleware, "__func__", middleware)


def _returns_nothing(function: Any) -> bool:
    """Return whether the code of a function has no other end than `return` and `return None`."""
    code = getattr(function, "__code__", None)
    steps = list(dis.get_instructions(code)) if code else []
    ends = [place for place, step in enumerate(steps) if step.opname in ("RETURN_VALUE", "RETURN_CONST")]
    return bool(ends) and all(_returns_none(steps[place - 1], steps[place]) for place in ends)


def _returns_none(before: dis.Instruction, end: dis.Instruction) -> bool:
    """Return whether an end of a function gives back None, whatever leads there."""
    constant = end if end.opname == "RETURN_CONST" else before
    is_reached_by_jump = end.is_jump_target and constant is before  # with another value, as `x if y else None` does
    return constant.opname.endswith("_CONST") and constant.argval is None and not is_reached_by_jump


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
