"""How the state of a fold is stored: as JSON by its declared type, and only if what comes back is the same.

1. `ValueForm` takes a state that is a value, by one type: a record, a number, a tuple, a mapping.
2. `AttributesForm` takes an object with attributes, such as an aggregate, by the types that its class declares: in the
   body, in `__init__` (`self.lines: dict[str, Line] = {}`), or by the value with which an attribute begins.
3. `encode` decodes what it has encoded and compares, part by part, with the types of all parts and the order of
   mappings. A state in which two places share one object that can be changed is refused: they would be two afterwards.
"""

from __future__ import annotations

import ast
import datetime as dt
import inspect
import textwrap
import typing
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from enum import Enum
from functools import cached_property
from typing import Any, ClassVar, Protocol
from uuid import UUID

import msgspec

from twofold.log.codec.fidelity import field_names

SCALARS: dict[str, type] = {
    each.__name__: each for each in (
        str, int, bool, float, bytes, Decimal, UUID, dt.datetime, dt.date, dt.time, dt.timedelta, type(None),
    )
}  # fmt: skip
"""Types that an attribute may have without a declaration, by the names that are stored with it."""

_encode = msgspec.json.Encoder().encode  # mappings keep their order, which a fold may depend on


class UnstorableStateError(Exception):
    """A state cannot be stored as a snapshot; the text says which part, and the remedy."""


class StateForm(Protocol):
    """How the states of one fold become JSON, and states again."""

    @property
    def types(self) -> Mapping[str, Any]:
        """The types of which its states are made, by the places where they stand."""

    def encode(self, state: Any) -> bytes:
        """Return a state as JSON.

        Raises:
            UnstorableStateError: it would not come back the same.
        """

    def decode(self, encoded: bytes) -> Any:
        """Return a new state.

        Raises:
            Exception: it is no JSON of such a state.
        """

    def difference(self, one: Any, other: Any) -> str | None:
        """Return the first part in which two states differ; None if they are the same to every fold."""


class ValueForm:
    """Stores states that are values of one type.

    Raises:
        UnstorableStateError: no type is declared, or it is none that JSON can be read as.
    """

    def __init__(self, place: str, hint: Any) -> None:
        if hint in (None, Any, object, inspect.Parameter.empty):
            raise UnstorableStateError(
                f"the type of its state is not known; annotate what {place} returns, or give state_type="
            )
        self.types = {place: hint}
        self._place = place
        self._part = _Part(place, hint)

    def encode(self, state: Any) -> bytes:
        encoded = _encoded(self._place, self._part.pack(state))
        _refuse_other(self._place, state, lambda: self.decode(encoded))
        return encoded

    def decode(self, encoded: bytes) -> Any:
        return self._part.decode(encoded)

    def difference(self, one: Any, other: Any) -> str | None:
        return _difference(self._place, one, other)


class AttributesForm:
    """Stores objects by their attributes.

    Args:
        cls: their class.
        make: makes one as it begins, given its values.
        sample: one as it begins.
        left_out: attributes that are no part of the state.

    Raises:
        UnstorableStateError: the class has slots, whose values are not found among the attributes.
    """

    def __init__(
        self, cls: type, make: Callable[[dict[str, Any]], Any], sample: Callable[[], Any], left_out: frozenset[str]
    ) -> None:
        if any(vars(each).get("__slots__") for each in cls.__mro__):
            raise UnstorableStateError(f"{cls.__qualname__} has __slots__; remove them")
        self.types = _declared(cls, sample)
        self._name = cls.__qualname__
        self._make = make
        self._left_out = left_out
        self._parts: dict[str, _Part] = {}

    def encode(self, state: Any) -> bytes:
        values = self._attributes(state)
        types = {name: _scalar(self._name, name, value) for name, value in values.items() if name not in self.types}
        packed = {name: value if name in types else self._part(name).pack(value) for name, value in values.items()}
        encoded = _encoded(self._name, {"types": types, "values": packed})
        _refuse_other(self._name, values, lambda: self._values(encoded))
        return encoded

    def decode(self, encoded: bytes) -> Any:
        values = self._values(encoded)
        state = self._make(values)
        kept = {name: value for name, value in vars(state).items() if name in self._left_out}
        vars(state).clear()
        vars(state).update(kept, **values)
        return state

    def difference(self, one: Any, other: Any) -> str | None:
        return _difference(self._name, self._attributes(one), self._attributes(other))

    def _attributes(self, state: Any) -> dict[str, Any]:
        return {name: value for name, value in sorted(vars(state).items()) if name not in self._left_out}

    def _values(self, encoded: bytes) -> dict[str, Any]:
        stored = msgspec.json.decode(encoded, type=_Attributes)
        return {
            name: msgspec.json.decode(raw, type=SCALARS[stored.types[name]])
            if name in stored.types
            else self._part(name).decode(raw)
            for name, raw in stored.values.items()
        }

    def _part(self, name: str) -> _Part:
        if name not in self._parts:
            self._parts[name] = _Part(f"{self._name}.{name}", self.types[name])
        return self._parts[name]


