"""A row that is accepted comes back equal on every engine, or is refused with the name of its field on every engine."""

from __future__ import annotations

import asyncio
import datetime as dt
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.any_values import Colour, GiftLine, Line, Place, Size, anything, floats, is_same, scalars, texts

from twofold import Key
from twofold.engines.engine import Engine, connect
from twofold.projections.rows.row_type import RowType
from twofold.testing.read_samples import Model

plain: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "text": (str, texts), "number": (int, scalars[int]), "ratio": (float, floats), "flag": (bool, st.booleans()),
    "amount": (Decimal, scalars[Decimal]), "uid": (UUID, st.uuids()), "day": (dt.date, st.dates()),
    "at": (dt.datetime, scalars[dt.timedelta].map(lambda _: dt.datetime.now(dt.UTC))),
    "colour": (Colour, st.just(Colour.RED)), "size": (Size, st.just(Size.LARGE)),
    "mode": (Literal["a", "b"], st.sampled_from("ab")), "line": (Line, scalars[Line]), "place": (Place, scalars[Place]),
    "by_name": (dict[str, float], st.dictionaries(texts, floats, max_size=2)),
    "by_number": (dict[int, Decimal], st.dictionaries(st.integers(), scalars[Decimal], max_size=2)),
    "lines": (tuple[Line, ...], st.lists(scalars[Line], max_size=2).map(tuple)), "extra": (Any, anything),
    "more": (dict[str, Any], st.dictionaries(texts, anything, max_size=2)),
}  # fmt: skip
fields = [(name, hint if hint is Any else hint | None, None) for name, (hint, _) in plain.items()]
Wide = msgspec.defstruct("Wide", [("id", Annotated[str, Key()]), *fields], frozen=True)
WIDE: RowType[Any] = RowType(Wide)
samples = st.one_of(
    *(st.tuples(st.just(name), values) for name, (_, values) in plain.items()),
    st.tuples(st.sampled_from(sorted(plain)), anything),
)


def test_rows_of_all_kinds_come_back_equal_or_are_refused_by_their_field(url: str) -> None:
    loop = asyncio.new_event_loop()
    database = connect(url).read_database
    loop.run_until_complete(database.open())
    model = Model(database, WIDE, "wide")
    loop.run_until_complete(model.prepare())

    async def written(row: Any) -> Any:
        await model.write(row)
        [loaded] = await model.load(("a",))
        return loaded

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(sample=samples)
    def comes_back_or_is_refused(sample: tuple[str, Any]) -> None:
        name, value = sample
        row = Wide(id="a", **{name: value})
        try:
            WIDE.dump(row)
        except (ValueError, TypeError) as error:
            refused = str(error)
        else:
            assert is_same(row, loop.run_until_complete(written(row)))
            return
        assert f"Wide.{name}" in refused

    try:
        comes_back_or_is_refused()
    finally:
        loop.run_until_complete(database.close())
        loop.close()


@pytest.mark.parametrize("value", [1e16, 4.168071352917465e16, 1e300, -0.0, 1e-300, {"b": 1, "a": 2e22}, [1.0, 1]])
async def test_numbers_and_keys_within_any_value_come_back_as_they_were(engine: Engine, value: Any) -> None:
    model = Model(engine.read_database, WIDE, "wide")
    await model.prepare()
    await model.write(Wide(id="a", extra=value, more={"x": value}))
    [loaded] = await model.load(("a",))
    assert repr((loaded.extra, loaded.more)) == repr((value, {"x": value}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ratio", Decimal("1.5")),
        ("ratio", float("nan")),
        ("ratio", 2**60 + 1),
        ("amount", 0.1),
        ("amount", Decimal("NaN")),
        ("amount", Decimal("Infinity")),
        ("number", 2**63),
        ("number", "1"),
        ("day", dt.datetime(2026, 1, 1, tzinfo=dt.UTC)),
        ("at", dt.datetime(2026, 1, 1)),  # noqa: DTZ001
        ("uid", "00000000-0000-0000-0000-000000000001"),
        ("size", 3),
        ("mode", "c"),
        ("by_name", {"x": float("inf")}),
        ("line", GiftLine("tea", Decimal(1), "a bow")),
        ("extra", Decimal(1)),
        ("text", 5),
    ],
)
def test_a_value_that_would_not_come_back_equal_is_refused_before_any_engine_sees_it(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"Wide.{name} is"):
        WIDE.dump(Wide(id="a", **{name: value}))


@pytest.mark.parametrize(("name", "value"), [("ratio", 3), ("amount", 3), ("text", Colour.RED), ("number", True)])
def test_an_equal_value_of_another_type_is_stored_as_the_type_that_is_declared(name: str, value: Any) -> None:
    dumped = WIDE.dump(Wide(id="a", **{name: value}))[list(plain).index(name) + 1]
    assert dumped == value
    assert type(dumped) is plain[name][0]
