"""Fingerprints of folds: whether a stored state is what the code that runs today would fold.

A fingerprint covers:

1. the compiled code of the functions that fold, with defaults and with what they close over;
2. the functions, classes and constants that this code names, in the modules and packages of the fold, its state and its
   events, and what those name in turn; of the class of a method, all attributes that the code names;
3. the type of the state, with the fields and the code of the classes in it;
4. the classes of the events: stored names, schema versions, upcasters, fields and code.

It does not cover what is only found while the code runs (`getattr` with a computed name, an object that a module makes
when it is imported), nor code of other packages, such as libraries. It is taken of the compiled code and not of files,
which may be newer than what runs. Another version of Python compiles otherwise, and folds once more.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import inspect
import re
import sys
import typing
from collections.abc import Callable, Hashable, Iterable, Mapping
from decimal import Decimal
from enum import Enum
from hashlib import blake2b
from types import CodeType, FunctionType, GenericAlias, MethodType, ModuleType, UnionType
from typing import Any
from uuid import UUID

from twofold.log.codec.fidelity import field_names
from twofold.log.folding.state_form import UnstorableStateError
from twofold.messages.event import EventType, event_type_of
from twofold.messages.upcasting import RetiredType

FORM = 1
"""Of snapshots themselves: another one makes all that are stored useless. stored: in every fingerprint."""

_FOREIGN = {*sys.stdlib_module_names, "twofold", ""}
"""Packages through which no walk goes: their code is not the application's."""
_PLAIN = (str, bytes, int, float, complex, Decimal, UUID, dt.date, dt.time, dt.timedelta, type(None), type(Ellipsis))
_GENERIC = (GenericAlias, UnionType, type(typing.List[int]), type(typing.Optional[int]))  # noqa: UP006, UP045
_NO_CODE = {"__doc__", "__module__", "__dict__", "__weakref__", "__qualname__", "__firstlineno__", "__annotations__"}


def fold_fingerprint(roots: Iterable[Any], types: Mapping[str, Any], events: Iterable[type]) -> bytes:
    """Return the fingerprint of a fold.

    Args:
        roots: what folds: functions, or the methods of a class as `(class, names)`.
        types: of the state, by the places where they stand.
        events: the classes of the events that are folded.

    Raises:
        UnstorableStateError: a function closes over something whose value has no fingerprint.
    """
    roots, events = tuple(roots), tuple(events)
    walk = _Walk()
    for each in (*map(_owner, roots), *types.values(), *events):
        walk.include(each)
    for root in roots:
        walk.add_root(root)
    for place, hint in types.items():
        walk.add(place)
        walk.hint(hint)
    for event in events:
        walk.event(event)
    return walk.digest()


def identity_of(value: Any) -> Hashable:
    """Return what tells one fold from another in this process, without a walk through their code.

    Functions that were made by the same lines are the same if they close over equal values; of what can be changed,
    such as a dict, that is what it holds now. What cannot be compared is known by its own identity.
    """
    if isinstance(value, FunctionType):
        parts = [*_cells(value), *(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).items()]
        return (value.__code__, *(identity_of(each) for each in parts if each is not value))
    if isinstance(value, list | tuple):
        return (type(value), *map(identity_of, value))
    if isinstance(value, dict):
        return (type(value), *(identity_of(part) for pair in value.items() for part in pair))
    if isinstance(value, set | frozenset):
        return type(value), frozenset(map(identity_of, value))
    if isinstance(value, MethodType):
        return value.__func__, identity_of(value.__self__)
    if not isinstance(value, type) and (names := field_names(type(value))) is not None:
        return (type(value), *(identity_of(getattr(value, each)) for each in names))
    if isinstance(value, float | Decimal):
        return type(value), repr(value)  # 1.0 and 1.00 are equal, and do not lead to the same states
    try:
        hash(value)
    except TypeError:
        return _Same(value)
    return type(value), value