class _Attributes(msgspec.Struct):
    types: dict[str, str]
    """Of those that are not declared; see `SCALARS`."""
    values: dict[str, msgspec.Raw]


class _Part:
    """A value of one type as msgspec takes it: a mapping whose keys JSON does not have becomes a list of pairs."""

    def __init__(self, place: str, hint: Any) -> None:
        origin, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
        self._make: Callable[[Any], Any] | None = None
        if isinstance(origin, type) and issubclass(origin, Mapping) and arguments and not typing.is_typeddict(origin):
            value = int if issubclass(origin, Counter) else arguments[-1]
            self._make = dict if inspect.isabstract(origin) else origin
            hint = list[tuple[arguments[0], value]]  # type: ignore[valid-type]
        try:
            self.decode_plain = msgspec.json.Decoder(hint).decode
        except (TypeError, NameError) as error:
            raise UnstorableStateError(f"{place} cannot be stored: {error}; declare another type") from error

    def pack(self, value: Any) -> Any:
        return list(value.items()) if self._make is not None and isinstance(value, Mapping) else value

    def decode(self, encoded: bytes | msgspec.Raw) -> Any:
        value = self.decode_plain(encoded)
        return value if self._make is None else self._make(dict(value))


def returned_type(evolve: Callable[..., Any], initial: Any) -> Any:
    """Return the type of the states that a function returns: as it declares it, else that of the first state."""
    try:
        declared = typing.get_type_hints(evolve, include_extras=True).get("return", Any)
    except Exception:  # a name that only type checkers can see, or no function
        declared = Any
    if declared is not Any and not isinstance(declared, typing.TypeVar):
        return declared
    kind = type(initial)
    is_whole = kind in SCALARS.values() and initial is not None
    return kind if is_whole or isinstance(initial, Enum) or field_names(kind) else None


def _encoded(place: str, value: Any) -> bytes:
    try:
        return _encode(value)
    except Exception as error:  # msgspec's, or one of the user's code
        raise UnstorableStateError(f"{place} cannot be stored: {error}") from error


def _scalar(owner: str, name: str, value: Any) -> str:
    """Return the stored name of the type of an attribute that is not declared."""
    kind = type(value)
    if SCALARS.get(kind.__name__) is not kind:
        raise UnstorableStateError(
            f"the type of {owner}.{name} is not declared; write `self.{name}: {kind.__name__}[…] = …` in __init__"
            if not field_names(kind)
            else f"the type of {owner}.{name} is not declared; write `self.{name}: {kind.__name__} = …` in __init__"
        )
    return kind.__name__


def _declared(cls: type, sample: Callable[[], Any]) -> dict[str, Any]:
    """Return the types of attributes as a class declares them, or begins them."""
    try:
        begun = vars(sample())
    except Exception:  # the user's; what it begins with stays unknown then
        begun = {}
    constants = {name: value for each in reversed(cls.__mro__) for name, value in vars(each).items()}
    hints = {
        name: type(value)
        for name, value in (constants | begun).items()
        if isinstance(value, Enum) or (field_names(type(value)) and not isinstance(value, type))
    }
    for each in reversed(cls.__mro__):
        hints |= _annotations_of(each)
        if "__init__" in vars(each) and each is not object:
            hints |= _annotated_in(vars(each)["__init__"])
    return hints


def _annotations_of(cls: type) -> dict[str, Any]:
    own = vars(cls).get("__annotations__", {})
    try:
        hints = typing.get_type_hints(cls, include_extras=True) if own else {}
    except NameError:  # a name that only type checkers can see
        return {}
    return {name: hints[name] for name in own if ClassVar not in (hints[name], typing.get_origin(hints[name]))}


