"""A state is stored only if what comes back is the same in all parts; else the text says which part, and the remedy."""

from __future__ import annotations

import datetime as dt
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum, StrEnum
from functools import cached_property
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pytest

from twofold import Aggregate
from twofold.log.folding.state_form import AttributesForm, UnstorableStateError, ValueForm, returned_type


class Kind(StrEnum):
    OPEN = "open"


class Level(Enum):
    HIGH = 3


class Pair(NamedTuple):
    name: str
    price: Decimal


@dataclass(frozen=True)
class Line:
    price: Decimal
    count: int = 1

    @cached_property
    def total(self) -> Decimal:
        return self.price * self.count


@dataclass
class Box:
    lines: list[Line] = field(default_factory=list)


class Record(msgspec.Struct, frozen=True):
    at: dt.datetime
    kind: Kind = Kind.OPEN


NOW = dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC)
LINE = Line(Decimal("1.50"))
assert LINE.total == Decimal("1.50")  # what is remembered of it follows from its fields

SAME = [
    (int, 2**53), (float, 1e16), (float, -0.0), (Decimal, Decimal("1.00")), (str, "ü\0"), (bytes, b"\0\xff"),
    (bool, True), (UUID, UUID(int=1)), (dt.datetime, NOW), (dt.datetime, NOW.replace(tzinfo=None)),
    (dt.timedelta, dt.timedelta(days=1, microseconds=1)), (Kind, Kind.OPEN), (Level, Level.HIGH), (Line, LINE),
    (Box, Box([LINE, Line(Decimal(2))])), (Record, Record(NOW)), (Pair, Pair("a", Decimal(1))),
    (tuple[int, ...], (1, 2)), (frozenset[str], frozenset("ab")), (set[int], {1, 2}), (Line | None, None),
    (dict[str, Line], {"b": LINE, "a": LINE}), (Mapping[str, int], {"b": 1, "a": 2}),
    (dict[Pair, Line], {Pair("a", Decimal(1)): LINE}), (Counter[str], Counter("abca")),
    (dict[tuple[str, int], list[int]], {("b", 1): [1], ("a", 2): []}), (OrderedDict[str, int], OrderedDict(b=1, a=2)),
    (list[dict[str, Any]], [{"a": [1, None, "x", 1.5, True]}]),
]  # fmt: skip


@pytest.mark.parametrize(("hint", "state"), SAME)
def test_a_state_comes_back_the_same(hint: Any, state: Any) -> None:
    form = ValueForm("evolve", hint)
    back = form.decode(form.encode(state))
    assert back == state
    assert type(back) is type(state)
    assert not isinstance(state, Mapping) or list(back) == list(state)


class Name(str):
    __slots__ = ()


class Open(Box):
    pass


SHARED = [1]
OTHER = [
    (Any, 1, "the type of its state is not known"), (None, 1, "state_type="),
    (float, float("nan"), "could not be read again"),
    (int, True, "could not be read again.*got `bool`"), (str, Name("a"), "type Name is unsupported"),
    (list[int], [1, 2.0], "could not be read again"),
    (list[Any], [Decimal(1)], r"evolve\[0\], a Decimal"), (Box, Open(), "Open"), (list[Any], [(1,)], r"\[0\], a tuple"),
    (dict[str, int], defaultdict(int, a=1), "defaultdict"), (dict[str, int], Counter("a"), "Counter"),
    (dt.datetime, NOW.astimezone(ZoneInfo("Europe/Berlin")), "datetime"), (object, 1, "not known"),
    (list[list[int]], [SHARED, SHARED], "two places"), (dict[str, list[int]], {"a": SHARED, "b": SHARED}, "two places"),
    (list[Box], [Box()] * 2, "two places"), (complex, 1j, "complex"), (dict[str, Any], {"a": {1: 2}}, "keys of"),
]  # fmt: skip


@pytest.mark.parametrize(("hint", "state", "text"), OTHER)
def test_a_state_that_would_come_back_as_another_one_is_refused(hint: Any, state: Any, text: str) -> None:
    with pytest.raises(UnstorableStateError, match=text):
        ValueForm("evolve", hint).encode(state)


def test_a_record_with_more_than_its_fields_is_refused() -> None:
    line = Line(Decimal(1))
    vars(line)["note"] = "x"
    with pytest.raises(UnstorableStateError, match="attributes that are no fields"):
        ValueForm("evolve", Line).encode(line)


class Thing(Aggregate):
    level = Level.HIGH
    note: str | None = None

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.kind = Kind.OPEN
        self.lines: dict[Pair, Line] = {}
        self._seen: set[str] = set()
        self.total = Decimal(0)


def thing_form() -> AttributesForm:
    return AttributesForm(Thing, lambda values: Thing(values["id"]), lambda: Thing("a"), frozenset({"_uncommitted"}))


def test_an_aggregate_comes_back_with_all_of_its_attributes() -> None:
    thing = Thing("a")
    vars(thing).update(version=7, level=Level.HIGH, owner="ann", at=NOW, nothing=None, box=Decimal("1.10"))
    thing.lines[Pair("a", Decimal(1))], thing.total = LINE, Decimal(3)
    thing._seen.update("ab")
    back = thing_form().decode(thing_form().encode(thing))
    assert vars(back) == vars(thing)
    assert type(back) is Thing
    back._seen.add("c")
    assert thing._seen == {"a", "b"}


def test_an_attribute_of_which_the_type_is_not_declared_is_named_with_the_line_to_write() -> None:
    for value, text in (([1], "write `self.extra: list"), (LINE, "write `self.extra: Line = …` in __init__")):
        thing = Thing("a")
        thing.extra = value  # type: ignore[attr-defined]
        with pytest.raises(UnstorableStateError, match="Thing.extra is not declared; " + text):
            thing_form().encode(thing)


def test_an_aggregate_with_slots_is_refused() -> None:
    class Slotted(Aggregate):
        __slots__ = ("lines",)

    with pytest.raises(UnstorableStateError, match="__slots__"):
        AttributesForm(Slotted, lambda values: Slotted("a"), lambda: Slotted("a"), frozenset())


def test_the_type_of_a_state_is_the_one_that_is_declared_or_that_of_the_first_state() -> None:
    def untyped(state, event):  # type: ignore[no-untyped-def]
        return state

    def typed(state: Any, event: Any) -> tuple[int, ...]:
        return ()

    assert returned_type(typed, ()) == tuple[int, ...]
    assert returned_type(untyped, Decimal(0)) is Decimal
    assert returned_type(untyped, LINE) is Line
    assert returned_type(untyped, Kind.OPEN) is Kind
    unclear: Any
    for unclear in (None, (), [], {}):
        assert returned_type(untyped, unclear) is None
