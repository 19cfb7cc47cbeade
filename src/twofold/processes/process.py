"""Processes: code that waits for events, and says what follows from them.

A process class is the whole process: pure functions, without I/O. See `Process`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar, Generic, TypeVar

from twofold.errors import AggregateNotFoundError, TwofoldError, ValueTakenError
from twofold.processes.declaration import Declaration, declared
from twofold.projections.projection import OnFailure

S = TypeVar("S")


class Process(Generic[S]):
    """Something that waits: it takes events in, sends commands and sets timers, remembers where it is, and ends.

        class FulfilOrder(Process[Fulfilment]):
            name, initial = "fulfil_order", Fulfilment()

            @starts(OrderPlaced, key="order_id")
            def placed(self, state, event):
                yield RequestPayment(order_id=event.order_id, amount=event.total)
                yield after(timedelta(days=3), "payment")

            @due("payment")
            def overdue(self, state):
                yield CancelOrder(order_id=state.order_id, reason="not paid")

            def is_completed(self, state):
                return state.shipped or state.cancelled

    Handlers are generators, or return a sequence; they are pure: what they yield is a command, `after(…)`, `at(…)` or
    `cancel(…)`. `@evolve` folds an input into the state, before its handler gets that state. The state is never stored:
    it is folded from what the instance has taken in, whenever it is loaded.
    """

    name: ClassVar[str] = ""
    """Its name, and the type of the streams of its instances. Stored: change it with care."""
    initial: ClassVar[Any] = None
    """The state of an instance that has taken nothing in; of an immutable class."""
    max_lag: ClassVar[timedelta | None] = None
    """How late it may be, in taking events in and with timers, before that is a fault."""

    follows: ClassVar[tuple[str, ...]] = ()
    """Names of projections that it never overtakes, so that its commands find their rows."""
    on_failure: ClassVar[OnFailure] = "park"
    """An event on which a handler fails again and again is parked, with the later ones of its instance."""

    _declaration: ClassVar[Declaration] = Declaration({}, {}, {})
    _of_tenants = False

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        cls._declaration = declared(cls, Process.is_completed)

    def is_completed(self, state: S) -> bool:
        """Return whether an instance is at its end. What comes later is counted, and takes no effect."""
        raise NotImplementedError(f"{type(self).__qualname__}.is_completed(state) says when an instance is at its end")

    def is_refusal(self, error: Exception) -> bool:
        """Return whether the domain has refused a command that raised this error, which is then an input.

        Any other error is tried again with back-off. By default the domain's are your own classes, `ValueError`, and
        those of Twofold that a domain raises: neither what the database or a network raises, nor what Python raises
        on a mistake in code.
        """
        if isinstance(error, TwofoldError):
            return isinstance(error, AggregateNotFoundError | ValueTakenError)
        if isinstance(error, OSError | TimeoutError):
            return False
        return type(error) is ValueError or type(error).__module__ != "builtins"

    def handles(self) -> tuple[type, ...]:
        """Return the classes of the events that it takes in."""
        return tuple(self._declaration.keys)
