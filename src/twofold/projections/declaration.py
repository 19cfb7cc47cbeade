"""Declarations that cannot work are refused when a projection is added, with the line to write."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any

from twofold.arguments import check_choice
from twofold.errors import InvalidProjectionError
from twofold.log.codec.fidelity import field_names
from twofold.messages.event import RawEvent, refuse_base_class
from twofold.messages.event_methods import fold_parameters
from twofold.ports.read_database import Style
from twofold.projections.batch_reaction import BatchReaction
from twofold.projections.projection import OnFailure, Projection
from twofold.projections.reaction import Reaction
from twofold.projections.reading.declared_reads import check_reads
from twofold.projections.rows.row_type import INEXACT
from twofold.projections.sql_projection import SqlProjection


def check_declaration(projection: Any) -> None:
    """Refuse a projection that cannot work as its class declares it.

    Raises:
        InvalidProjectionError: it cannot; the text has the remedy.
    """
    if isinstance(projection, type):
        raise InvalidProjectionError(
            f"the projection {projection.__qualname__} is a class; add an instance: {projection.__name__}()"
        )
    if not isinstance(projection, Projection | SqlProjection | Reaction):
        raise InvalidProjectionError(f"`projection` {projection!r} is no Projection, SqlProjection or Reaction")
    _check_attributes(projection)
    check_reads(projection)
    if isinstance(projection, Projection):
        for each in (*(cls() for cls in projection.reads), projection):
            _check_rows(each)
    else:
        _check_apply(projection)


def check_events(projection: Any) -> None:
    """Refuse what `handles()` returns if no stored event can be of it.

    Raises:
        InvalidProjectionError: it is not several; a class of events is none, or only the base of some; or `RawEvent`,
            which stands for every event, has company, or is handled by a projection whose rows have keys.
    """
    handled = projection.handles()
    if isinstance(handled, type) or not isinstance(handled, Iterable):
        text = getattr(handled, "__name__", repr(handled))
        raise InvalidProjectionError(f"{projection.name}: handles() returns {text}; let it return a tuple: ({text},)")
    handled = tuple(handled)
    if RawEvent in handled:
        if isinstance(projection, Projection) or len(handled) > 1:
            raise InvalidProjectionError(
                f"{projection.name}: RawEvent stands for every event; let handles() of a Reaction or an SqlProjection "
                f"return (RawEvent,), and nothing beside it"
            )
        return
    for event in handled:
        try:
            refuse_base_class(event)
        except TypeError as error:
            raise InvalidProjectionError(f"{projection.name} handles no such event: {error}") from error


def _check_attributes(projection: Any) -> None:
    check_choice(f"{projection.name}: on_failure", projection.on_failure, OnFailure, InvalidProjectionError)
    for name in ("follows", "tables"):
        if isinstance(getattr(projection, name, ()), str):
            raise InvalidProjectionError(f"{projection.name}: write {name} = ({getattr(projection, name)!r},)")
    if not isinstance(projection.max_lag, timedelta | None):
        raise InvalidProjectionError(
            f"{projection.name}: max_lag is {projection.max_lag!r}; write timedelta(seconds={projection.max_lag!r})"
        )
    if type(getattr(projection, "version", 1)) is not int or getattr(projection, "version", 1) < 1:
        raise InvalidProjectionError(f"{projection.name}: version is a whole number from 1")


def _check_apply(projection: Any) -> None:
    """Refuse an `apply` that is, or is not, asynchronous where the one who calls it wants the other."""
    where, apply = f"{type(projection).__qualname__}.apply", inspect.unwrap(type(projection).apply)
    if isinstance(projection, Reaction):
        if not inspect.iscoroutinefunction(apply):
            raise InvalidProjectionError(f"{where} must be asynchronous; write `async def apply(self, event)`")
        if isinstance(projection, BatchReaction):
            _check_batches(projection)
        _check_parameters(where, apply, 1)
        return
    check_choice(f"{projection.name}: connection", projection.connection, Style, InvalidProjectionError)
    if projection.connection == "sqlalchemy" and inspect.iscoroutinefunction(apply):
        raise InvalidProjectionError(
            f"{where} gets SQLAlchemy's Connection; write `def apply(self, event, connection)`"
        )
    _check_parameters(where, apply, 2)


def _check_batches(projection: BatchReaction) -> None:
    if type(projection.batch_size) is not int or projection.batch_size < 1:
        raise InvalidProjectionError(f"{projection.name}: batch_size is a whole number from 1")
    if not isinstance(projection.max_wait, timedelta) or projection.max_wait < timedelta(0):
        raise InvalidProjectionError(
            f"{projection.name}: max_wait is {projection.max_wait!r}; write timedelta(seconds=…), from 0"
        )


def _check_parameters(where: str, apply: Callable[..., Any], count: int) -> None:
    try:
        names, record = fold_parameters(apply, bound=True)
    except TypeError as error:
        raise InvalidProjectionError(str(error)) from error
    by_name = inspect.signature(apply).parameters
    given = [by_name[name] for name in names if name != record or name == names[0]]
    if any(each.kind is each.VAR_POSITIONAL for each in given):
        return
    required = [each for each in given if each.default is each.empty]
    if len(required) > count or len(given) < count or names[0] == "connection" or record in names[1:-1]:
        wanted = "(self, event)" if count == 1 else "(self, event, connection)"
        raise InvalidProjectionError(
            f"{where} must take {wanted}; a parameter that is annotated with RecordedEvent may stand behind, or "
            f"instead of the event"
        )


def _check_rows(projection: Projection[Any]) -> None:
    """Refuse events that lack a field of the key, if no `key` of the projection's own finds it elsewhere."""
    finds = projection.finds_rows()
    for event, fields in finds.items():
        _check_lookup(projection, event, fields)
    if "key" in _own_methods(type(projection)):
        return
    keys = projection.row_type().key[: 1 if type(projection).key is not Projection.key else None]
    handled = projection.folds_by_event() if projection.reads else projection.handles()
    for event in set(handled).difference(finds):
        known = field_names(event)
        lacking = [name for name in keys if known is not None and name not in known and not hasattr(event, name)]
        if lacking:
            raise InvalidProjectionError(
                f"{projection.name}: {event.__name__} has no field {lacking[0]!r}, which is part of the key; write "
                f"`def key(self, event)`, which returns ({', '.join(keys)})"
            )


