"""Process classes that cannot work are refused when they are defined, with the line to write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID, uuid4

import pytest

import twofold
from twofold import Command, Event, Tag
from twofold.errors import InvalidProcessError
from twofold.processes import Process, after, at, cancel, done, due, evolve, on, refused, starts
from twofold.processes.methods import Methods
from twofold.testing import scenario


@dataclass(frozen=True)
class Begun(Event):
    id: str
    others: Annotated[tuple[UUID, ...], Tag("other")] = ()
    number: int | None = None


@dataclass(frozen=True)
class Ended(Event):
    id: str


@dataclass(frozen=True, kw_only=True)
class Do(Command[None]):
    id: str = ""


@dataclass(frozen=True)
class Bare:
    id: str


def no_end() -> type:
    class Endless(Process[None]):
        name = "endless"

        @starts(Begun, key="id")
        def begun(self, state: None, event: Begun) -> tuple[()]:
            return ()

    return Endless


def no_start() -> type:
    class Never(Process[None]):
        name = "never"

        @on(Begun, key="id")
        def begun(self, state: None, event: Begun) -> tuple[()]:
            return ()

        def is_completed(self, state: None) -> bool:
            return False

    return Never


def with_methods(**methods: Any) -> Callable[[], type]:
    def begun(self: Any, state: Any, event: Any) -> tuple[()]:
        return ()

    body = {"name": "some", "begun": starts(Begun, key="id")(begun), "is_completed": lambda self, state: False}
    return lambda: type("Some", (Process,), body | methods)


def two() -> Callable[..., Any]:
    return lambda self, state: ()


def three() -> Callable[..., Any]:
    return lambda self, state, event: ()


async def asynchronous(self: Any, state: Any, event: Any) -> None: ...


def yielding(self: Any, state: Any, event: Any) -> Any:
    yield state


@pytest.mark.parametrize(
    ("define", "line"),
    [
        (no_end, r"nothing ends .*Endless; write `def is_completed\(self, state\)`"),
        (no_start, r"nothing starts .*Never; mark a method with @starts\(OrderPlaced"),
        (with_methods(name="Bad Name"), r'write name = "fulfil_order" in it'),
        (with_methods(end=on(Ended, key="no")(three())), r"Ended has neither a field nor a tag 'no'.*lambda event"),
        (with_methods(end=on(Ended, key="id")(two())), r"Some.end must take \(self, state, event\); write `def end\("),
        (with_methods(late=due("x")(three())), r"Some.late must take \(self, state\)"),
        (with_methods(no=refused(Do)(two())), r"Some.no must take \(self, state, refusal\)"),
        (with_methods(yes=done(Do)(two())), r"Some.yes must take \(self, state, done\)"),
        (with_methods(end=on(Ended, key="id")(asynchronous)), r"pure, without I/O; write `def end` without `async`"),
        (with_methods(end=evolve(Ended)(three())), r"folds Ended, which Some never takes in; add a method @on\(Ended"),
        (with_methods(end=evolve(Begun)(yielding)), r"marked with @evolve; let it `return` the next state"),
        (with_methods(again=on(Begun, key="id")(three())), r"takes on\(Begun\) in two methods"),
        (with_methods(end=twofold.on(Ended)(three())), r"Some.end is marked .*processes import on.*Ended, key="),
        (with_methods(all=on(Event, key="id")(three())), r"Event is the base of other events"),
        (lambda: on(key="id"), r"@on\(…\) names classes, got nothing"),
        (lambda: on(Ended, key="id", missing="no"), r"missing='no' is none; write .refuse. or .ignore."),  # type: ignore[arg-type]
        (lambda: due(), r'name the timer: @due\("payment"\)'),
        (lambda: evolve(), r"name the input: @evolve\(OrderPlaced\)"),
        (lambda: after(3, "x"), r"takes a timedelta; write after\(timedelta\(days=3\), 'x'\)"),  # type: ignore[arg-type]
        (lambda: at(datetime(2026, 1, 1), "x"), r"takes a datetime with a time zone"),  # noqa: DTZ001
        (lambda: cancel(""), r"a timer has a name"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_with_the_line_to_write(define: Callable[[], object], line: str) -> None:
    with pytest.raises(InvalidProcessError, match=line):
        define()


def run(process: Any) -> None:
    given: Any = scenario(process())
    given().when(Begun("a"))


@pytest.mark.parametrize(
    ("effect", "line"),
    [
        (after(timedelta(1), "unknown"), r"no method for its timer 'unknown'; write one: @due\('unknown'\)"),
        (cancel("unknown"), r"no method for its timer 'unknown'"),
        (Bare("a"), r"cannot be sent: Bare has no command_id"),
        (Ended("a"), r"cannot be sent: Ended is an event; send a command, and let its handler append the event"),
        ("a text", r"cannot be sent"),
    ],
)
def test_what_cannot_follow_is_refused(effect: object, line: str) -> None:
    def begun(self: Any, state: Any, event: Any) -> list[object]:
        return [effect]

    process: Any = with_methods(begun=starts(Begun, key="id")(begun))()
    with pytest.raises(InvalidProcessError, match=line):
        run(process)


@pytest.mark.parametrize("given", [None, Do(), after(timedelta(1), "x"), "text"])
def test_a_handler_that_gives_no_sequence_is_refused(given: object) -> None:
    def begun(self: Any, state: Any, event: Any) -> object:
        return given

    process: Any = with_methods(begun=starts(Begun, key="id")(begun))()
    with pytest.raises(InvalidProcessError, match=r"`yield` each thing that follows, or `return \(\)`"):
        run(process)


def test_a_key_is_a_field_a_tag_or_a_function() -> None:
    others = (uuid4(), uuid4())
    event = Begun("a", others, 7)

    def ids(key: Any) -> tuple[str, ...]:
        process: Any = with_methods(begun=starts(Begun, key=key)(three()))()
        return Methods(process()).ids(event)

    assert ids("id") == ("a",)
    assert ids("other") == ids("others") == tuple(map(str, others))
    assert ids("number") == ("7",)
    assert ids(lambda event: [event.id, event.number, event.id]) == ("a", "7")
    assert ids(lambda event: None) == ()
    with pytest.raises(InvalidProcessError, match="an id is a str, an int or a UUID"):
        ids(lambda event: 1.5)


def test_a_subclass_overrides_a_handler() -> None:
    base: Any = with_methods()()

    class Other(base):  # type: ignore[misc]
        def begun(self, state: Any, event: Any) -> list[object]:
            return [Do(id="other")]

    other: Process[Any] = Other()
    scenario(other)().when(Begun("a")).then_sends(Do(id="other"))


def test_a_fold_that_returns_nothing_is_refused() -> None:
    process: Any = with_methods(initial=0, fold=evolve(Begun)(lambda self, state, event: None))()
    with pytest.raises(InvalidProcessError, match="returned None; let it return the next state"):
        run(process)
