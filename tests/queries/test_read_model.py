"""Questions to a read model; how each engine answers them, see `ReadDatabaseConformance`."""

from __future__ import annotations

import base64
import copy
import datetime as dt
from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import msgspec
import pytest
import pytest_asyncio

from twofold import FullText, Index, Key, Projection, ReadModel
from twofold.engines.engine import connect
from twofold.errors import InvalidCursorError, InvalidFilterError, UnknownFieldError
from twofold.options import QueryOptions
from twofold.ports.checkpoints import Generation
from twofold.ports.read_database import Changes, ReadDatabase, Total
from twofold.ports.segments import Segment, Step
from twofold.projections.keyed_runner import KeyedRunner
from twofold.projections.kinds import ASYNCHRONOUS
from twofold.queries.serving import ServingGeneration
from twofold.synchronizer.generations import prepare

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one read model for all


class Status(StrEnum):
    OPEN = "open"
    PAID = "paid"


@dataclass(frozen=True, kw_only=True)
class View:
    id: Annotated[str, Key()]
    status: Annotated[Status, Index()] = Status.OPEN
    amount: Annotated[Decimal, Index()] = Decimal(0)
    number: int = 0
    at: dt.datetime | None = None
    day: dt.date | None = None
    ref: UUID | None = None
    text: Annotated[str, FullText()] = ""
    lines: tuple[str, ...] = ()


class Views(Projection[View]):
    name = "views"


NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
ROWS = [
    View(
        id=f"{n:02}", status=Status.PAID if n % 3 else Status.OPEN, amount=Decimal(n % 7) / 4, number=n,
        at=NOON + dt.timedelta(hours=n) if n % 4 else None, text=f"row number {n}", lines=(str(n),),
    )
    for n in range(45)
]  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def database(shared_url: str) -> AsyncIterator[ReadDatabase]:
    """Return where the read model is; the tests of other engines have one in its place."""
    database = connect(shared_url).read_database
    await database.open()
    yield database
    await database.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def generation(database: ReadDatabase) -> Generation:
    """Return the generation that holds the rows; no test changes them."""
    rows, runner = Views().row_type(), KeyedRunner(database, Views(), 1, ASYNCHRONOUS)
    await prepare(database, runner)
    changes = Changes([rows.dump(row) for row in ROWS])
    await database.commit(runner.table("__1"), changes, Step(Segment("views", 1), 0, 0, 1))
    return (await ServingGeneration(database, runner).find()).generation


@pytest_asyncio.fixture(loop_scope="module")
async def views(database: ReadDatabase, generation: Generation) -> ReadModel[View]:
    return ReadModel(database, Views(), generation=generation)


async def all_by_page(views: ReadModel[View], **query: Any) -> list[View]:
    first = await views.page(**query)
    pages = [await views.page(page=number, **query) for number in range(1, first.total_pages + 2)]
    return [row for page in pages for row in page.items]


async def all_by_cursor(views: ReadModel[View], **query: Any) -> list[View]:
    found: list[View] = []
    cursor: str | None = None
    while True:
        page = await views.page(cursor=cursor, **query)
        found += page.items
        if (cursor := page.next_cursor) is None:
            return found


async def test_a_row_is_found_by_its_key(views: ReadModel[View]) -> None:
    assert await views.get("07") == ROWS[7]
    assert await views.get("x") is None
    with pytest.raises(ValueError, match="the key of View is"):
        await views.get("07", "08")


async def test_a_page_says_where_it_stands(views: ReadModel[View]) -> None:
    page = await views.page(page=2, page_size=20)
    assert (page.total, page.page, page.page_size, page.total_pages, len(page.items)) == (45, 2, 20, 3, 20)
    assert page.items[0] == ROWS[20]
    assert (await views.page(page=9)).items == []
    assert (await views.page(where=[("number", "<", 0)])).total_pages == 0


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("sort", [None, "id", "status", "amount", "number", "at", "text"])
async def test_offset_pages_and_cursors_agree(views: ReadModel[View], sort: str | None, descending: bool) -> None:
    query: dict[str, Any] = {"sort": sort, "descending": descending, "page_size": 7}
    by_page = await all_by_page(views, **query)
    assert by_page == await all_by_cursor(views, **query)
    assert sorted(by_page, key=lambda row: row.id) == ROWS


async def test_cursors_keep_filters_and_search_apart_from_the_sort(views: ReadModel[View]) -> None:
    query: dict[str, Any] = {
        "where": [("status", "=", Status.PAID), ("number", "in", range(5, 40))], "search": "row", "sort": "amount",
        "page_size": 4,
    }  # fmt: skip
    found = await all_by_cursor(views, **query)
    assert found == await all_by_page(views, **query)
    assert {row.number for row in found} == {n for n in range(5, 40) if n % 3}


