"""Projections: code that folds events into the rows of a read model."""

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

from twofold.errors import InvalidProjectionError, RowNotFoundError
from twofold.messages.event import RecordedEvent
from twofold.messages.event_methods import events_of, fields_of, fold_parameters, methods_by_event
from twofold.messages.read_policy import ReadPolicy
from twofold.ports.table import Table
from twofold.projections.rows.owned_rows import OwnedRows
from twofold.projections.rows.row_type import RowType

R = TypeVar("R")

T = TypeVar("T")

KeyValues = tuple[Any, ...]
OnFailure = Literal["park", "stop"]
Fold = Callable[[Any, Any, RecordedEvent[Any]], Any]


class Projection(Generic[R]):
    """A keyed projection: pure functions from a row and an event to the next row.

    Methods marked with `@on` take `(self, event)` when they make a row, and `(self, row, event)` when they change one;
    a parameter that is annotated with `RecordedEvent`, or named `recorded`, gets the event with its record; it stands
    behind the event, or instead of it. They return the row, or None to delete it. A method whose `row` may be None
    (`row: Totals | None`) also gets the events of keys that have no row yet.

    The framework loads the rows that a batch of events touches, folds the whole batch, and writes the rows back in the
    transaction that moves the checkpoint: each event's effect is in the read model exactly once.

    An event may be about several rows. `key` returns a list of their keys, or the method is marked with
    `@on(GuestRenamed, where="guest_id")`: it then changes each row that has the event's `guest_id` in its own field
    `guest_id`, as the rows are right before the event. Each row takes the event for itself: where it fails for one row,
    that one's events are parked, and the others go on.
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

    `park`: it and the later events of its row are parked, in order, to be retried; other rows go on.
    `stop`: the projection stands still right before it, until its code is mended.
    """
    follows: ClassVar[tuple[str, ...]] = ()
    """Names of projections that this one never overtakes."""
    reads: ClassVar[tuple[type[Projection[Any]], ...]] = ()
    """Projections whose rows its methods `read`. It keeps its own copies of these rows, in step with its own."""

    _reads_row: Callable[[type[Projection[Any]], KeyValues], Any] | None = None
    """Finds a row for `read`, while events are folded."""
    _of_tenants = False
    """Whether rows say whose they are: the application that it was added to has tenants."""
    _rows: ClassVar[RowType[Any] | None] = None
    _folds: ClassVar[dict[type, Fold] | None] = None
    _making: ClassVar[frozenset[type]] = frozenset()
    _keeping: ClassVar[frozenset[type]] = frozenset()
    _finding: ClassVar[Mapping[type, Mapping[str, str]]] = {}

    def handles(self) -> tuple[type, ...]:
        """Return the classes of the events that it takes, and of those that the projections take which it reads.

        Raises:
            InvalidProjectionError: a method has other parameters than the class's text allows.
        """
        if not self.reads:
            return tuple(self.folds_by_event())
        return tuple(dict.fromkeys(event for cls in (*self.reads, type(self)) for event in cls.folds_by_event()))

    def key(self, event: Any) -> Any:
        """Return the key of the row that an event is about; by default the event's fields of the same names.

        A tuple, if the key has several fields. A list, set or frozenset of keys, if the event is about several rows or
        none. It is not called for events that find their rows by `where`.
        """
        return tuple(getattr(event, name) for name in self.row_type().key)

    def apply(self, row: R | None, recorded: RecordedEvent[Any]) -> R | None:
        """Return what becomes of a row by an event.

        Raises:
            RowNotFoundError: the event changes a row that does not exist.
            Exception: whatever the method for the event raises.
        """
        return typing.cast("R | None", self.folds_by_event()[type(recorded.event)](self, row, recorded))

    def read(self, projection: type[Projection[T]], *key: Any) -> T | None:
        """Return the row with a key of a projection that is named in `reads`; for use in methods marked with `@on`.

        The row is as the events up to the one at hand have left it, that one included; None if there is none.

        Raises:
            InvalidProjectionError: `reads` does not name it, or no event is being folded.
            ValueError: there are more or fewer values than the key has fields.
        """
        if self._reads_row is None:
            raise InvalidProjectionError(
                f"{self.name}: read() returns rows only while events are folded, and of projections that `reads` "
                f"names; write reads = ({projection.__name__},), and call it in a method marked with @on"
            )
        return typing.cast("T | None", self._reads_row(projection, key))

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

    def stored_rows(self) -> RowType[Any] | OwnedRows:
        """Return what its rows look like within the framework: in an application with tenants, they say whose they are.

        Raises:
            InvalidProjectionError: as `row_type`.
        """
        return OwnedRows(self.row_type()) if self._of_tenants else self.row_type()

    def makes_row(self, event: type) -> bool:
        """Return whether the method for a class of events makes a row, whatever there was before."""
        if type(self).apply is not Projection.apply:
            return False
        return event in self.folds_by_event() and event in type(self).__dict__["_making"]

    def keeps_row(self, event: type) -> bool:
        """Return whether the method for a class of events says that it returns a row, and never deletes one."""
        self.folds_by_event()
        return event in type(self).__dict__.get("_keeping", ())

    def finds_rows(self) -> Mapping[type, Mapping[str, str]]:
        """Return for the classes of events that find their rows: which fields of the rows equal which of the event."""
        if type(self).apply is not self._own_apply():
            return {}
        self.folds_by_event()
        found: Mapping[type, Mapping[str, str]] = type(self).__dict__["_finding"]
        return found

    def events_key(self, key: KeyValues) -> KeyValues:
        """Return the key of the events that the row with this key is made of; empty: it depends on all events."""
        return () if self.reads else key

    def rows_in(self, folded: Any) -> Sequence[R]:
        """Return the rows in what `apply` returns."""
        return () if folded is None else (folded,)

    @classmethod
    def _own_apply(cls) -> Any:
        return Projection.apply

    @property
    def key_of(self) -> Callable[[Any], KeyValues]:
        """The function from what `apply` returns to the key of that."""
        return self.stored_rows().key_of

    def table(self) -> Table:
        """Return the table of its read model.

        Raises:
            InvalidProjectionError: the name cannot be the name of a table.
        """
        check_projection_name(self)
        return self.stored_rows().table(self.name)

    @classmethod
    def folds_by_event(cls) -> Mapping[type, Fold]:
        """Return for each class of events the function that folds one into a row."""
        folds: dict[type, Fold] | None = cls.__dict__.get("_folds")
        if folds is None:
            methods = methods_by_event(cls)
            taken = {event: _signature(method) for event, method in methods.items()}
            cls._finding = {event: fields for event, method in methods.items() if (fields := fields_of(method))}
            folds = cls._folds = {event: _fold(method, taken[event]) for event, method in methods.items()}
            keeping = frozenset(event for event, method in methods.items() if _never_deletes(method))
            cls._keeping = keeping.difference(cls._finding)  # a row that does not fit the event may be none
            cls._making = frozenset(event for event, signature in taken.items() if signature.row is None)
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


