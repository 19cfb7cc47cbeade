"""Which method takes which event."""

from __future__ import annotations

import pytest

from twofold import processes
from twofold.messages.event_methods import methods_by_event, on


class A:
    pass


class B:
    pass


def test_one_method_may_take_several_events() -> None:
    class Thing:
        @on(A, B)
        def both(self, event: A | B) -> None: ...

    assert methods_by_event(Thing) == {A: Thing.both, B: Thing.both}


def test_a_subclass_inherits_and_overrides() -> None:
    class Parent:
        @on(A)
        def a(self, event: A) -> None: ...

        @on(B)
        def b(self, event: B) -> None: ...

    class Child(Parent):
        @on(B)
        def another_b(self, event: B) -> None: ...

    assert methods_by_event(Child) == {A: Parent.a, B: Child.another_b}


def test_a_method_that_is_overridden_by_name_stays_marked() -> None:
    class Parent:
        @on(A)
        def a(self, event: A) -> None: ...

    class Child(Parent):
        def a(self, event: A) -> None: ...

    assert methods_by_event(Child) == {A: Child.a}


def test_two_methods_for_one_event_are_refused() -> None:
    class Thing:
        @on(A)
        def one(self, event: A) -> None: ...

        @on(A)
        def two(self, event: A) -> None: ...

    with pytest.raises(TypeError, match="Thing handles A in two methods; remove one"):
        methods_by_event(Thing)


def test_an_async_method_is_refused_since_folding_is_pure() -> None:
    with pytest.raises(TypeError, match=r"a: a method marked with @on folds events, without I/O; it cannot be async"):

        @on(A)
        async def a(self: object, event: A) -> None: ...


def test_a_method_that_is_marked_for_a_process_is_refused() -> None:
    class Thing:
        @processes.on(A, key="id")
        def a(self, event: A) -> None: ...

    with pytest.raises(TypeError, match=r"Thing\.a is marked as a method of a process; .*`from twofold import on`"):
        methods_by_event(Thing)


def test_a_key_is_refused_with_the_import_of_the_mark_that_takes_one() -> None:
    with pytest.raises(TypeError, match=r"takes no 'key'; in a process, write `from twofold\.processes import on`"):
        on(A, key="id")  # type: ignore[arg-type]


def test_a_forgotten_event_class_is_refused() -> None:
    with pytest.raises(TypeError, match=r"name the event: @on\(OrderCreated\)"):

        @on  # type: ignore[arg-type]
        def a(self: object, event: A) -> None: ...

    with pytest.raises(TypeError, match="name the event"):
        on()
