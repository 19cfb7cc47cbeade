"""Deciders: three pure functions instead of an object (Jérémie Chassaing, "Functional event sourcing decider")."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from twofold.arguments import check_function, check_items, check_iterable, check_text
from twofold.commands.ignored import check_ignored
from twofold.messages.endings import StreamClosed
from twofold.messages.event import refuse_base_class
from twofold.messages.event_methods import refuse_record

C = TypeVar("C")
S = TypeVar("S")
E = TypeVar("E")


@dataclass(frozen=True, kw_only=True)
class Decider(Generic[C, S, E]):
    """How a thing decides and remembers, without any I/O. The state is a value: `evolve` returns a new one.

    Raises:
        TypeError: `initial_state` is a state instead of a function that makes one, a function takes something else than
            its text says, or one of the events is no class of events.
        ValueError: a name or `events` is empty.
    """

    initial_state: Callable[[], S]
    """Make the state before the first event."""
    decide: Callable[[C, S], Sequence[E]]
    """Answer a command with the events that follow from it, or raise an error of the domain."""
    evolve: Callable[[S, E], S]
    """Fold one event into the state. It must not fail: the event has happened."""
    stream_type: str
    """The type of its streams."""
    events: tuple[type, ...]
    """The classes of all events that its streams may hold."""
    ignores: tuple[type, ...] = ()
    """Further classes of events in its streams, which change nothing of the state. A load does not read them."""
    state_type: Any = field(default=None, hash=False)
    """The type of its states, with which they are stored as snapshots; by default what `evolve` says it returns."""

    def __post_init__(self) -> None:
        if not callable(self.initial_state):
            kind = type(self.initial_state).__name__
            raise TypeError(
                f"initial_state is a {kind}; give the function that makes it, such as `set`, so that no two things "
                f"share one state"
            )

        for name, given in (("decide", "command, state"), ("evolve", "state, event")):
            check_function(name, getattr(self, name))
            _refuse_other_parameters(name, getattr(self, name), given)
        check_text("stream_type", self.stream_type)
        check_items("events", self.events, lambda each: isinstance(each, type), "classes of events")
        if not self.events:
            raise ValueError("`events` is empty; name all classes of events that its streams may hold")
        for each in self.events:
            _check_event(each)
        check_ignored("ignores", self.ignores, self.events)

    def fold(self, events: Iterable[E]) -> S:
        """Return the state after these events.

        Raises:
            TypeError: they are none.
        """
        check_iterable("events", events)
        state = self.initial_state()
        for event in events:
            if type(event) not in self.ignores and type(event) is not StreamClosed:
                state = self.evolve(state, event)
        return state


def _refuse_other_parameters(name: str, function: Callable[..., object], given: str) -> None:
    try:
        if name == "evolve":
            refuse_record(function, "a decider")
        inspect.signature(function).bind(*given.split(", "))
    except ValueError:  # a function of C that does not tell
        return
    except TypeError as error:
        raise TypeError(f"{name} is called as {name}({given}), which {function!r} does not take: {error}") from error


def _check_event(cls: type) -> None:
    try:
        refuse_base_class(cls)
    except TypeError as error:
        raise TypeError(f"`events`: {error}") from error