async def test_a_search_without_a_sort_pages_by_rank(views: ReadModel[View]) -> None:
    found = await all_by_page(views, search="row", page_size=10)
    assert sorted(row.id for row in found) == [row.id for row in ROWS]
    assert (await views.page(search="row", page_size=10)).next_cursor is None


@pytest.mark.parametrize(
    ("field", "operator", "value", "expected"),
    [
        ("status", "=", Status.OPEN, 15),
        ("status", "=", "open", 15),
        ("status", "in", [Status.OPEN, Status.PAID], 45),
        ("amount", ">=", 1, 18),
        ("amount", ">=", "1.0", 18),
        ("number", "in", {1, 2, 99}, 2),
        ("at", "=", None, 12),
        ("at", "!=", None, 33),
        ("at", "<", NOON + dt.timedelta(hours=3), 2),
        ("at", "<", "2026-01-01T15:00:00Z", 2),
        ("day", "in", [None, dt.date(2026, 1, 1)], 45),
        ("ref", "=", UUID(int=5), 0),
        ("ref", "=", str(UUID(int=5)), 0),
    ],
)
async def test_values_are_taken_for_what_the_field_holds(
    views: ReadModel[View], field: str, operator: Any, value: Any, expected: int
) -> None:
    assert (await views.page(where=[(field, operator, value)])).total == expected


@pytest.mark.parametrize(
    ("field", "operator", "value", "message"),
    [
        ("number", "like", 1, "number: no operator 'like'; there are ="),
        ("number", "= 1 OR 1 =", 1, "no operator"),
        ("number", "=", "one", "number cannot be compared with 'one'"),
        ("number", "=", 2**64, "the number is too large"),
        ("amount", "<", Decimal("NaN"), "the number is not finite"),
        ("amount", "<", [], "amount cannot be compared with"),
        ("amount", "<", None, "None is neither less nor greater"),
        ("at", ">", dt.datetime(2026, 1, 1), "it has no time zone"),  # noqa: DTZ001
        ("at", ">", dt.date(2026, 1, 1), "at cannot be compared"),
        ("number", "in", "12", "`in` takes a list"),
        ("number", "in", 12, "`in` takes a list"),
        ("number", "in", [1, "x"], "cannot be compared with 'x'"),
        ("id", "=", "a\0b", "NUL"),
        ("id", "=", "\ud800", "surrogates"),
        ("id", "=", 5, "id cannot be compared with 5"),
    ],
)
async def test_a_filter_that_does_not_fit_is_refused(
    views: ReadModel[View], field: str, operator: Any, value: Any, message: str
) -> None:
    for question in (views.page, lambda where: views.totals(by=[], of="number", where=where)):
        with pytest.raises(InvalidFilterError, match=message):
            await question(where=[(field, operator, value)])


@pytest.mark.parametrize("field", ["nothing", "lines", 'id" --', "row_number_"])
async def test_a_field_that_cannot_be_asked_about_is_named_with_those_that_can(
    views: ReadModel[View], field: str
) -> None:
    message = "views cannot be asked about .*; its fields are id, status, amount"
    with pytest.raises(UnknownFieldError, match=message):
        await views.page(sort=field)
    with pytest.raises(UnknownFieldError, match=message):
        await views.page(where=[(field, "=", 1)])
    with pytest.raises(UnknownFieldError, match=message):
        await views.totals(by=[field], of="amount")
    with pytest.raises(UnknownFieldError, match=message):
        await views.totals(by=["status"], of=field)


def other(views: ReadModel[View], unindexed: Any) -> ReadModel[View]:
    other = copy.copy(views)
    other._options, other._unindexed = QueryOptions(unindexed=unindexed), set()
    return other


async def test_a_field_without_index_is_warned_about_once(
    views: ReadModel[View], caplog: pytest.LogCaptureFixture
) -> None:
    warning = other(views, "warn")
    for _ in range(2):
        await warning.page(where=[("number", ">", 1), ("status", "=", "open")], sort="day")
        await warning.totals(by=["number"], of="number", where=[("number", "=", 1)])
    await warning.page(sort="amount", where=[("id", "in", ["01"])])
    expected = ["day", "number"] if views._database.has_indexes else []
    assert [record.args for record in caplog.records] == [
        (f"views.{field} has no index: a filter or a sort by it reads all rows; mark it with Index()",)
        for field in expected
    ]


