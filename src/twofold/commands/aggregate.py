"""Aggregates: objects that guard their rules, and remember what happened as events."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, NoReturn, Self

from twofold.arguments import check_iterable
from twofold.commands.ignored import check_ignored
from twofold.errors import InvalidEventError
from twofold.log.codec.mutable_fields import copier
from twofold.log.codec.mutable_values import is_mutable
from twofold.messages.endings import StreamClosed, StreamTombstoned
from twofold.messages.event_methods import fields_of, methods_by_event, refuse_record


class Aggregate:
    """A thing with an identity whose state is folded from the events of its stream.

    A method that changes something checks the rules and calls `record`; a method marked with `@on` changes the state
    for an event, and must not fail, since the event has happened. Both run the same way on new and on stored events.

    State that can be changed in place, such as a list, is made in an own `__init__(self, id)`.

    Raises:
        TypeError: when the class is declared: all instances would share its state, its `__init__` takes something else
            than an id, or a method marked with `@on` something else than its event, such as the `RecordedEvent`.
    """

    stream_type: ClassVar[str] = ""
    """The type of its streams; the name of the class unless it is given."""
    ignores: ClassVar[tuple[type, ...]] = ()
    """Classes of events in its streams that change nothing of its state. A load does not read them; of all others that
    no method takes, it says so."""

    _methods: ClassVar[dict[type, Callable[..., Any]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._methods = methods_by_event(cls)
        check_ignored(f"{cls.__qualname__}.ignores", cls.ignores, cls._methods)
        if "stream_type" not in cls.__dict__:
            cls.stream_type = cls.__name__
        _refuse_shared_state(cls)
        _refuse_other_parameters(cls)
        for event_type, method in cls._methods.items():
            _refuse_other_event(cls, event_type, method)

    def __new__(cls, id: str = "") -> Self:
        """Make one without events, also for a class whose own `__init__` does not call this one's."""
        aggregate = super().__new__(cls)
        aggregate.id, aggregate.version, aggregate._uncommitted = id, 0, []
        return aggregate

    def __init__(self, id: str) -> None:
        self.id: str = _checked_id(type(self), id)
        self.version: int
        self._uncommitted: list[object]

    @classmethod
    def stream_id(cls, id: str) -> str:
        """Return the stream of the aggregate with this id, `Order-7f3…`.

        Raises:
            ValueError: the id is no text, or empty.
        """
        return f"{cls.stream_type}-{_checked_id(cls, id)}"

    @classmethod
    def event_types(cls) -> tuple[type, ...]:
        """Return the classes of the events that its stream may hold."""
        return (*cls._methods, *cls.ignores)

    @classmethod
    def from_history(cls, id: str, events: Iterable[object]) -> Self:
        """Return the aggregate that stored events lead to.

        Raises:
            InvalidEventError: no method takes one of them.
            TypeError: `events` are none.
        """
        check_iterable("events", events)
        return cls(id).take(events)

    def take(self, events: Iterable[object]) -> Self:
        """Change the state for events that are stored; returns the aggregate."""
        methods = self._methods
        for event in events:
            method = methods.get(type(event))
            if method is not None:
                method(self, event)
            elif type(event) not in self.ignores and type(event) is not StreamClosed:
                self._refuse(event)
            self.version += 1
        return self

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
            InvalidEventError: no method of the aggregate takes this event, so that it could not be folded again; or it
                is the end of a stream.
        """
        if type(event) in (StreamClosed, StreamTombstoned):
            self._refuse(event)
        kept = event if (copies := copier(type(event))) is None else copies(event)
        self.take((event,))  # which may make the event's own list part of its state, and change that
        self._uncommitted.append(kept)

    def mark_committed(self) -> None:
        """Forget the uncommitted events; they are stored now."""
        self._uncommitted.clear()

    def _refuse(self, event: object) -> NoReturn:
        name, owner = type(event).__name__, type(self).__name__
        if isinstance(event, type):
            raise InvalidEventError(f"the event is the class {event.__name__}; make one: {event.__name__}(…)")
        if isinstance(event, StreamClosed | StreamTombstoned):
            raise InvalidEventError(f"{name} is the last event of a stream; close it with Repository.close(…)")
        raise InvalidEventError(f"{owner} has no method for {name}; mark one with @on({name}), if only to pass")


def _checked_id(cls: type[Aggregate], id: object) -> str:
    if not isinstance(id, str) or not id:
        raise ValueError(f"the id of a {cls.__name__} is a text that is not empty, got {id!r}")
    return id


def _refuse_shared_state(cls: type[Aggregate]) -> None:
    """Refuse state in the class that one aggregate would change for all others. Constants may be what they like."""
    annotations = inspect.get_annotations(cls)
    for name, value in vars(cls).items():
        is_constant = name.isupper() or "ClassVar" in str(annotations.get(name))
        if is_mutable(value) and not is_constant and not name.startswith("__") and name != "_methods":
            raise TypeError(
                f"{cls.__qualname__}.{name} is one {type(value).__name__} for all aggregates of the class; make it in "
                f"`def __init__(self, id: str)`, or write {name.upper()} if it is a constant"
            )


def _refuse_other_parameters(cls: type[Aggregate]) -> None:
    try:
        inspect.signature(cls.__init__).bind(None, "id")
    except TypeError as error:
        raise TypeError(
            f"{cls.__qualname__}.__init__ must take (self, id), with which stored aggregates are made again; "
            f"let a class method make a new one and record what it was made with ({error})"
        ) from error


def _refuse_other_event(cls: type[Aggregate], event_type: type, method: Callable[..., Any]) -> None:
    refuse_record(method, "an aggregate")
    if fields_of(method):
        raise TypeError(
            f"{method.__qualname__}: where= finds rows of a projection, and an aggregate has none; remove it"
        )
    parameters = list(inspect.signature(method).parameters)
    if len(parameters) != 2:
        raise TypeError(f"{method.__qualname__} must take (self, event), got ({', '.join(parameters)})")
    try:
        annotated = typing.get_type_hints(method).get(parameters[1])
    except NameError:  # a name that only type checkers, or the enclosing function, can see
        return
    if isinstance(annotated, type) and not issubclass(event_type, annotated):
        raise TypeError(
            f"{method.__qualname__} is marked with @on({event_type.__name__}) and takes a {annotated.__name__}; "
            f"name the same event in both places"
        )
