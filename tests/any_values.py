"""Values of all kinds that events and rows may hold, also those that they may not, and how a reader compares them."""

from __future__ import annotations

import dataclasses
import datetime as dt
import types
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Any, Generic, Literal, TypeVar
from uuid import UUID

import msgspec
import pydantic
from hypothesis import strategies as st

from twofold.messages.event import AwareDatetime, Event

T = TypeVar("T")


class Colour(StrEnum):
    RED = "red"


class Size(Enum):
    LARGE = 3


class Level(IntEnum):
    HIGH = 1


@dataclass(frozen=True)
class Line:
    product: str
    price: Decimal = Decimal(0)


@dataclass(frozen=True)
class GiftLine(Line):
    wish: str = ""


@dataclass(frozen=True, eq=False)
class Incomparable:
    number: float


@dataclass(frozen=True)
class Lax:
    """Is equal to another one whose note differs."""

    number: int
    note: Any = dataclasses.field(default=None, compare=False)


class Place(msgspec.Struct, frozen=True):
    street: str
    weight: float = 0.0


class FarPlace(Place, frozen=True):
    country: str = ""


class Box(pydantic.BaseModel, frozen=True):
    width: float = 0.0


class DeepBox(Box, frozen=True):
    depth: float = 0.0


@dataclass(frozen=True)
class Wrapped(Generic[T]):
    content: T


YEAR_1900 = dt.datetime(1900, 1, 1)  # noqa: DTZ001  # the strategy adds the zone
ODD_ZONE = dt.timezone(dt.timedelta(minutes=19, seconds=32))
moments = st.one_of(
    st.datetimes(YEAR_1900, timezones=st.just(dt.UTC)),
    st.datetimes(YEAR_1900, timezones=st.sampled_from([ODD_ZONE, dt.timezone(dt.timedelta(hours=-5))])),
)
texts = st.text(max_size=5)
decimals = st.one_of(st.decimals(), st.sampled_from([Decimal("1.10"), Decimal("1.1"), Decimal("NaN"), Decimal("sNaN")]))
floats = st.floats()
scalars: dict[Any, st.SearchStrategy[Any]] = {
    str: texts, int: st.integers(), float: floats, bool: st.booleans(), Decimal: decimals, UUID: st.uuids(),
    dt.date: st.dates(), AwareDatetime: moments, bytes: st.binary(max_size=4), dt.timedelta: st.timedeltas(),
    Colour: st.just(Colour.RED), Size: st.just(Size.LARGE), Level: st.just(Level.HIGH),
    Literal["a", "b"]: st.sampled_from("ab"),
    Line: st.one_of(st.builds(Line, texts, decimals), st.builds(GiftLine, texts, decimals, texts)),
    Place: st.one_of(st.builds(Place, texts, floats), st.builds(FarPlace, texts, floats, texts)),
    Box: st.one_of(st.builds(Box, width=floats), st.builds(DeepBox, width=floats, depth=floats)),
    Incomparable: st.builds(Incomparable, floats), Lax: st.builds(Lax, st.integers(), decimals),
    Wrapped[int]: st.builds(Wrapped, st.integers()), Wrapped: st.builds(Wrapped, decimals),
}  # fmt: skip
anything = st.recursive(
    st.one_of(st.none(), *scalars.values()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.one_of(texts, st.integers(), st.uuids(), st.just(Colour.RED)), inner, max_size=2),
    ),
    max_leaves=4,
)


unclear: list[tuple[Any, st.SearchStrategy[Any]]] = [(hint, anything) for hint in (Any, object, list, dict, tuple)]
unclear.append((dict[str, Any], st.dictionaries(texts, anything, max_size=2)))


@st.composite
def fields(draw: st.DrawFn, depth: int = 2) -> tuple[Any, st.SearchStrategy[Any]]:
    """Return a type and a strategy for its values, now and then for those of another type."""
    if not depth or draw(st.booleans()):
        hint, values = draw(st.sampled_from([*scalars.items(), *unclear]))
    else:
        hint, values = draw(containers(depth))
    return hint, draw(st.sampled_from([values, values, values, anything]))


@st.composite
def containers(draw: st.DrawFn, depth: int) -> tuple[Any, st.SearchStrategy[Any]]:
    inner, values = draw(fields(depth - 1))
    hashable = draw(st.sampled_from([str, int, Decimal, UUID, Colour, Size, dt.date]))
    lists, maps = st.lists(values, max_size=3), st.dictionaries(texts, values, max_size=2)
    keyed = st.dictionaries(scalars[hashable], values, max_size=2)
    kinds: list[tuple[Any, st.SearchStrategy[Any]]] = [
        (inner | None if inner is not Any else Any, st.one_of(st.none(), values)),
        (types.GenericAlias(tuple, (inner, ...)), lists.map(tuple)),
        (types.GenericAlias(list, (inner,)), lists),
        (types.GenericAlias(tuple, (inner, str)), st.tuples(values, texts)),
        (types.GenericAlias(dict, (str, inner)), maps),
        (types.GenericAlias(dict, (hashable, inner)), keyed),
        (types.GenericAlias(frozenset, (hashable,)), st.frozensets(scalars[hashable], max_size=3)),
    ]
    chosen: tuple[Any, st.SearchStrategy[Any]] = draw(st.sampled_from(kinds))
    return chosen


def made(kind: str, hints: list[Any]) -> Any:
    names = [f"field_{number}" for number in range(len(hints))]
    if kind == "dataclass":
        return dataclasses.make_dataclass("Happened", list(zip(names, hints, strict=True)), bases=(Event,), frozen=True)
    if kind == "struct":
        return msgspec.defstruct("Happened", list(zip(names, hints, strict=True)), frozen=True)
    config = pydantic.ConfigDict(frozen=True, arbitrary_types_allowed=True)
    required: dict[str, Any] = {name: (hint, ...) for name, hint in zip(names, hints, strict=True)}
    return pydantic.create_model("Happened", __config__=config, **required)


def is_same(sent: Any, back: Any) -> bool:
    """Return whether nothing was lost, as a reader of the test sees it; the product has its own idea."""
    if dataclasses.is_dataclass(sent) or isinstance(sent, msgspec.Struct | pydantic.BaseModel):
        if type(sent) is not type(back):
            return False
        parents: Any = type(sent).__mro__
        names = {name for parent in parents for name in getattr(parent, "__annotations__", ())}
        return all(is_same(getattr(sent, n), getattr(back, n)) for n in names if not n.startswith("__"))
    if isinstance(sent, dict):
        return isinstance(back, dict) and sent.keys() == back.keys() and all(is_same(sent[k], back[k]) for k in sent)
    if isinstance(sent, list | tuple):
        if type(sent) is not type(back) or len(sent) != len(back):
            return False
        return all(is_same(a, b) for a, b in zip(sent, back, strict=True))
    return bool(sent == back)
