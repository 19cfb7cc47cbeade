"""What the fields of an event class declare: its tags, and types whose values JSON gives back."""

from __future__ import annotations

import dataclasses
import datetime as dt
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from enum import Enum
from typing import Any, ClassVar, Literal, TypeVar

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
    return [(field, tag.name) for field, hint in declared_fields(cls).items() for tag in _tags(hint)]


def marked_fields(cls: type, mark: str) -> list[str]:
    """Return the fields whose annotation holds a mark of a class of this name.

    Raises:
        InvalidMessageTypeError: a field's type cannot be found.
    """
    return sorted(field for field, hint in declared_fields(cls).items() if _is_marked(hint, mark))


def _is_marked(hint: Any, mark: str) -> bool:
    extras = getattr(hint, "__metadata__", ())
    return any(type(each).__name__ == mark for each in extras) or any(_is_marked(each, mark) for each in parts_of(hint))


def check_record(cls: type) -> None:
    """Refuse a class that is no class of records whose values cannot be changed.

    Raises:
        InvalidMessageTypeError: it is none.
    """
    if not isinstance(cls, type):
        raise InvalidMessageTypeError(f"{cls!r:.60} is none of the classes of which events are stored")
    if issubclass(cls, type):
        raise InvalidMessageTypeError("among the events is a class; append an instance of it")
    is_struct = issubclass(cls, msgspec.Struct)
    if not (is_pydantic(cls) or dataclasses.is_dataclass(cls) or is_struct):
        raise InvalidMessageTypeError(
            f"{cls.__qualname__} is no class of events; one must be a frozen dataclass, a frozen msgspec.Struct or a "
            f"pydantic model"
        )


def refuse_mutable(cls: type, error: type[Exception], where: str = "") -> None:
    """Refuse a class of records whose fields can be changed: what was folded or stored would no longer be what it says.

    Args:
        cls: the class.
        error: what is raised.
        where: what stands in front of the error's text.

    Raises:
        Exception: of the class `error`; the text has the line to write.
    """
    name = cls.__qualname__
    if dataclasses.is_dataclass(cls) and not cls.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise error(f"{where}{name} can be changed; write @dataclass(frozen=True)")
    if issubclass(cls, msgspec.Struct) and not cls.__struct_config__.frozen:
        raise error(f"{where}{name} can be changed; write class {name}(msgspec.Struct, frozen=True)")
    if is_pydantic(cls) and not cls.model_config.get("frozen"):  # type: ignore[attr-defined]
        raise error(f"{where}{name} can be changed; write class {name}(BaseModel, frozen=True)")


def refuse_what_cannot_be_stored(cls: type) -> Sequence[type]:
    """Refuse a class whose fields admit what JSON does not give back; return the classes of records that it is made of.

    Those are datetimes without a time zone, secrets, mappings whose keys are no text, and sets without an order.

    Raises:
        InvalidMessageTypeError: it does, or a field's type cannot be found.
    """
    inspection = _Inspection(is_pydantic(cls))
    inspection.inspect(cls)
    return inspection.seen


class _Inspection:
    """One walk through the types that an event class is made of."""

    def __init__(self, pydantic: bool) -> None:
        self._pydantic = pydantic
        self.seen: list[type] = []

    def inspect(self, cls: type) -> None:
        if cls in self.seen:
            return
        self.seen.append(cls)
        for field, hint in declared_fields(cls).items():
            self._refuse(f"{cls.__qualname__}.{field}", hint)

    def _refuse(self, place: str, hint: Any) -> None:
        if extras := getattr(hint, "__metadata__", ()):
            if not any(self._makes_aware(extra) for extra in extras):
                self._refuse(place, hint.__origin__)
            return
        if hint is dt.datetime or hint is dt.time or _is_naive_in_pydantic(hint):
            raise InvalidMessageTypeError(
                f"{place} is a {hint.__name__}, which admits values without a time zone; "
                f"declare it as twofold.AwareDatetime"
            )
        if _is_secret(hint):
            raise InvalidMessageTypeError(
                f"{place} is a {hint.__name__}, which is stored as asterisks; leave secrets out, or declare str"
            )
        self._refuse_container(place, hint)
        if _has_fields(hint):
            self.inspect(hint)
        for part in parts_of(hint):
            self._refuse(place, part)

    def _refuse_container(self, place: str, hint: Any) -> None:
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if self._pydantic or not arguments or not isinstance(origin, type):
            return
        if issubclass(origin, Mapping) and not _is_text(arguments[0]):
            raise InvalidMessageTypeError(
                f"{place} is a mapping whose keys are no text, as JSON wants them; declare it as dict[str, …], or as "
                f"tuple[tuple[key, value], ...]"
            )
        if issubclass(origin, Set) and not _has_order(arguments[0]):
            raise InvalidMessageTypeError(
                f"{place} is a set of values without an order, so that two tries would store it differently; "
                f"declare it as a tuple"
            )

    def _makes_aware(self, extra: object) -> bool:
        if self._pydantic:  # which ignores msgspec.Meta
            return isinstance(extra, AwareInPydantic) or type(extra).__name__ == "AwareDatetime"
        return isinstance(extra, msgspec.Meta) and extra.tz is True


def _tags(hint: Any) -> Iterator[Tag]:
    """Find tags also within `Annotated[str, Tag("x")] | None` and `tuple[Annotated[str, Tag("x")], ...]`."""
    yield from (extra for extra in getattr(hint, "__metadata__", ()) if isinstance(extra, Tag))
    for part in parts_of(hint):
        yield from _tags(part)


def parts_of(hint: Any) -> Iterable[Any]:
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


def _is_text(hint: Any) -> bool:
    if hasattr(hint, "__metadata__"):
        return _is_text(hint.__origin__)
    if hasattr(hint, "__supertype__"):
        return _is_text(hint.__supertype__)
    if typing.get_origin(hint) is Literal:
        return all(isinstance(each, str) for each in typing.get_args(hint))
    return hint in (Any, object) or isinstance(hint, TypeVar) or (isinstance(hint, type) and issubclass(hint, str))


def _has_order(hint: Any) -> bool:
    if hasattr(hint, "__metadata__"):
        return _has_order(hint.__origin__)
    return not (isinstance(hint, type) and issubclass(hint, Enum) and not issubclass(hint, str | int))


def _is_secret(hint: Any) -> bool:
    return getattr(hint, "__module__", "") == "pydantic.types" and hint.__name__ in (
        "SecretStr",
        "SecretBytes",
        "Secret",
    )


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


def declared_fields(cls: type) -> dict[str, Any]:
    """Return the types of the fields of a class, with what is annotated.

    Raises:
        InvalidMessageTypeError: a field's type cannot be found.
    """
    try:
        hints = typing.get_type_hints(cls, include_extras=True)
    except NameError as error:
        raise InvalidMessageTypeError(
            f"{cls.__qualname__}: {error}; define the field's type at module level, before the class is registered"
        ) from error
    return {field: hint for field, hint in hints.items() if ClassVar not in (hint, typing.get_origin(hint))}