async def test_a_field_without_index_is_refused_if_the_options_want_it(views: ReadModel[View]) -> None:
    refusing = other(views, "refuse")
    assert (await refusing.page(sort="amount", where=[("status", "=", "open")])).total == 15
    questions: list[Any] = [{"sort": "number"}, {"where": [("number", "=", 1)]}]
    for question in questions:
        if views._database.has_indexes:
            with pytest.raises(UnknownFieldError, match=r"views\.number has no index"):
                await refusing.page(**question)
        else:
            await refusing.page(**question)


async def test_a_field_without_numbers_cannot_be_summed(views: ReadModel[View]) -> None:
    with pytest.raises(UnknownFieldError, match=r"views.text holds no numbers"):
        await views.totals(by=["status"], of="text")


async def test_rows_without_full_text_cannot_be_searched(views: ReadModel[View]) -> None:
    @dataclass(frozen=True)
    class Bare:
        id: Annotated[str, Key()]

    class Bares(Projection[Bare]):
        name = "bares"

    bare = ReadModel(views._database, Bares())
    with pytest.raises(UnknownFieldError, match="bares cannot be searched; mark a field"):
        await bare.page(search="x")


@pytest.mark.parametrize(("page", "size"), [(0, 20), (-1, 20), (1, 0), (1, -5)])
async def test_pages_begin_at_one(views: ReadModel[View], page: int, size: int) -> None:
    with pytest.raises(ValueError, match="page and page_size begin at 1"):
        await views.page(page=page, page_size=size)


async def test_a_page_however_far_is_empty(views: ReadModel[View]) -> None:
    assert (await views.page(page=10**30)).items == []
    assert len((await views.page(page_size=10**30)).items) == 45


def forged(content: Any) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(content)).decode()


def nested(depth: int) -> str:
    return base64.urlsafe_b64encode(b"[" * depth + b"]" * depth).decode()


@pytest.mark.parametrize(
    "cursor",
    [
        "x", "%%%", "ä", "\ud800", "AAAA", forged([]), forged([["number", "id"], [1]]), forged([["id"], ["a"]]),
        forged([["number", "id"], ["x", "a"]]), forged([["number", "id"], [2**70, "a"]]),
        forged([["number", "id"], [None, "a"]]), forged([["number", "id"], [1, None]]),
        forged([["number", "id"], [1, "a\0"]]), forged([["number", "id"], [1, {}]]), forged({"a": 1}),
        nested(1_400), nested(100_000), forged([["number", "id"], [1, "a" * 10_000]]),
    ],
)  # fmt: skip
async def test_a_cursor_that_is_not_ours_is_refused(views: ReadModel[View], cursor: str) -> None:
    with pytest.raises(InvalidCursorError):
        await views.page(sort="number", cursor=cursor)


async def test_a_cursor_of_another_sort_is_refused(views: ReadModel[View]) -> None:
    cursor = (await views.page(sort="amount")).next_cursor
    with pytest.raises(InvalidCursorError, match="belongs to another sort"):
        await views.page(sort="number", cursor=cursor)


async def test_groups_are_told_by_what_their_fields_hold(views: ReadModel[View]) -> None:
    groups = [total.by for total in await views.totals(by=["status", "day"], of="number")]
    assert groups == sorted([(Status.OPEN, None), (Status.PAID, None)], key=lambda by: by[0].value)
    assert all(isinstance(status, Status) for status, _ in groups)


async def test_totals_are_those_of_the_rows(views: ReadModel[View]) -> None:
    paid = [row.amount for row in ROWS if row.status is Status.PAID and row.number > 10]
    totals = await views.totals(by=["status"], of="amount", where=[("number", ">", 10), ("status", "=", Status.PAID)])
    assert totals == [Total(("paid",), len(paid), (sum(paid),))]
    assert (await views.totals(by=[], of="number")) == [Total((), 45, (sum(range(45)),))]


async def test_a_search_says_where_the_words_are(views: ReadModel[View]) -> None:
    page = await views.page(search="NUMB 1", highlight=True, page_size=3, sort="number")
    assert [row.text for row in page.items] == ["row number 1", "row number 10", "row number 11"]
    assert page.highlights == [
        {"text": [(4, 10), (11, 12)]},
        {"text": [(4, 10), (11, 13)]},
        {"text": [(4, 10), (11, 13)]},
    ]
    assert (await views.page(search="numb")).highlights == ()
    assert (await views.page(highlight=True, page_size=2)).highlights == [{}, {}]


async def test_several_sums_come_in_the_order_in_which_they_were_asked_for(views: ReadModel[View]) -> None:
    [total] = await views.totals(by=[], of=["number", "amount"])
    assert total.sums == (sum(range(45)), sum(row.amount for row in ROWS))
    with pytest.raises(UnknownFieldError, match="text"):
        await views.totals(by=[], of=["number", "text"])