def _check_lookup(projection: Projection[Any], event: type, fields: Mapping[str, str]) -> None:
    """Refuse `where` with fields that rows or events lack, or by which no engine finds rows."""
    rows, where = projection.row_type(), f"{projection.name}: where= for {event.__name__}"
    columns, known = {column.name: column for column in rows.columns}, field_names(event)
    for name, field in fields.items():
        if name not in columns:
            raise InvalidProjectionError(
                f"{where}: {rows.cls.__name__} has no field {name!r}; its fields are {', '.join(columns)}"
            )
        if columns[name].kind in INEXACT:
            kind = columns[name].kind.name.lower()
            raise InvalidProjectionError(
                f"{where}: {rows.cls.__name__}.{name} is a {kind}, of which equal values can be written in several "
                f"ways; name a field of another type, such as a str or an int"
            )
        if known is not None and field not in known and not hasattr(event, field):
            raise InvalidProjectionError(
                f"{where}: {event.__name__} has no field {field!r}; write where={{{name!r}: …}} with the name of the "
                f"event's field that holds the value"
            )
    if not set(fields).intersection((*rows.indexes, rows.key[0])):
        name = next(iter(fields))
        raise InvalidProjectionError(
            f"{where}: {rows.cls.__name__}.{name} has no index, so that each event would read all rows; mark it: "
            f"`{name}: Annotated[…, Index()]`"
        )


def _own_methods(cls: type) -> Mapping[str, Any]:
    own: dict[str, Any] = {}
    for parent in cls.__mro__:
        if not parent.__module__.startswith("twofold.projections."):
            own |= vars(parent)
    return own
