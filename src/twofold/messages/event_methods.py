"""`@on(OrderCreated)`: which method of an aggregate or a projection takes which event, and with what beside it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any, NamedTuple, Never, TypeVar

from twofold.messages.event import refuse_base_class

F = TypeVar("F", bound=Callable[..., Any])

_MARK, _WHERE = "__twofold_on__", "__twofold_where__"
PROCESS_MARK = "__twofold_process__"
"""What the marks of `twofold.processes` leave on a method: no class but a process reads it."""


def on(*event_types: type, where: str | Mapping[str, str] | None = None, **others: Never) -> Callable[[F], F]:
    """Let a method of an aggregate or a projection take events of exactly these classes.

    Args:
        event_types: the classes.
        where: only for methods of projections: the event is about each row whose field of this name equals the event's
            field of the same name; or, as `{"guest_id": "id"}`, whose fields equal the named fields of the event.
        others: none. A `key` is for methods of processes, which are marked with `twofold.processes.on`.

    Raises:
        TypeError: no class is named, or only the base of some, or the method is asynchronous, or `where` names no
            fields, or something else is given.
    """
    if others:
        raise TypeError(
            f"this `on` takes no {next(iter(others))!r}; in a process, write `from twofold.processes import on`"
        )
    if not event_types or not all(isinstance(each, type) for each in event_types):
        raise TypeError("the event types are classes; name the event: @on(OrderCreated)")
    for each in event_types:
        refuse_base_class(each)
    fields = _fields(where)

    def mark(method: F) -> F:
        if inspect.iscoroutinefunction(method):
            raise TypeError(
                f"{method.__qualname__}: a method marked with @on folds events, without I/O; it cannot be async"
            )
        setattr(method, _MARK, event_types)
        if fields:
            setattr(method, _WHERE, fields)
        return method

    return mark


def events_of(method: Callable[..., Any]) -> tuple[type, ...]:
    """Return the classes of events that `@on` names for a method."""
    return getattr(method, _MARK, ())


def fields_of(method: Callable[..., Any]) -> Mapping[str, str]:
    """Return the fields of rows, and those of the event that they equal, as `where` names them for a method."""
    return getattr(method, _WHERE, {})


def _fields(where: str | Mapping[str, str] | None) -> Mapping[str, str]:
    if where is None:
        return {}
    fields = {where: where} if isinstance(where, str) else where
    if not isinstance(fields, Mapping) or not fields or not all(map(_is_name, chain(fields, fields.values()))):
        raise TypeError(
            f'where={where!r} names no fields; write where="guest_id", or {{"guest_id": "id"}} if the event\'s field '
            f"has another name"
        )
    return dict(fields)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def methods_by_event(cls: type) -> dict[type, Callable[..., Any]]:
    """Return the methods that `@on` marked, by event class; a subclass may override its parent's.

    Raises:
        TypeError: one class gives one event to two methods, or has a method that is marked as a process's.
    """
    found: dict[type, str] = {}
    for parent in reversed(cls.__mro__):
        own: dict[type, str] = {}
        for name, method in vars(parent).items():
            if hasattr(method, PROCESS_MARK):
                raise TypeError(
                    f"{cls.__qualname__}.{name} is marked as a method of a process; mark it with the `on` of twofold: "
                    f"`from twofold import on`"
                )
            for event_type in getattr(method, _MARK, ()):
                if event_type in own:
                    raise TypeError(f"{cls.__qualname__} handles {event_type.__name__} in two methods; remove one")
                own[event_type] = name
        found.update(own)
    return {event_type: getattr(cls, name) for event_type, name in found.items()}


class FoldParameters(NamedTuple):
    """What a fold takes, as the one who calls it has to know."""

    names: list[str]
    """The parameters that are given, in their order."""
    record: str | None
    """The one that gets the `RecordedEvent`."""

    @property
    def others(self) -> list[str]:
        """The parameters that get something else, by their position."""
        return [name for name in self.names if name != self.record]

    @property
    def text(self) -> str:
        """The parameters as they are declared."""
        return ", ".join(self.names)


def fold_parameters(fold: Callable[..., Any], *, bound: bool = False) -> FoldParameters:
    """Return the parameters of a fold: of a method of a projection, of `apply`, or of `DecisionModel.evolve`.

    One of them may get the `RecordedEvent`: the one that is named `recorded`, or annotated with `RecordedEvent`. It
    stands behind the event, or instead of it.

    Args:
        fold: a function.
        bound: leave its first parameter out, the `self` of a method.

    Raises:
        TypeError: a parameter could never be filled.
    """
    names, record = list[str](), None
    for each in list(inspect.signature(fold).parameters.values())[bound:]:
        if record is None and _takes_record(fold, each):
            record = each.name
        elif each.kind is each.KEYWORD_ONLY and each.default is each.empty:
            raise TypeError(
                f"{_name(fold)} needs {each.name!r}, which no event comes with; a parameter gets the event's record if "
                f"it is annotated with RecordedEvent"
            )
        elif each.kind in (each.KEYWORD_ONLY, each.VAR_KEYWORD):
            continue
        names.append(each.name)
    return FoldParameters(names, record)


def refuse_record(fold: Callable[..., Any], owner: str) -> None:
    """Refuse a fold of new events that asks for their record.

    Raises:
        TypeError: it does.
    """
    record = fold_parameters(fold).record
    if record is not None:
        raise TypeError(
            f"{_name(fold)} asks for the RecordedEvent with {record!r}; {owner} folds its new events before they have "
            f"a record, and must come to the same state from stored ones. Put what it needs into the event"
        )


def _takes_record(fold: Callable[..., Any], parameter: inspect.Parameter) -> bool:
    annotation = _as_text(parameter.annotation)
    if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        return False  # it is given by its name
    if re.match(r"(\w+\.)*RecordedEvent\b", annotation):
        return True
    if parameter.name != "recorded":
        return False
    if parameter.annotation is not parameter.empty and annotation not in ("Any", "typing.Any", "object"):
        raise TypeError(
            f"{_name(fold)} takes recorded: {annotation}; a parameter of that name gets the RecordedEvent. Annotate it "
            f"so, or call it `event`"
        )
    return True


def _name(fold: Callable[..., Any]) -> str:
    return getattr(fold, "__qualname__", repr(fold))


def _as_text(annotation: Any) -> str:
    """Return an annotation as it would be written, whether or not the names in it can be resolved."""
    if isinstance(annotation, str):
        return annotation
    return getattr(annotation, "__qualname__", None) or repr(annotation)