def _annotated_in(function: Any) -> dict[str, Any]:
    """Return what is declared in the body of `__init__`, as in `self.lines: dict[str, Line] = {}`."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return {}
    return dict(_attributes_in(tree, function.__globals__))


def _attributes_in(tree: ast.AST, names: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for node in ast.walk(tree):
        match node:
            case ast.AnnAssign(target=ast.Attribute(value=ast.Name("self"), attr=name), annotation=annotation):
                try:
                    yield name, eval(compile(ast.Expression(annotation), "<annotation>", "eval"), names)  # noqa: S307
                except Exception:  # noqa: S112 - a name that only type checkers can see
                    continue


def _refuse_other(place: str, state: Any, decode: Callable[[], Any]) -> None:
    """Refuse a state that does not come back the same.

    Raises:
        UnstorableStateError: the text names the part.
    """
    try:
        back = decode()
    except Exception as error:  # msgspec's, or one of a constructor of the user's
        raise UnstorableStateError(f"{place} could not be read again: {error}; declare the type that it has") from error
    if found := _difference(place, state, back):
        raise UnstorableStateError(f"{found} would come back as something else; declare the type that it has")
    if found := _shared(place, state, set()):
        raise UnstorableStateError(f"{found} stands in two places of the state, which would be two; hold it in one")


def _difference(place: str, one: Any, other: Any) -> str | None:
    """Return the first part that differs, also in its type; None if none does."""
    if type(one) is not type(other):
        return f"{place}, a {type(one).__qualname__},"
    if (names := field_names(type(one))) is not None:
        if _hidden(one, names):
            return f"{place}, with attributes that are no fields,"
        parts = [(f"{place}.{name}", getattr(one, name), getattr(other, name)) for name in names]
    elif isinstance(one, Mapping):
        if len(one) != len(other):
            return place
        keys = [(f"the keys of {place}", *pair) for pair in zip(one, other, strict=True)]
        parts = keys + [(f"{place}[{key!r:.40}]", value, other.get(key)) for key, value in one.items()]
    elif isinstance(one, list | tuple):
        if len(one) != len(other):
            return place
        parts = [(f"{place}[{n}]", *pair) for n, pair in enumerate(zip(one, other, strict=True))]
    elif isinstance(one, set | frozenset):
        return None if one == other and Counter(map(type, one)) == Counter(map(type, other)) else place
    else:
        return None if _is_same(one, other) else f"{place}, a {type(one).__qualname__},"
    return next((found for part in parts if (found := _difference(*part))), None)


def _is_same(one: Any, other: Any) -> bool:
    """Return whether two values without parts are the same to every fold."""
    if isinstance(one, Enum):
        return one is other
    if isinstance(one, dt.datetime | dt.time):
        return (one, one.tzinfo, one.fold) == (other, other.tzinfo, other.fold)
    if isinstance(one, float | Decimal):
        return repr(one) == repr(other) and one == other
    return type(one) in SCALARS.values() and bool(one == other)


def _hidden(record: Any, names: tuple[str, ...]) -> bool:
    """Return whether a record holds more than its fields; what `cached_property` holds follows from them."""
    others = getattr(record, "__dict__", {}).keys() - set(names)
    return any(not isinstance(getattr(type(record), name, None), cached_property) for name in others)


def _shared(place: str, value: Any, seen: set[int]) -> str | None:
    """Return the first object that can be changed and was seen before."""
    names = field_names(type(value))
    if names is None and not isinstance(value, list | tuple | set | frozenset | Mapping):
        return None
    if names is not None or not isinstance(value, tuple | frozenset):
        if id(value) in seen and not _is_frozen(value):
            return place
        seen.add(id(value))
    if names is not None:
        parts = [(f"{place}.{name}", getattr(value, name)) for name in names]
    elif isinstance(value, Mapping):
        parts = [(f"{place}[{key!r:.40}]", each) for key, each in value.items()]
    else:
        parts = [(f"{place}[…]", each) for each in value]
    return next((found for where, each in parts if (found := _shared(where, each, seen))), None)


def _is_frozen(value: Any) -> bool:
    cls = type(value)
    if isinstance(value, tuple):
        return True
    if params := getattr(cls, "__dataclass_params__", None):
        return bool(params.frozen)
    if isinstance(value, msgspec.Struct):
        return bool(cls.__struct_config__.frozen)
    return bool(getattr(cls, "model_config", {}).get("frozen"))
