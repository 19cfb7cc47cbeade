"""Projections: code that folds events into the rows of a read model."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, ClassVar, Generic, Literal, TypeVar

from twofold.errors import InvalidProjectionError, RowNotFoundError
from twofold.messages.event import RecordedEvent
from twofold.messages.event_methods import events_of, methods_by_event
from twofold.messages.read_policy import ReadPolicy
from twofold.ports.table import Table
from twofold.projections.rows.row_type import RowType

R = TypeVar("R")

KeyValues = tuple[Any, ...]
OnFailure = Literal["park", "stop"]
Fold = Callable[[Any, Any, RecordedEvent[Any]], Any]


class Projection(Generic[R]):
    """A keyed projection: pure functions from a row and an event to the next row.

    Methods marked with `@on` take `(self, event)` when they make a row, and `(self, row, event)` when they change one;
    both may take the `RecordedEvent` as a further argument named `recorded`. They return the row, or None to delete
    it. A method whose `row` may be None (`row: Totals | None`) also gets the events of keys that have no row yet.

    The framework loads the rows that a batch of events touches, folds the whole batch, and writes the rows back in the
    transaction that moves the checkpoint: each event's effect is in the read model exactly once.
    Rows that this process wrote last are not loaded again, so no other code may write them.
    """

    name: ClassVar[str] = ""
    """The name of the read model, and of its table. Stored: change it with care."""
    version: ClassVar[int] = 1
    """Raised whenever the same events would give other rows: the read model is then built again."""
    max_lag: ClassVar[timedelta | None] = None
    """How far behind the log the read model may be before that is a fault."""
    policy: ClassVar[ReadPolicy | None] = None
    """How long queries that read it wait for it, and what happens then, unless they have a policy of their own."""
    on_failure: ClassVar[OnFailure] = "park"
    """What becomes of an event that fails again and again.

    `park`: it and the later events of its row are set aside, in order, to be retried; other rows go on.
    `stop`: the projection stands still right before it, until its code is mended.
    """
    follows: ClassVar[tuple[str, ...]] = ()
    """Names of projections that this one never overtakes."""

    _rows: ClassVar[RowType[Any] | None] = None
    _folds: ClassVar[dict[type, Fold] | None] = None
    _making: ClassVar[frozenset[type]] = frozenset()
    _keeping: ClassVar[frozenset[type]] = frozenset()

    def handles(self) -> tuple[type, ...]:
        """Return the classes of the events that it takes.

        Raises:
            InvalidProjectionError: a method has other parameters than the class's text allows.
        """
        return tuple(self.folds_by_event())

    def key(self, event: Any) -> Any:
        """Return the key of the row that an event is about; by default the event's fields of the same names.

        A tuple, if the key has several fields.
        """
        return tuple(getattr(event, name) for name in self.row_type().key)

    def apply(self, row: R | None, recorded: RecordedEvent[Any]) -> R | None:
        """Return what becomes of a row by an event.

        Raises:
            RowNotFoundError: the event changes a row that does not exist.
            Exception: whatever the method for the event raises.
        """
        return typing.cast("R | None", self.folds_by_event()[type(recorded.event)](self, row, recorded))

    async def verify(self, rebuilt: Any) -> None:
        """Raise if a rebuilt read model must not serve; `rebuilt` is that `ReadModel`.

        Raises:
            Exception: any; its text becomes the reason.
        """

    def row_type(self) -> RowType[R]:
        """Return what its rows look like.

        Raises:
            InvalidProjectionError: the class does not say so, or not in a way that can be stored.
        """
        cls = type(self)
        if cls.__dict__.get("_rows") is None:
            cls._rows = RowType(_row_class(cls))
        return typing.cast("RowType[R]", cls._rows)

    def makes_row(self, event: type) -> bool:
        """Return whether the method for a class of events makes a row, whatever there was before."""
        if type(self).apply is not Projection.apply:
            return False
        return event in self.folds_by_event() and event in type(self).__dict__["_making"]

    def keeps_row(self, event: type) -> bool:
        """Return whether the method for a class of events says that it returns a row, and never deletes one."""
        self.folds_by_event()
        return event in type(self).__dict__.get("_keeping", ())

    @property
    def key_of(self) -> Callable[[Any], KeyValues]:
        """Return the key that what `apply` returned is of."""
        return self.row_type().key_of

    def table(self) -> Table:
        """Return the table of its read model.

        Raises:
            InvalidProjectionError: the name cannot be the name of a table.
        """
        check_projection_name(self)
        return self.row_type().table(self.name)

    @classmethod
    def folds_by_event(cls) -> Mapping[type, Fold]:
        """Return for each class of events the function that folds one into a row."""
        folds: dict[type, Fold] | None = cls.__dict__.get("_folds")
        if folds is None:
            methods = methods_by_event(cls)
            folds = cls._folds = {event: _fold(method) for event, method in methods.items()}
            cls._keeping = frozenset(event for event, method in methods.items() if _never_deletes(method))
            cls._making = frozenset(event for event, method in methods.items() if len(_arguments(method)) == 1)
        return folds


def check_projection_name(projection: Any) -> None:
    """Refuse a projection whose name cannot be the name of a table.

    Raises:
        InvalidProjectionError: it is none.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", projection.name) or projection.name.startswith("twofold_"):
        raise InvalidProjectionError(
            f'{type(projection).__qualname__} needs a `name` such as "order_views": lower case letters, digits and _, '
            f"at most 40, not beginning with twofold_"
        )


