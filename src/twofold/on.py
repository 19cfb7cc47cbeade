"""`@on(OrderCreated)`: which method of an aggregate or a projection takes which event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

_MARK = "__twofold_on__"


def on(*event_types: type) -> Callable[[F], F]:
    """Let a method take events of exactly these classes."""

    def mark(method: F) -> F:
        setattr(method, _MARK, event_types)
        return method

    return mark


def methods_by_event(cls: type) -> dict[type, Callable[..., Any]]:
    """Return the methods that `@on` marked, by event class; a subclass may override its parent's.

    Raises:
        TypeError: one class gives one event to two methods.
    """
    found: dict[type, Callable[..., Any]] = {}
    for parent in reversed(cls.__mro__):
        own: dict[type, Callable[..., Any]] = {}
        for method in vars(parent).values():
            for event_type in getattr(method, _MARK, ()):
                if event_type in own:
                    raise TypeError(f"{cls.__qualname__} handles {event_type.__name__} in two methods; remove one")
                own[event_type] = method
        found.update(own)
    return found