class _Same:
    """Equals only what holds the same object."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


class _Walk:
    """A walk through code; whatever it meets goes into the digest, each thing once."""

    def __init__(self) -> None:
        self._packages: set[str] = set()
        self._seen: dict[int, Any] = {}
        self._hash = blake2b(digest_size=16)
        self.add(FORM)

    def digest(self) -> bytes:
        return self._hash.digest()

    def add(self, part: object) -> None:
        self._hash.update(repr(part).encode("utf-8", "surrogatepass") + b"\0")

    def include(self, thing: Any) -> None:
        """Let the walk go through the package of a function or a class, or of those that a type is made of."""
        for part in typing.get_args(thing):
            self.include(part)
        if (package := _package(thing)) not in _FOREIGN:
            self._packages.add(package)

    def is_own(self, thing: Any) -> bool:
        """Return whether a thing is of the packages through which the walk goes."""
        return _package(thing) in self._packages

    def add_root(self, root: Any) -> None:
        if isinstance(root, tuple):
            cls, names = root
            self._members(cls, names)
        else:
            self.value(root, strictly=True)

    def event(self, cls: type) -> None:
        self._steps(event_type_of(cls), set())
        self.hint(cls)

    def _steps(self, stored: EventType | RetiredType, seen: set[str]) -> None:
        """Add how stored payloads become events, also those of the types that events are made of."""
        seen.add(stored.name)
        self.add((stored.name, stored.version, stored.aliases))
        for version, upcaster in sorted(stored.upcasters.items()):
            self.add(version)
            self.value(upcaster, strictly=True)
        for source in stored.made_of if isinstance(stored, EventType) else ():
            declared = source if isinstance(source, RetiredType) else event_type_of(source)
            if declared.name not in seen:
                self._steps(declared, seen)

    def hint(self, hint: Any) -> None:
        """Add a type, and the classes of the fold's own packages in it."""
        self.add(_name(hint))
        for part in typing.get_args(hint):
            self.hint(part) if not isinstance(part, _PLAIN) else self.add(part)
        origin = typing.get_origin(hint) or hint
        if isinstance(origin, type):
            self._class(origin)

    def value(self, value: Any, *, strictly: bool) -> None:
        """Add a value: what it is, and what code is in it.

        Args:
            value: which.
            strictly: whether it may be refused; otherwise, what has no text counts by its type.

        Raises:
            UnstorableStateError: it is no value that always has the same text.
        """
        add = _ADDERS.get(type(value)) or next((add for kind, add in _ADDERS.items() if isinstance(value, kind)), None)
        if add is not None:
            add(self, value, strictly)
        elif field_names(type(value)) is not None:
            self.add(_name(type(value)))
            self._class(type(value))
            self._all((getattr(value, each) for each in field_names(type(value)) or ()), strictly)
        elif strictly:
            raise UnstorableStateError(
                f"the code that folds closes over {value!r:.60}, of which nothing tells whether it is the same in "
                f"another process; give it values, such as texts and numbers"
            )
        else:
            self.add(_name(type(value)))

    def _all(self, values: Iterable[Any], strictly: bool) -> None:
        self.add("(")
        for each in values:
            self.value(each, strictly=strictly)
        self.add(")")

    def _function(self, function: FunctionType) -> None:
        cells = _cells(function)
        if self._is_known(function.__code__) and not cells:
            return
        self._code(function.__code__, function.__doc__)
        self._all(function.__defaults__ or (), strictly=True)
        self._all((function.__kwdefaults__ or {}).values(), strictly=True)
        self._all([each for each in cells if each is not function], strictly=True)
        for name in _names(function.__code__):
            if name in function.__globals__:
                self.add(name)
                self._global(function.__globals__[name], function.__code__)

    def _global(self, value: Any, code: CodeType) -> None:
        if not isinstance(value, ModuleType):
            self.value(value, strictly=False)
        elif self.is_own(value):
            for name in _names(code):
                if name in vars(value):
                    self.add(name)
                    self.value(vars(value)[name], strictly=False)

    def _code(self, code: CodeType, doc: str | None) -> None:
        self.add((code.co_code, code.co_names, code.co_varnames[: code.co_argcount], code.co_exceptiontable))
        for const in code.co_consts:
            if isinstance(const, CodeType):
                self._code(const, None)
            elif doc is None or const != doc:
                self.value(const, strictly=False)

    def _class(self, cls: type) -> None:
        """Add a class of the fold's own packages: its fields, functions and constants."""
        if not self.is_own(cls) or self._is_known(cls):
            return
        for each in reversed(cls.__mro__):
            if self.is_own(each):
                self.add(_name(each))
                self._annotations(each)
                self._defaults(each)
                for name in sorted(vars(each).keys() - _NO_CODE):
                    self._member(each, name)

    def _annotations(self, cls: type) -> None:
        try:
            hints = typing.get_type_hints(cls)
        except Exception:  # a name that only type checkers can see
            hints = {}
        for name, declared in vars(cls).get("__annotations__", {}).items():
            self.add((name, declared if isinstance(declared, str) else _name(declared)))
            if name in hints:
                self.hint(hints[name])

    def _defaults(self, cls: type) -> None:
        """Add what fields are when nothing is given for them; stored payloads may lack new ones."""
        if dataclasses.is_dataclass(cls):
            given = [each for field in dataclasses.fields(cls) for each in (field.default, field.default_factory)]
            self._all((each for each in given if each is not dataclasses.MISSING), strictly=False)
        self._all(getattr(cls, "__struct_defaults__", ()), strictly=False)

    def _members(self, cls: type, names: Iterable[str]) -> None:
        """Add members of a class by their names, and those that their code names."""
        waiting, done = list(names), set[str]()
        while waiting:
            name = waiting.pop(0)
            owners = [each for each in cls.__mro__ if name in vars(each) and self.is_own(each)]
            if name in done or not owners:
                continue
            done.add(name)
            for owner in owners:
                self._member(owner, name)
                for function in _functions(vars(owner)[name]):
                    waiting += _names(function.__code__)

    def _member(self, owner: type, name: str) -> None:
        value = vars(owner)[name]
        if name.startswith("__") and not _functions(value):
            return  # such as what msgspec remembers of a class, once it has met it
        self.add(name)
        if functions := _functions(value):
            for function in functions:
                if self.is_own(function) and function.__code__.co_filename != "<string>":  # made of the fields
                    self._function(function)
        else:
            self.value(value, strictly=False)

    def _is_known(self, thing: Any) -> bool:
        """Return whether a thing was met before; it is kept, so that no other one gets its id."""
        if id(thing) in self._seen:
            return True
        self._seen[id(thing)] = thing
        return False