def _fold(method: Callable[..., Any]) -> Fold:
    wants_record, arguments = "recorded" in inspect.signature(method).parameters, _arguments(method)
    if len(arguments) not in (1, 2):
        raise InvalidProjectionError(f"{method.__qualname__} must take (self, event) or (self, row, event)")
    _refuse_swapped(method, arguments)
    if len(arguments) == 1:
        if wants_record:
            return lambda projection, _, recorded: method(projection, recorded.event, recorded=recorded)
        return lambda projection, _, recorded: method(projection, recorded.event)
    if wants_record:

        def change(projection: Any, row: Any, recorded: RecordedEvent[Any]) -> Any:
            return method(projection, row, recorded.event, recorded=recorded)
    else:

        def change(projection: Any, row: Any, recorded: RecordedEvent[Any]) -> Any:
            return method(projection, row, recorded.event)

    if _admits_none(method, arguments[0]):
        return change

    def change_what_exists(projection: Any, row: Any, recorded: RecordedEvent[Any]) -> Any:
        if row is None:
            raise RowNotFoundError(
                f"{method.__qualname__} changes a row that does not exist, at position {recorded.position}; handle "
                f"the event that creates it, or declare `{arguments[0]}: ... | None`"
            )
        return change(projection, row, recorded)

    return change_what_exists


def _refuse_swapped(method: Callable[..., Any], arguments: list[str]) -> None:
    """Refuse the event before the row: both are positional, and would be taken for each other."""
    first = _hint(method, arguments[0])
    events = typing.get_args(first) or (first,)
    takes_event = len(arguments) == 2 and any(each in events_of(method) for each in events)
    if takes_event or (len(arguments) == 2 and arguments[0] == "event"):
        raise InvalidProjectionError(
            f"{method.__qualname__} takes the event first; write (self, row, event), or name the recorded event "
            f"`recorded`"
        )


def _never_deletes(method: Callable[..., Any]) -> bool:
    """Return whether a method is annotated to return a row, so that None is a forgotten `return`."""
    returned = _hint(method, "return")
    return isinstance(returned, type) and returned is not type(None)


def _hint(method: Callable[..., Any], name: str) -> Any:
    try:
        return typing.get_type_hints(method).get(name)
    except (NameError, TypeError):  # names that only type checkers, or the enclosing function, can see
        return None


def _arguments(method: Callable[..., Any]) -> list[str]:
    return [name for name in list(inspect.signature(method).parameters)[1:] if name != "recorded"]


def _admits_none(method: Callable[..., Any], argument: str) -> bool:
    try:
        return type(None) in typing.get_args(typing.get_type_hints(method).get(argument))
    except NameError:  # names that only type checkers, or the enclosing function, can see
        return re.search(r"\bNone\b|\bOptional\b", str(method.__annotations__.get(argument))) is not None


def _row_class(cls: type) -> type:
    for parent in cls.__mro__:
        for base in getattr(parent, "__orig_bases__", ()):
            origin = typing.get_origin(base)
            is_ours = isinstance(origin, type) and issubclass(origin, Projection)
            if is_ours and isinstance(typing.get_args(base)[0], type):
                return typing.cast(type, typing.get_args(base)[0])
    raise InvalidProjectionError(f"{cls.__qualname__} does not name its row type; declare `Projection[YourRow]`")
