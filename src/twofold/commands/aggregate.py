"""Aggregates: objects that guard their rules, and remember what happened as events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Self

from twofold.errors import InvalidEventError
from twofold.messages.event_methods import methods_by_event


class Aggregate:
    """A thing with an identity whose state is folded from the events of its stream.

    A method that changes something checks the rules and calls `record`; a method marked with `@on` changes the state
    for an event, and must not fail, since the event has happened. Both run the same way on new and on stored events.
    """

    stream_type: ClassVar[str] = ""
    """The type of its streams; the name of the class unless it is given."""

    _methods: ClassVar[dict[type, Callable[..., Any]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._methods = methods_by_event(cls)
        if "stream_type" not in cls.__dict__:
            cls.stream_type = cls.__name__

    def __init__(self, id: str) -> None:
        self.id = id
        self.version = 0
        self._uncommitted: list[object] = []

    @classmethod
    def stream_id(cls, id: str) -> str:
        """Return the stream of the aggregate with this id, `Order-7f3…`."""
        return f"{cls.stream_type}-{id}"

    @classmethod
    def event_types(cls) -> tuple[type, ...]:
        """Return the classes of the events that its stream may hold."""
        return tuple(cls._methods)

    @classmethod
    def from_history(cls, id: str, events: Iterable[object]) -> Self:
        """Return the aggregate that stored events lead to."""
        aggregate = cls(id)
        for event in events:
            aggregate._evolve(event)
        return aggregate

    @property
    def uncommitted_events(self) -> Sequence[object]:
        """The events that were recorded and not yet saved."""
        return tuple(self._uncommitted)

    @property
    def committed_version(self) -> int:
        """The version that the stream had when the aggregate was loaded or last saved."""
        return self.version - len(self._uncommitted)

    def record(self, event: object) -> None:
        """Note that something happened, and change the state accordingly.

        Raises:
            InvalidEventError: no method of the aggregate takes this event; it could not be folded again.
        """
        self._evolve(event)
        self._uncommitted.append(event)

    def mark_committed(self) -> None:
        """Forget the uncommitted events; they are stored now."""
        self._uncommitted.clear()

    def _evolve(self, event: object) -> None:
        method = self._methods.get(type(event))
        if method is None:
            name, owner = type(event).__name__, type(self).__name__
            raise InvalidEventError(f"{owner} has no method for {name}; mark one with @on({name}), if only to pass")
        method(self, event)
        self.version += 1
