"""What a process class is written with: the marks of its methods, what they get, and what they yield."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, Literal, NamedTuple, TypeVar
from uuid import UUID

from twofold.commands.command_types import StoredCommand
from twofold.errors import InvalidProcessError
from twofold.messages.event import event_type_of
from twofold.messages.event_methods import PROCESS_MARK
from twofold.messages.receipt import Receipt

KeyOf = str | Callable[[Any], Any]
"""A field of the event, a tag, or a function from the event to one id or several."""
C = TypeVar("C")
F = TypeVar("F", bound=Callable[..., Any])

Missing = Literal["refuse", "ignore"]
"""What becomes of an event that is about an instance which was never started: it is parked as an error, or left out."""
TriggerKind = Literal["event", "done", "refused", "due"]


class Done(NamedTuple, Generic[C]):
    """A command that a process sent was carried out."""

    command: C
    receipt: Receipt[Any]
    """Its value, and the stream, version and position of its last event."""


class Refusal(NamedTuple, Generic[C]):
    """A command that a process sent was refused by the domain: its handler raised, and nothing was stored."""

    command: C
    error: str
    """The name of the error's class."""
    reason: str
    """The text of the error."""


class SetTimer(NamedTuple):
    """A timer that a handler sets: made by `after` and `at`."""

    name: str
    delay: timedelta | None
    moment: datetime | None

    def due_at(self, now: datetime) -> datetime:
        """Return when it is due, if its process handles an input of the time `now`."""
        return now + self.delay if self.delay is not None else self.moment or now


class CancelTimer(NamedTuple):
    """A timer that a handler cancels: made by `cancel`."""

    name: str


class SendStored(NamedTuple):
    """A command that a handler sends under its own id, from what is stored of it."""

    command_id: UUID
    stored: StoredCommand


def after(delay: timedelta, name: str) -> SetTimer:
    """Set a timer that is due some time after the input; one of the same name is replaced. Yield it."""
    if not isinstance(delay, timedelta):
        raise InvalidProcessError(f"after({delay!r}, …) takes a timedelta; write after(timedelta(days=3), {name!r})")
    return SetTimer(_timer_name(name), delay, None)


def at(moment: datetime, name: str) -> SetTimer:
    """Set a timer that is due at a moment; one of the same name is replaced. Yield it."""
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise InvalidProcessError(f"at({moment!r}, …) takes a datetime with a time zone, such as datetime.now(UTC) + …")
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:
        raise InvalidProcessError(f"at({moment!r}, …) is before the year 1 or after 9999 in UTC") from None
    return SetTimer(_timer_name(name), None, moment)


def cancel(name: str) -> CancelTimer:
    """Cancel a timer, if it is set. Yield it."""
    return CancelTimer(_timer_name(name))


@dataclass(frozen=True)
class Trigger:
    """What a method of a process takes; a decorator that marks it."""

    kind: TriggerKind
    of: tuple[Any, ...]
    """Classes of events or of commands, or names of timers."""
    key: KeyOf | None = None
    missing: Missing = "refuse"
    starts: bool = False
    folds: bool = field(default=False, kw_only=True)
    """Whether the method returns the next state, as `evolve` says; otherwise it yields what follows."""

    def __call__(self, method: F) -> F:
        """Mark a method."""
        marks: tuple[Trigger, ...] = method.__dict__.get(PROCESS_MARK, ())
        setattr(method, PROCESS_MARK, (*marks, self))
        return method

    @property
    def routes(self) -> Iterator[tuple[TriggerKind, Any]]:
        """What the method is found by: a class of events, the stored name of commands, or the name of a timer."""
        if not self.of:
            yield self.kind, None  # any command
        for each in self.of:
            if self.kind in ("event", "due"):
                yield self.kind, each
            else:
                for name in event_type_of(each).names:
                    yield self.kind, name

    def __str__(self) -> str:
        names = ", ".join(each.__name__ if isinstance(each, type) else repr(each) for each in self.of)
        return f"{'starts' if self.starts else 'on' if self.kind == 'event' else self.kind}({names})"


def starts(*events: type, key: KeyOf) -> Trigger:
    """Let a method take events that start an instance, and those that come when it is started already.

    Args:
        events: their classes.
        key: what gives the id of the instance: a field of the event, a tag, or a function of the event. It may give
            several ids, as a tuple, list or set: the event then goes to as many instances. None gives none.
    """
    return Trigger("event", _classes("starts", events), key, starts=True)


def on(*events: type, key: KeyOf, missing: Missing = "refuse") -> Trigger:
    """Let a method take events that continue an instance.

    Args:
        events: their classes.
        key: what gives the id of the instance, as for `starts`.
        missing: what becomes of an event about an instance that was never started: `refuse` parks it, as
            `ProcessNotStartedError`; `ignore` leaves it out.
    """
    if missing not in ("refuse", "ignore"):
        raise InvalidProcessError(f'missing={missing!r} is none; write "refuse" or "ignore"')
    return Trigger("event", _classes("on", events), key, missing)


def done(*commands: type) -> Trigger:
    """Let a method take that commands were carried out: it gets `(state, done)`, a `Done`.

    Without a class, it takes the outcomes of all commands that no other method takes.
    """
    return Trigger("done", _classes("done", commands) if commands else ())


def refused(*commands: type) -> Trigger:
    """Let a method take that the domain refused commands: it gets `(state, refusal)`, a `Refusal`.

    Without a class, it takes the refusals of all commands that no other method takes.
    """
    return Trigger("refused", _classes("refused", commands) if commands else ())


def due(*timers: str) -> Trigger:
    """Let a method take that timers are due: it gets `(state)`."""
    if not timers or not all(isinstance(each, str) and each for each in timers):
        raise InvalidProcessError('name the timer: @due("payment")')
    return Trigger("due", timers)


def evolve(*inputs: type | Trigger) -> Callable[[F], F]:
    """Let a method fold inputs into the state, which it returns.

    Args:
        inputs: classes of events, or `due("payment")`, `done(Ship)`, `refused(Ship)`. The method gets what the handler
            for the input gets.
    """
    if not inputs:
        raise InvalidProcessError("name the input: @evolve(OrderPlaced)")
    triggers = [each if isinstance(each, Trigger) else Trigger("event", _classes("evolve", (each,))) for each in inputs]

    def mark(method: F) -> F:
        for each in triggers:
            Trigger(each.kind, each.of, folds=True)(method)
        return method

    return mark


def _classes(decorator: str, classes: tuple[Any, ...]) -> tuple[type, ...]:
    if not classes or not all(isinstance(each, type) for each in classes):
        shown = ", ".join(map(repr, classes)) or "nothing"
        raise InvalidProcessError(f"@{decorator}(…) names classes, got {shown}; write @{decorator}(OrderPlaced, …)")
    return classes


def _timer_name(name: str) -> str:
    if not isinstance(name, str) or not name:
        raise InvalidProcessError(f"a timer has a name, which @due({name!r}) takes; got {name!r}")
    return name
