"""Values come back as they were, whatever they are."""
# ruff: noqa: D102  # a test's name is its sentence; asserts are its point

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import pytest

from twofold.ports.read_database import ReadDatabase
from twofold.projections.rows.row_type import Key, RowType
from twofold.testing.read_samples import Model, Sample

TOKYO = dt.timezone(dt.timedelta(hours=9))
VALUES: list[tuple[str, Any]] = [
    ("name", ""),
    ("name", "'; DROP TABLE samples; --"),
    ("name", 'grüße \N{SNOWMAN} \N{GRINNING FACE} \\ " % _ \n\t'),
    ("name", "x" * 100_000),
    ("number", 0),
    ("number", -(2**63)),
    ("number", 2**63 - 1),
    ("amount", Decimal("0.10")),
    ("amount", Decimal("-12345678901234567890.123456789")),
    ("amount", Decimal(0)),
    ("ratio", 0.1),
    ("ratio", -1e300),
    ("flag", True),
    ("flag", False),
    ("at", dt.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=dt.UTC)),
    ("at", dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=TOKYO)),
    ("day", dt.date(1999, 12, 31)),
    ("uuid", UUID("12345678-1234-5678-1234-567812345678")),
    ("words", ("a", "b", '"')),
    ("words", ()),
]


@dataclass(frozen=True)
class ByUuid:
    """A row whose key is no text."""

    id: Annotated[UUID, Key()]
    day: Annotated[dt.date, Key()]


@dataclass(frozen=True)
class ByNumber:
    """A row with nothing but a key."""

    id: Annotated[int, Key()]


class ValuePromises:
    """A row is read as it was written."""

    @pytest.mark.parametrize(("field", "value"), VALUES)
    async def test_a_value_comes_back_as_it_was(self, samples: Model, field: str, value: Any) -> None:
        row = Sample(id="a", **{field: value})
        await samples.write(row)
        [loaded] = await samples.load(("a",))
        [selected] = await samples.select()
        assert loaded == selected == row
        assert type(getattr(loaded, field)) is type(value)

    async def test_none_comes_back_as_none(self, samples: Model) -> None:
        await samples.write(Sample(id="a", number=1, title="x"))
        await samples.write(Sample(id="a"))
        assert await samples.load(("a",)) == [Sample(id="a")]

    async def test_the_digits_of_a_decimal_are_kept(self, samples: Model) -> None:
        await samples.write(Sample(id="a", amount=Decimal("1.500")))
        [row] = await samples.load(("a",))
        assert str(row.amount) == "1.500"

    async def test_moments_are_aware(self, samples: Model) -> None:
        await samples.write(Sample(id="a", at=dt.datetime(2026, 1, 2, 3, tzinfo=TOKYO)))
        [row] = await samples.load(("a",))
        assert row.at.utcoffset() is not None

    @pytest.mark.parametrize("key", ["", "a b", "ä", "'\"`;--", "%_", "x" * 1000, "[1]", "null", "1"])
    async def test_any_text_may_be_a_key(self, samples: Model, key: str) -> None:
        await samples.write(Sample(id=key), Sample(id="other"))
        assert await samples.load((key,)) == [Sample(id=key)]
        await samples.write(delete=[(key,)])
        assert await samples.load((key,)) == []

    async def test_keys_may_be_of_other_kinds(self, read_database: ReadDatabase) -> None:
        by_uuid, by_number = (
            Model(read_database, RowType(ByUuid), "by_uuid"),
            Model(read_database, RowType(ByNumber), "by_number"),
        )
        await by_uuid.prepare()
        await by_number.prepare()
        row = ByUuid(UUID(int=7), dt.date(2026, 1, 2))
        await by_uuid.write(row, row)
        await by_number.write(ByNumber(-5), ByNumber(2**62))
        assert await by_uuid.load((row.id, row.day)) == [row]
        assert await by_number.load((-5,), (2**62,)) == [ByNumber(-5), ByNumber(2**62)]
        await by_uuid.write(delete=[(row.id, row.day)])
        await by_number.write(ByNumber(-5), delete=[(2**62,)])
        assert (await by_uuid.select(), await by_number.select()) == ([], [ByNumber(-5)])
