"""Process classes that cannot work are refused when they are defined, with the line to write."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple
from uuid import UUID

from twofold.errors import InvalidProcessError
from twofold.log.codec.fidelity import field_names
from twofold.log.event_fields import tagged_fields
from twofold.messages.event import refuse_base_class
from twofold.messages.event_methods import PROCESS_MARK, events_of, fold_parameters
from twofold.processes.triggers import KeyOf, Trigger, TriggerKind

Route = tuple[TriggerKind, Any]
_SEVERAL = (tuple, list, set, frozenset)
_PLAIN = (str, int, UUID)
_TAKES = {"event": "(self, state, event)", "done": "(self, state, done)", "refused": "(self, state, refusal)"}


class Declaration(NamedTuple):
    """What a process class declares."""

    handlers: Mapping[Route, tuple[str, Trigger]]
    """The method that says what follows, and how it is marked, by its input."""
    folds: Mapping[Route, str]
    """The method that folds the state, by its input."""
    keys: Mapping[type, Callable[[Any], Iterable[str]]]
    """What gives the ids of the instances that an event is about, by its class."""


def declared(cls: type, no_end: Callable[..., Any]) -> Declaration:
    """Return what a process class declares.

    Args:
        cls: the class.
        no_end: the `is_completed` of a class that does not say when it is at its end.

    Raises:
        InvalidProcessError: a method can never be called, or takes what it never gets.
    """
    handlers: dict[Route, tuple[str, Trigger]] = {}
    folds: dict[Route, str] = {}
    for parent in reversed(cls.__mro__):
        seen: dict[tuple[bool, Route], str] = {}
        for name, method in vars(parent).items():
            _refuse_mark(parent, name, method)
            for trigger in getattr(method, PROCESS_MARK, ()):
                _check_method(parent, name, method, trigger)
                for route in trigger.routes:
                    _check_once(parent, name, trigger, seen.setdefault((trigger.folds, route), name))
                    if trigger.folds:
                        folds[route] = name
                    else:
                        handlers[route] = name, trigger
    if handlers or folds:  # else it is a base of others
        _check_class(cls, handlers, folds, no_end)
    keys = {
        of: key_of(of, trigger.key)
        for (kind, of), (_, trigger) in handlers.items()
        if kind == "event" and trigger.key is not None
    }
    return Declaration(handlers, folds, keys)


def _refuse_mark(cls: type, name: str, method: Any) -> None:
    if events := events_of(method):
        raise InvalidProcessError(
            f"{cls.__qualname__}.{name} is marked with the `on` of aggregates and projections; write `from "
            f'twofold.processes import on`, and which instance an event is about: @on({events[0].__name__}, key="…")'
        )


def _check_once(cls: type, name: str, trigger: Trigger, other: str) -> None:
    if other != name:
        what = "folds" if trigger.folds else "takes"
        raise InvalidProcessError(f"{cls.__qualname__} {what} {trigger} in two methods, {other} and {name}; remove one")


def _check_method(cls: type, name: str, method: Callable[..., Any], trigger: Trigger) -> None:
    where = f"{cls.__qualname__}.{name}"
    if inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method):
        raise InvalidProcessError(f"{where} is pure, without I/O; write `def {name}` without `async`")
    if trigger.kind == "event":
        for each in trigger.of:
            try:
                refuse_base_class(each)
            except TypeError as error:
                raise InvalidProcessError(f"{where}: {error}") from None
    if trigger.folds and inspect.isgeneratorfunction(method):
        raise InvalidProcessError(f"{where} is marked with @evolve; let it `return` the next state, not `yield` it")
    takes = _TAKES.get(trigger.kind, "(self, state)")
    try:
        record = fold_parameters(method, bound=True).record
    except TypeError as error:
        raise InvalidProcessError(f"{where} must take {takes}; write `def {name}{takes}` ({error})") from error
    if record is not None:
        raise InvalidProcessError(
            f"{where} asks for the RecordedEvent with {record!r}, which a process does not keep; put what it needs "
            f"into the event, and write `def {name}{takes}`"
        )
    parameters = inspect.signature(method).parameters.values()
    required = [each for each in parameters if each.default is each.empty and each.kind is not each.VAR_KEYWORD]
    if len(required) != takes.count(",") + 1 or any(each.kind is each.KEYWORD_ONLY for each in required):
        raise InvalidProcessError(f"{where} must take {takes}; write `def {name}{takes}`")


def _check_class(
    cls: Any, handlers: Mapping[Route, tuple[str, Trigger]], folds: Mapping[Route, str], no_end: Callable[..., Any]
) -> None:
    name = cls.__qualname__
    for kind, of in folds:
        if kind == "event" and (kind, of) not in handlers:
            raise InvalidProcessError(
                f"{name}.{folds[kind, of]} folds {of.__name__}, which {name} never takes in; add a method "
                f'@on({of.__name__}, key="…") that yields what follows, or does `return ()`'
            )
    if not any(trigger.starts for _, trigger in handlers.values()):
        raise InvalidProcessError(f'nothing starts {name}; mark a method with @starts(OrderPlaced, key="order_id")')
    if not isinstance(cls.name, str) or not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", cls.name):
        raise InvalidProcessError(
            f'{name} needs a name of lower case letters, digits and _, at most 40; write name = "fulfil_order" in it'
        )
    if cls.is_completed is no_end:
        raise InvalidProcessError(
            f"nothing ends {name}; write `def is_completed(self, state)`, which returns whether an instance is at its "
            f"end, or always False"
        )


def key_of(event: type, key: KeyOf) -> Callable[[Any], Iterable[str]]:
    """Return how to get the ids of the instances that an event of a class is about.

    Raises:
        InvalidProcessError: the class has no such field, and no such tag.
    """
    if callable(key):
        return lambda instance: _ids(event, key(instance))
    fields = [key] if key in (field_names(event) or ()) or hasattr(event, key) else _tagged(event, key)
    if not fields:
        raise InvalidProcessError(
            f"{event.__name__} has neither a field nor a tag {key!r}, which is the key of the process; name one of "
            f"{', '.join(field_names(event) or ()) or 'its fields'}, or write key=lambda event: …"
        )

    def ids(instance: Any) -> Iterable[str]:
        return [each for field in fields for each in _ids(event, getattr(instance, field))]

    return ids


def _tagged(event: type, tag: str) -> list[str]:
    return [field for field, name in tagged_fields(event) if name == tag]


def _ids(event: type, value: Any) -> Iterable[str]:
    if type(value) is str:
        return (value,)
    if value is None:
        return ()
    if isinstance(value, _SEVERAL):
        ordered = sorted(value, key=str) if isinstance(value, set | frozenset) else value
        return [one for each in ordered for one in _ids(event, each)]
    if isinstance(value, _PLAIN):
        return (str(value),)
    raise InvalidProcessError(
        f"the key of {event.__name__} gave {value!r}, a {type(value).__name__}; an id is a str, an int or a UUID"
    )
