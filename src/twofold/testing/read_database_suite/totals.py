"""How groups of rows are counted and summed."""
# ruff: noqa: D102  # a test's name is its sentence; asserts are its point

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from twofold.ports.read_database import ReadDatabase, Total
from twofold.testing.read_samples import Model, Sample

NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)


class TotalPromises:
    """Sums of decimals are exact."""

    async def test_each_group_is_counted_and_summed(self, read_database: ReadDatabase, samples: Model) -> None:
        await samples.write(
            Sample(id="a", name="x", amount=Decimal("0.1"), number=1),
            Sample(id="b", name="x", amount=Decimal("0.2"), number=2),
            Sample(id="c", name="w", amount=Decimal("0.7"), number=5),
        )
        totals = await read_database.totals(samples.table, ["name"], ["amount"])
        assert totals == [Total(("w",), 1, (Decimal("0.7"),)), Total(("x",), 2, (Decimal("0.3"),))]
        totals = await read_database.totals(samples.table, ["name"], ["number"], [("number", "<", 5)])
        assert totals == [Total(("x",), 2, (3,))]

    async def test_sums_of_decimals_are_exact(self, read_database: ReadDatabase, samples: Model) -> None:
        amounts = [Decimal("0.1"), Decimal("1e20"), Decimal("-1e20"), Decimal("12345678901234567890123456789.01")]
        await samples.write(*(Sample(id=str(n), amount=amount) for n, amount in enumerate(amounts)))
        [total] = await read_database.totals(samples.table, [], ["amount"])
        assert total.sum == Decimal("12345678901234567890123456789.11")

    async def test_several_fields_are_summed_at_once(self, read_database: ReadDatabase, samples: Model) -> None:
        await samples.write(
            Sample(id="a", name="x", amount=Decimal("0.1"), number=1, ratio=0.5),
            Sample(id="b", name="x", amount=Decimal("0.2"), number=2),
            Sample(id="c", name="y", number=5, ratio=0.25),
        )
        totals = await read_database.totals(samples.table, ["name"], ["number", "amount", "ratio"])
        assert totals == [
            Total(("x",), 2, (3, Decimal("0.3"), 0.5)),
            Total(("y",), 1, (5, Decimal(0), 0.25)),
        ]
        assert [type(each) for each in totals[1].sums] == [int, Decimal, float]
        assert await read_database.totals(samples.table, ["name"], []) == [Total(("x",), 2, ()), Total(("y",), 1, ())]

    async def test_without_groups_all_rows_are_one(self, read_database: ReadDatabase, samples: Model) -> None:
        assert await read_database.totals(samples.table, [], ["amount"]) == [Total((), 0, (Decimal(0),))]
        assert await read_database.totals(samples.table, ["name"], ["amount"]) == []

    async def test_none_counts_as_nothing_and_is_a_group(self, read_database: ReadDatabase, samples: Model) -> None:
        await samples.write(Sample(id="a", amount=Decimal(2)), Sample(id="b"), Sample(id="c", name="x"))
        totals = await read_database.totals(samples.table, ["name"], ["amount"])
        assert totals == [Total((None,), 2, (Decimal(2),)), Total(("x",), 1, (Decimal(0),))]
        assert await read_database.totals(samples.table, [], ["number"]) == [Total((), 3, (0,))]

    async def test_groups_have_the_types_of_their_fields(self, read_database: ReadDatabase, samples: Model) -> None:
        row = Sample(
            id="a", name="x", number=3, amount=Decimal("1.5"), flag=True, at=NOON, day=NOON.date(), uuid=UUID(int=1)
        )
        await samples.write(row)
        fields = ["name", "number", "amount", "flag", "at", "day", "uuid"]
        [total] = await read_database.totals(samples.table, fields, ["number"])
        assert total == Total(tuple(getattr(row, field) for field in fields), 1, (3,))
        assert [type(each) for each in total.by] == [str, int, Decimal, bool, dt.datetime, dt.date, UUID]

    @pytest.mark.parametrize("field", ["amount", "number"])
    async def test_groups_come_in_the_order_of_their_values(
        self, read_database: ReadDatabase, samples: Model, field: str
    ) -> None:
        values = [10, 9, -1, 100]
        kind: type[Any] = Decimal if field == "amount" else int
        await samples.write(*(Sample(id=str(n), **{field: kind(value)}) for n, value in enumerate(values)))
        totals = await read_database.totals(samples.table, [field], ["number"])
        assert [total.by[0] for total in totals] == sorted(values)

    async def test_equal_decimals_are_one_group(self, read_database: ReadDatabase, samples: Model) -> None:
        await samples.write(Sample(id="a", amount=Decimal("1.5")), Sample(id="b", amount=Decimal("1.50")))
        [total] = await read_database.totals(samples.table, ["amount"], ["amount"])
        assert (total.by[0], total.count, total.sum) == (Decimal("1.5"), 2, 3)