class _Signature(NamedTuple):
    """What a method for an event takes."""

    row: str | None
    """The name of the row; None if the method makes one."""
    takes_event: bool
    record: str | None
    """The name of the parameter that gets the record, behind the event or instead of it."""


def _signature(method: Callable[..., Any]) -> _Signature:
    """Return what a method for an event takes.

    Raises:
        InvalidProjectionError: something else than `Projection` says.
    """
    try:
        parameters = fold_parameters(method, bound=True)
    except TypeError as error:
        raise InvalidProjectionError(str(error)) from error
    record, others = parameters.record, parameters.others
    if record and len(others) == 1 and not _is_event(method, others[0]) and parameters.names[1] == record:
        return _Signature(others[0], takes_event=False, record=record)
    if len(others) == 2 and _is_event(method, others[0]):
        raise InvalidProjectionError(
            f"{method.__qualname__} takes the event first; write (self, row, event), or annotate the parameter that "
            f"gets the event's record with RecordedEvent"
        )
    if len(others) > 2 or not parameters.names or record in parameters.names[:-1]:
        raise InvalidProjectionError(
            f"{method.__qualname__} must take (self, event) or (self, row, event), and maybe a last parameter that is "
            f"annotated with RecordedEvent; it takes (self, {parameters.text})"
        )
    return _Signature(others[0] if len(others) == 2 else None, bool(others), record)


