"""How rows are sorted and paged."""
# ruff: noqa: D102  # a test's name is its sentence; asserts are its point

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest

from twofold.testing.read_database_suite.selections import ORDERED, write_abcd
from twofold.testing.read_samples import Model, Pair, Sample

FIELDS = ["name", "number", "amount", "ratio", "at", "day"]


def row(number: int) -> Sample:
    """Return one of many rows, with many ties and many a None."""
    tie = number * 7 % 5
    if tie == 0:
        return Sample(id=f"{number:03}")
    return Sample(
        id=f"{number:03}",
        name="x" * tie,
        number=tie - 2,
        amount=Decimal(tie) / 4 - 1,
        ratio=tie / 4 - 1,
        at=dt.datetime(2026, 1, tie, tzinfo=dt.UTC),
        day=dt.date(2026, 1, tie),
    )


class PagePromises:
    """Offset pages and keyset pages are the same pages."""

    @pytest.mark.parametrize(("field", "values"), ORDERED)
    async def test_rows_sort_by_value_and_none_comes_first(self, samples: Model, field: str, values: list[Any]) -> None:
        await write_abcd(samples, field, values)
        assert await samples.ids(sort=(field,)) == "dabc"
        assert await samples.ids(sort=(field,), descending=True) == "cbad"

    async def test_ties_are_broken_by_the_next_field(self, samples: Model) -> None:
        await samples.write(*(Sample(id=letter, number=1) for letter in "cab"))
        assert await samples.ids(sort=("number", "id")) == "abc"
        assert await samples.ids(sort=("number", "id"), descending=True) == "cba"

    async def test_text_sorts_by_code_points(self, samples: Model) -> None:
        names = ["Z", "a", "z", "ä", "\N{GRINNING FACE}"]
        await samples.write(*(Sample(id=str(place), name=name) for place, name in reversed([*enumerate(names)])))
        assert await samples.ids(sort=("name",)) == "01234"
        assert await samples.ids(where=(("name", ">", "a"),), sort=("name",)) == "234"

    async def test_limit_and_offset_cut_a_page_and_the_total_stays(self, samples: Model) -> None:
        await samples.write(*(Sample(id=letter) for letter in "abcde"))
        assert await samples.ids(limit=2, offset=2) == "cd"
        assert await samples.ids(limit=2, offset=4) == "e"
        assert await samples.ids(limit=2, offset=2**63 - 1) == ""
        assert await samples.total(limit=2, offset=4) == 5

    @pytest.mark.parametrize("descending", [False, True])
    @pytest.mark.parametrize("field", FIELDS)
    async def test_keyset_pages_are_the_offset_pages(self, samples: Model, field: str, descending: bool) -> None:
        await samples.write(*(row(number) for number in range(60)))
        everything = await samples.select(sort=(field, "id"), descending=descending)
        found: list[Any] = []
        beyond: tuple[Any, ...] = ()
        while page := await samples.select(sort=(field, "id"), descending=descending, beyond=beyond, limit=7):
            assert page == await samples.select(sort=(field, "id"), descending=descending, offset=len(found), limit=7)
            found += page
            beyond = (getattr(page[-1], field), page[-1].id)
        assert found == everything
        assert len(everything) == 60

    async def test_the_total_counts_the_rows_before_the_page_too(self, samples: Model) -> None:
        await samples.write(*(Sample(id=letter) for letter in "abcde"))
        assert await samples.total(sort=("id",), beyond=("c",)) == 5

    async def test_keyset_pages_miss_nothing_while_rows_come_and_go(self, samples: Model) -> None:
        await samples.write(*(Sample(id=letter) for letter in "bdfh"))
        first = await samples.ids(limit=2)
        await samples.write(Sample(id="a"), Sample(id="g"), delete=[("b",)])
        assert first + await samples.ids(beyond=("d",)) == "bdfgh"

    async def test_keys_of_several_fields_sort_field_by_field(self, pairs: Model) -> None:
        await pairs.write(*(Pair(group=group, order=order, where=0) for group in "ba" for order in (10, 9)))
        order = [(each.group, each.order) for each in await pairs.select(sort=("where", "group", "order"))]
        assert order == [("a", 9), ("a", 10), ("b", 9), ("b", 10)]
        rest = await pairs.select(sort=("where", "group", "order"), beyond=(0, "a", 10))
        assert [(each.group, each.order) for each in rest] == order[2:]
