"""Which objects can handle messages, and how they are wrapped."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, Optional, TypeVar

import pytest

from twofold import Command
from twofold.errors import InvalidHandlerError
from twofold.middleware import Call, admits_none, checked, compose, resolve, result_type
from twofold.telemetry import trace_message


@dataclass(frozen=True, kw_only=True)
class Greet(Command):
    name: str = "ann"


@dataclass(frozen=True, kw_only=True)
class GreetLoudly(Greet):
    pass


class Leave(Command):
    pass


class Greeter:
    async def handle(self, command: Greet) -> str:
        return command.name

    async def under_another_name(self, command: Greet) -> str:
        return command.name


async def greet(command: Greet) -> str:
    return command.name


async def greet_with(punctuation: str, command: Greet) -> str:
    return command.name + punctuation


@pytest.mark.parametrize("handler", [Greeter(), Greeter().handle, Greeter().under_another_name, greet])
async def test_objects_with_handle_bound_methods_and_functions_are_handlers(handler: Any) -> None:
    assert await resolve(Greet, handler)(Greet()) == "ann"
    assert result_type(resolve(Greet, handler)) is str


async def test_a_partial_of_an_async_function_is_a_handler() -> None:
    call = resolve(Greet, partial(greet_with, "!"))
    assert await call(Greet()) == "ann!"
    assert result_type(call) is str


async def test_a_decorated_function_keeps_its_annotations() -> None:
    @wraps(greet)
    async def decorated(*args: Any) -> str:
        return await greet(*args)

    assert result_type(resolve(Greet, decorated)) is str


def test_a_handler_of_a_parent_takes_its_subclasses() -> None:
    resolve(GreetLoudly, greet)


def test_a_handler_without_annotations_of_its_message_is_trusted() -> None:
    async def anything(command) -> str:  # type: ignore[no-untyped-def]
        return str(command)

    assert result_type(resolve(Greet, anything)) is str


def test_annotations_that_only_type_checkers_can_see_do_not_matter() -> None:
    async def anything(command: DefinedNowhere) -> str:  # type: ignore[name-defined]  # noqa: F821
        return str(command)

    assert result_type(resolve(Greet, anything)) is Any


def test_a_class_instead_of_an_instance_is_refused_with_the_remedy() -> None:
    with pytest.raises(InvalidHandlerError, match=r"Greeter is a class; register an instance: Greeter\(\.\.\.\)"):
        resolve(Greet, Greeter)


def test_a_handler_for_another_message_is_refused() -> None:
    with pytest.raises(InvalidHandlerError, match="greet handles Greet, not Leave"):
        resolve(Leave, greet)


@pytest.mark.parametrize("handler", [lambda command: None, object(), len, 5])
def test_what_is_not_asynchronous_is_refused(handler: object) -> None:
    with pytest.raises(InvalidHandlerError, match="must be an `async def` function or have an `async def handle`"):
        resolve(Greet, handler)


async def test_the_first_middleware_is_outermost() -> None:
    seen: list[str] = []

    def middleware(name: str) -> Any:
        async def around(message: Any, call_next: Call) -> Any:
            seen.append(f"{name} before")
            answer = await call_next(message)
            seen.append(f"{name} after")
            return answer

        return around

    assert await compose(greet, [middleware("outer"), middleware("inner")])(Greet()) == "ann"
    assert seen == ["outer before", "inner before", "inner after", "outer after"]


async def test_a_middleware_may_answer_itself() -> None:
    async def refuse(message: Any, call_next: Call) -> Any:
        return "nobody"

    assert await compose(greet, [refuse])(Greet()) == "nobody"


class Around:
    """Middleware that is an object."""

    async def __call__(self, message: Any, call_next: Call) -> Any:
        return await call_next(message)

    async def forgetful(self, message: Any, call_next: Call) -> None:
        await call_next(message)


async def answering(message: Any, call_next: Call) -> Any:
    try:
        async with asyncio.timeout(None):
            return await call_next(message)
    finally:
        pass


async def in_a_variable(message: Any, call_next: Call) -> Any:
    answer = None
    if message:
        answer = await call_next(message)
    return answer


async def refusing(message: Any, call_next: Call) -> Any:
    raise PermissionError


async def forgetful(message: Any, call_next: Call) -> None:
    with suppress(ValueError):
        await call_next(message)
        return


async def prefixed(prefix: str, message: Any, call_next: Call) -> Any:
    return await call_next(message)


@pytest.mark.parametrize(
    "middleware", [answering, in_a_variable, refusing, Around(), partial(prefixed, "x"), trace_message]
)
def test_middleware_that_can_answer_is_taken(middleware: Any) -> None:
    assert checked([middleware]) == (middleware,)


@pytest.mark.parametrize("middleware", [forgetful, Around().forgetful, partial(forgetful)])
def test_middleware_that_never_returns_anything_is_refused_with_the_line_to_write(middleware: Any) -> None:
    with pytest.raises(InvalidHandlerError, match=r"forgetful returns nothing.*`return await call_next\(message\)`"):
        checked([middleware])


@pytest.mark.parametrize("middleware", [len, Around, lambda message, call_next: None, None, "x", Greeter().handle])
def test_what_is_no_middleware_is_refused(middleware: Any) -> None:
    with pytest.raises(InvalidHandlerError, match=r"the middleware .* must "):
        checked([middleware])


@pytest.mark.parametrize("given", [answering, "text", None, 5])
def test_middleware_comes_in_a_list(given: Any) -> None:
    with pytest.raises(TypeError, match="`middleware` is a list of functions"):
        checked(given)


@pytest.mark.parametrize("hint", [None, type(None), Any, object, str | None, Optional["str"], TypeVar("T")])
def test_annotations_that_admit_none(hint: Any) -> None:
    assert admits_none(type(None) if hint is None else hint)


@pytest.mark.parametrize("hint", [str, list[str], dict[str, int], str | int, Greet, tuple[()]])
def test_annotations_that_do_not_admit_none(hint: Any) -> None:
    assert not admits_none(hint)