def _fold(method: Callable[..., Any], signature: _Signature) -> Fold:
    """Return a method as a function of the projection, the row and the recorded event."""
    row_name, takes_event, record = signature
    fold = _called(method, takes_row=row_name is not None, takes_event=takes_event, record=record)
    if fields := fields_of(method):
        return _fold_of_fitting_rows(method, signature, fold, fields)
    if row_name is None or _admits_none(method, row_name):
        return fold

    def change_what_exists(projection: Any, row: Any, recorded: RecordedEvent[Any]) -> Any:
        if row is None:
            raise RowNotFoundError(
                f"{method.__qualname__} changes a row that does not exist, at position {recorded.position}; handle "
                f"the event that creates it, or declare `{row_name}: ... | None`"
            )
        return fold(projection, row, recorded)

    return change_what_exists


def _fold_of_fitting_rows(
    method: Callable[..., Any], signature: _Signature, fold: Fold, fields: Mapping[str, str]
) -> Fold:
    """Return a fold that leaves a row as it stands which does not fit the event."""
    if signature.row is None:
        raise InvalidProjectionError(
            f"{method.__qualname__} changes the rows that `where` finds; take (self, row, event)"
        )
    never_deletes = _never_deletes(method)

    def change_what_fits(projection: Any, row: Any, recorded: RecordedEvent[Any]) -> Any:
        wanted = [(name, getattr(recorded.event, field)) for name, field in fields.items()]
        if not any(all(getattr(each, name) == value for name, value in wanted) for each in projection.rows_in(row)):
            return row
        changed = fold(projection, row, recorded)
        if changed is None and never_deletes:
            raise nothing_returned(projection, type(recorded.event))
        return changed

    return change_what_fits


def nothing_returned(projection: Any, event: type) -> InvalidProjectionError:
    """Return what is raised about a method that forgot to return the row."""
    return InvalidProjectionError(
        f"{projection.name}: the method for {event.__name__} says that it returns a row, and returned None, which "
        f"deletes it; add the missing `return`, or declare `-> … | None`"
    )


def _called(method: Callable[..., Any], *, takes_row: bool, takes_event: bool, record: str | None) -> Fold:
    match takes_row, takes_event, record:
        case True, True, None:
            return lambda projection, row, recorded: method(projection, row, recorded.event)
        case False, True, None:
            return lambda projection, _, recorded: method(projection, recorded.event)
        case True, True, str(name):
            return lambda projection, row, recorded: method(projection, row, recorded.event, **{name: recorded})
        case False, True, str(name):
            return lambda projection, _, recorded: method(projection, recorded.event, **{name: recorded})
        case True, False, _:
            return method
    return lambda projection, _, recorded: method(projection, recorded)


def _is_event(method: Callable[..., Any], argument: str) -> bool:
    """Return whether a parameter gets the event: by its annotation, or else by its name."""
    annotated = _hint(method, argument)
    events = typing.get_args(annotated) or (annotated,)
    return argument == "event" or any(each in events_of(method) for each in events)


def _never_deletes(method: Callable[..., Any]) -> bool:
    """Return whether a method is annotated to return a row, so that None is a forgotten `return`."""
    returned = _hint(method, "return")
    return isinstance(returned, type) and returned is not type(None)


def _hint(method: Callable[..., Any], name: str) -> Any:
    try:
        return typing.get_type_hints(method).get(name)
    except (NameError, TypeError):  # names that only type checkers, or the enclosing function, can see
        return None


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
