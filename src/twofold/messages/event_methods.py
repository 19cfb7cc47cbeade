"""`@on(OrderCreated)`: which method of an aggregate or a projection takes which event, and with what beside it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, TypeVar

from twofold.messages.event import refuse_base_class

F = TypeVar("F", bound=Callable[..., Any])

_MARK = "__twofold_on__"


def on(*event_types: type) -> Callable[[F], F]:
    """Let a method take events of exactly these classes.

    Raises:
        TypeError: no class is named, or only the base of some, or the method is asynchronous.
    """
    if not event_types or not all(isinstance(each, type) for each in event_types):
        raise TypeError("name the event: @on(OrderCreated)")
    for each in event_types:
        refuse_base_class(each)

    def mark(method: F) -> F:
        if inspect.iscoroutinefunction(method):
            raise TypeError(
                f"{method.__qualname__}: a method marked with @on folds events, without I/O; it cannot be async"
            )
        setattr(method, _MARK, event_types)
        return method

    return mark


def events_of(method: Callable[..., Any]) -> tuple[type, ...]:
    """Return the classes of events that `@on` names for a method."""
    return getattr(method, _MARK, ())


def methods_by_event(cls: type) -> dict[type, Callable[..., Any]]:
    """Return the methods that `@on` marked, by event class; a subclass may override its parent's.

    Raises:
        TypeError: one class gives one event to two methods.
    """
    found: dict[type, str] = {}
    for parent in reversed(cls.__mro__):
        own: dict[type, str] = {}
        for name, method in vars(parent).items():
            for event_type in getattr(method, _MARK, ()):
                if event_type in own:
                    raise TypeError(f"{cls.__qualname__} handles {event_type.__name__} in two methods; remove one")
                own[event_type] = name
        found.update(own)
    return {event_type: getattr(cls, name) for event_type, name in found.items()}


def record_parameter(fold: Callable[..., Any]) -> str | None:
    """Return the parameter of a fold that takes the `RecordedEvent`, by its name `recorded` or by its annotation.

    `DecisionModel.evolve` is looked at in this way. Methods of projections and reactions get the record by the name
    `recorded`; aggregates and deciders fold the event alone.
    """
    for name, parameter in inspect.signature(fold).parameters.items():
        if name == "recorded" or re.match(r"(\w+\.)*RecordedEvent\b", _as_text(parameter.annotation)):
            return name
    return None


def _as_text(annotation: Any) -> str:
    """Return an annotation as it would be written, whether or not the names in it can be resolved."""
    if isinstance(annotation, str):
        return annotation
    return getattr(annotation, "__qualname__", None) or repr(annotation)
