"""What the fields of an event class declare: its tags, and datetimes that carry a time zone."""

from __future__ import annotations

import dataclasses
import datetime as dt
import typing
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Literal

import msgspec

from twofold.errors import InvalidMessageTypeError
from twofold.messages.event import AwareInPydantic, Tag

NAIVE_IN_PYDANTIC = ("NaiveDatetime", "PastDatetime", "FutureDatetime")


def is_pydantic(cls: type) -> bool:
    """Return whether a class is a pydantic model; pydantic itself is not needed to ask."""
    return hasattr(cls, "model_validate_json")


def tagged_fields(cls: type) -> list[tuple[str, str]]:
    """Return the fields that are tags, each with the name of its tag.

    Raises:
        InvalidMessageTypeError: a field's type cannot be found.
    """
    return [(field, tag.name) for field, hint in _hints(cls).items() for tag in _tags(hint)]


def refuse_naive_datetimes(cls: type) -> None:
    """Refuse a class that admits datetimes without a time zone, in its own fields or in what they hold.

    Raises:
        InvalidMessageTypeError: it does, or a field's type cannot be found.
    """
    _Inspection(is_pydantic(cls)).inspect(cls)


class _Inspection:
    """One walk through the types that an event class is made of."""

    def __init__(self, pydantic: bool) -> None:
        self._pydantic = pydantic
        self._seen: set[type] = set()

    def inspect(self, cls: type) -> None:
        if cls in self._seen:
            return
        self._seen.add(cls)
        for field, hint in _hints(cls).items():
            self._refuse_naive(f"{cls.__qualname__}.{field}", hint)

    def _refuse_naive(self, place: str, hint: Any) -> None:
        if extras := getattr(hint, "__metadata__", ()):
            if not any(self._makes_aware(extra) for extra in extras):
                self._refuse_naive(place, hint.__origin__)
            return
        if hint is dt.datetime or hint is dt.time or _is_naive_in_pydantic(hint):
            raise InvalidMessageTypeError(
                f"{place} is a {hint.__name__}, which admits values without a time zone; "
                f"declare it as twofold.AwareDatetime"
            )
        if _has_fields(hint):
            self.inspect(hint)
        for part in _parts(hint):
            self._refuse_naive(place, part)

    def _makes_aware(self, extra: object) -> bool:
        if self._pydantic:  # which ignores msgspec.Meta
            return isinstance(extra, AwareInPydantic) or type(extra).__name__ == "AwareDatetime"
        return isinstance(extra, msgspec.Meta) and extra.tz is True


def _tags(hint: Any) -> Iterator[Tag]:
    """Find tags also within `Annotated[str, Tag("x")] | None` and `tuple[Annotated[str, Tag("x")], ...]`."""
    yield from (extra for extra in getattr(hint, "__metadata__", ()) if isinstance(extra, Tag))
    for part in _parts(hint):
        yield from _tags(part)


def _parts(hint: Any) -> Iterable[Any]:
    """Return what a hint is made of: the members of a union, the items of a container, what a name stands for."""
    for wrapped in ("__supertype__", "__value__"):  # NewType, `type X = ...`
        if hasattr(hint, wrapped):
            return (getattr(hint, wrapped),)
    if hasattr(hint, "__metadata__"):
        return (hint.__origin__,)
    origin = typing.get_origin(hint)
    if origin is None or origin is Literal:
        return ()
    return (origin, *typing.get_args(hint)) if _has_fields(origin) else typing.get_args(hint)


def _is_naive_in_pydantic(hint: Any) -> bool:
    return getattr(hint, "__module__", "") == "pydantic.types" and hint.__name__ in NAIVE_IN_PYDANTIC


def _has_fields(hint: Any) -> bool:
    return isinstance(hint, type) and (
        dataclasses.is_dataclass(hint)
        or issubclass(hint, msgspec.Struct)
        or typing.is_typeddict(hint)
        or any(hasattr(hint, mark) for mark in ("model_fields", "__attrs_attrs__"))
        or (issubclass(hint, tuple) and hasattr(hint, "_fields"))
    )


def _hints(cls: type) -> dict[str, Any]:
    try:
        hints = typing.get_type_hints(cls, include_extras=True)
    except NameError as error:
        raise InvalidMessageTypeError(
            f"{cls.__qualname__}: {error}; define the field's type at module level, before the class is registered"
        ) from error
    return {field: hint for field, hint in hints.items() if ClassVar not in (hint, typing.get_origin(hint))}
