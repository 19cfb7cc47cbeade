"""Which rows a filter selects."""
# ruff: noqa: D102  # a test's name is its sentence; asserts are its point

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from twofold.testing.read_samples import Model, Sample

DAYS = [dt.date(2025, 12, 31), dt.date(2026, 1, 1), dt.date(2026, 1, 10)]
TIMES = [dt.datetime(2026, 1, 1, hour, tzinfo=dt.UTC) for hour in (2, 9, 10)]
UUIDS = [UUID(int=number) for number in (1, 2, 3)]
ORDERED: list[tuple[str, list[Any]]] = [
    ("name", ["a", "ab", "b"]),
    ("number", [-10, 9, 10]),
    ("amount", [Decimal("-10.5"), Decimal("9"), Decimal("10.25")]),
    ("ratio", [-1.5, 9.0, 10.0]),
    ("at", TIMES),
    ("day", DAYS),
]


async def write_abcd(samples: Model, field: str, values: list[Any]) -> None:
    """Write rows a, b and c with the values, in a mixed order, and row d with None."""
    rows = [Sample(id=letter, **{field: value}) for letter, value in zip("abc", values, strict=True)]
    await samples.write(rows[2], rows[0], Sample(id="d"), rows[1])


class SelectionPromises:
    """Values are compared as what they are, and None is equal to None only."""

    @pytest.mark.parametrize(("field", "values"), ORDERED)
    @pytest.mark.parametrize(
        ("operator", "expected"),
        [("=", "b"), ("!=", "acd"), ("<", "a"), ("<=", "ab"), (">", "c"), (">=", "bc")],
    )
    async def test_every_operator_compares_by_value(
        self, samples: Model, field: str, values: list[Any], operator: str, expected: str
    ) -> None:
        await write_abcd(samples, field, values)
        assert await samples.ids(where=((field, operator, values[1]),)) == expected

    @pytest.mark.parametrize(("field", "values"), [*ORDERED, ("uuid", UUIDS)])
    async def test_in_takes_a_list(self, samples: Model, field: str, values: list[Any]) -> None:
        await write_abcd(samples, field, values)
        assert await samples.ids(where=((field, "in", (values[2], values[0])),)) == "ac"
        assert await samples.ids(where=((field, "in", (values[0], None)),)) == "ad"
        assert await samples.ids(where=((field, "in", (None,)),)) == "d"
        assert await samples.ids(where=((field, "in", ()),)) == ""

    async def test_in_takes_a_thousand_values(self, samples: Model) -> None:
        await write_abcd(samples, "number", [1, 2, 3])
        assert await samples.ids(where=(("number", "in", tuple(range(2, 1002))),)) == "bc"

    @pytest.mark.parametrize(("field", "values"), [*ORDERED, ("uuid", UUIDS), ("flag", [True, False, True])])
    async def test_none_equals_none_only(self, samples: Model, field: str, values: list[Any]) -> None:
        await write_abcd(samples, field, values)
        assert await samples.ids(where=((field, "=", None),)) == "d"
        assert await samples.ids(where=((field, "!=", None),)) == "abc"

    async def test_truth_values_are_told_apart(self, samples: Model) -> None:
        await write_abcd(samples, "flag", [True, False, True])
        assert await samples.ids(where=(("flag", "=", True),)) == "ac"
        assert await samples.ids(where=(("flag", "!=", True),)) == "bd"

    async def test_decimals_are_equal_by_value_not_by_digits(self, samples: Model) -> None:
        await samples.write(Sample(id="a", amount=Decimal("1.50")))
        for same in ("1.5", "1.500"):
            assert await samples.ids(where=(("amount", "=", Decimal(same)),)) == "a"
            assert await samples.ids(where=(("amount", "in", (Decimal(same),)),)) == "a"
        assert await samples.ids(where=(("amount", ">", Decimal("1.49")), ("amount", "<", Decimal("1.51")))) == "a"

    async def test_moments_are_equal_in_every_time_zone(self, samples: Model) -> None:
        await samples.write(Sample(id="a", at=TIMES[1]))
        tokyo = TIMES[1].astimezone(dt.timezone(dt.timedelta(hours=9)))
        assert await samples.ids(where=(("at", "=", tokyo),)) == "a"
        assert await samples.ids(where=(("at", "<", tokyo),)) == ""

    async def test_all_filters_must_hold(self, samples: Model) -> None:
        await samples.write(*(Sample(id=letter, number=number, name=letter) for number, letter in enumerate("abcd")))
        where = (("number", ">", 0), ("number", "<", 3), ("name", "!=", "b"))
        assert await samples.ids(where=where) == "c"
        assert await samples.total(where=where, limit=1) == 1

    @pytest.mark.parametrize("hostile", ["' OR 1=1 --", '"', "%", "_", "a'b", "\\", "?", "%s", ":x", "$1"])
    async def test_what_a_user_types_is_never_syntax(self, samples: Model, hostile: str) -> None:
        await samples.write(Sample(id="a", name="a"), Sample(id="b", name=hostile))
        assert await samples.ids(where=(("name", "=", hostile),)) == "b"
        assert await samples.ids(where=(("name", "in", (hostile,)),)) == "b"

    async def test_text_is_compared_by_its_exact_letters(self, samples: Model) -> None:
        await samples.write(Sample(id="a", name="Ann"), Sample(id="b", name="ann"), Sample(id="c", name="ann "))
        assert await samples.ids(where=(("name", "=", "ann"),)) == "b"