def _add_plain(walk: _Walk, value: Any, strictly: bool) -> None:
    walk.add((type(value).__qualname__, repr(value)))


def _add_enum(walk: _Walk, value: Any, strictly: bool) -> None:
    walk.add((_name(type(value)), value.name))
    walk.value(value.value, strictly=False)


def _add_mapping(walk: _Walk, value: Any, strictly: bool) -> None:
    walk.add(_name(type(value)))
    walk._all((part for pair in value.items() for part in pair), strictly)


def _add_sequence(walk: _Walk, value: Any, strictly: bool) -> None:
    walk.add(_name(type(value)))
    walk._all(value, strictly)


def _add_set(walk: _Walk, value: Any, strictly: bool) -> None:
    walk.add(_name(type(value)))
    walk._all(sorted(value, key=repr), strictly)


def _add_function(walk: _Walk, value: Any, strictly: bool) -> None:
    if strictly:
        walk.include(value)
    if strictly or walk.is_own(value):
        walk._function(value)
    else:
        walk.add(_name(value))


def _add_partial(walk: _Walk, value: Any, strictly: bool) -> None:
    walk._all((value.func, value.args, value.keywords), strictly)


def _add_method(walk: _Walk, value: Any, strictly: bool) -> None:
    walk._all((value.__func__, value.__self__), strictly)


def _add_class(walk: _Walk, value: Any, strictly: bool) -> None:
    walk.add(_name(value))
    walk._class(value)


def _add_named(walk: _Walk, value: Any, strictly: bool) -> None:
    walk.add(_name(value))


def _add_pattern(walk: _Walk, value: Any, strictly: bool) -> None:
    walk.add((value.pattern, value.flags))


_ADDERS: dict[Any, Callable[[_Walk, Any, bool], None]] = {
    Enum: _add_enum,
    FunctionType: _add_function,
    functools.partial: _add_partial,
    MethodType: _add_method,
    **dict.fromkeys(_GENERIC, _add_named),
    type: _add_class,
    ModuleType: _add_named,
    type(len): _add_named,
    re.Pattern: _add_pattern,
    typing.TypeVar: _add_named,
    Mapping: _add_mapping,
    frozenset: _add_set,
    set: _add_set,
    tuple: _add_sequence,
    list: _add_sequence,
    **dict.fromkeys(_PLAIN, _add_plain),
}
"""How a value of a kind goes into the digest; the first kind that a value is of counts."""


def _functions(value: Any) -> list[FunctionType]:
    """Return the functions behind an attribute of a class."""
    if isinstance(value, property):
        found = [value.fget, value.fset]
    else:
        found = [getattr(value, "__func__", getattr(value, "func", value))]
    return [each for each in map(_unwrapped, found) if isinstance(each, FunctionType)]


def _unwrapped(value: Any) -> Any:
    return inspect.unwrap(value) if callable(value) and hasattr(value, "__wrapped__") else value


def _names(code: CodeType) -> list[str]:
    """Return the names that code uses, also in the functions within it."""
    inner = [each for each in code.co_consts if isinstance(each, CodeType)]
    return sorted({*code.co_names, *(name for each in inner for name in _names(each))})


def _cells(function: FunctionType) -> list[Any]:
    """Return what a function closes over."""
    return [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - it raises
    except ValueError:
        return False
    return True


def _owner(root: Any) -> Any:
    return root[0] if isinstance(root, tuple) else root


def _package(thing: Any) -> str:
    """Return the outermost package in which a thing is defined."""
    module = thing.__name__ if isinstance(thing, ModuleType) else getattr(thing, "__module__", None)
    return str(module or "").partition(".")[0]


def _name(thing: Any) -> str:
    if isinstance(thing, _GENERIC):
        return repr(thing)
    text = getattr(thing, "__qualname__", None) or re.sub(r" at 0x[0-9a-f]+", "", repr(thing))
    return f"{getattr(thing, '__module__', '')}.{text}"
