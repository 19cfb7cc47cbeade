"""Importing real orders: every line is accounted for, every figure is right, and a second run changes nothing."""

from __future__ import annotations

import csv
import gzip
import itertools
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest
import pytest_asyncio

from orders.app import Shop, build
from orders.importing import Outcome, RetailImport, write_report
from orders.order import OrderStatus
from orders.queries import GetOrderById, SalesByMonth, SearchOrders
from orders.retail import read_retail_file

HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"
SAMPLE = Path(__file__).parents[3] / "shared" / "data" / "online_retail_sample.csv.gz"


@pytest_asyncio.fixture
async def shop(url: str) -> AsyncIterator[Shop]:
    async with build(url) as app:
        yield Shop(app)


async def imported(shop: Shop, path: Path) -> Outcome:
    outcome = await RetailImport(shop, read_retail_file(path), lambda count: None).run()
    await shop.app.projections.wait(shop.written, 60)
    return outcome


def retail(folder: Path, *lines: str) -> Path:
    path = folder / "retail.csv"
    path.write_text("\n".join((HEADER, *lines)) + "\n")
    return path


def line(
    invoice: str = "1",
    product: str = "tea",
    quantity: int = 2,
    day: int = 1,
    price: str = "5.0",
    customer: str = "17850.0",
    country: str = "EIRE",
) -> str:
    return f"{invoice},{product},TEA,{quantity},2011-12-{day:02} 08:26:00,{price},{customer},{country}"


async def test_an_invoice_becomes_a_shipped_order_with_the_dates_of_the_file(shop: Shop, tmp_path: Path) -> None:
    await imported(shop, retail(tmp_path, line("7", "tea"), line("8"), line("7", "cup", 1, price="0.5")))
    order = await shop.ask(GetOrderById("7"))
    assert order is not None
    assert (order.status, order.total_amount, order.item_count) == (OrderStatus.SHIPPED, Decimal("10.50"), 2)
    assert f"{order.created_at:%Y-%m-%d %H:%M}" == f"{order.shipped_at:%Y-%m-%d %H:%M}" == "2011-12-01 08:26"
    assert (order.customer_id, order.shipping_address.country) == ("17850", "EIRE")


async def test_lines_of_one_product_add_up_at_one_price_and_stay_apart_at_two(shop: Shop, tmp_path: Path) -> None:
    await imported(shop, retail(tmp_path, line(), line(), line(price="4.0")))
    order = await shop.ask(GetOrderById("1"))
    assert order is not None
    assert [(item.quantity, item.price) for item in order.items] == [(4, Decimal("5.00")), (2, Decimal("4.00"))]


async def test_a_credit_note_returns_goods_to_the_order_they_came_with(shop: Shop, tmp_path: Path) -> None:
    path = retail(tmp_path, line("C3", quantity=-1, day=3), line("1"), line("2", day=2, customer="9"))
    outcome = await imported(shop, path)
    order = await shop.ask(GetOrderById("1"))
    assert order is not None
    assert (outcome.returns, order.returned_amount, order.status) == (1, Decimal("5.00"), OrderStatus.SHIPPED)


async def test_every_reason_for_a_rejection_is_told_with_the_line(shop: Shop, tmp_path: Path) -> None:
    path = retail(
        tmp_path,
        line("1"),
        line("1", "cup", quantity=-1),
        line("1", "pot", price="0.0"),
        line("1", customer="9"),
        line("2", customer=""),
        line("3", quantity=0),
        line("C4", quantity=-3, day=2),
        line("C5", quantity=1, day=2),
        line("C6", quantity=-1, day=2, customer=""),
        line("C7", quantity=-1, day=2, price="0.0"),
        "8,tea",
        line("9" * 600),
    )
    outcome = await imported(shop, path)
    assert [(each.number, each.reason) for each in outcome.rejected] == [
        (3, "quantity not positive"),
        (4, "price not positive"),
        (5, "mixed invoice"),
        (6, "no customer"),
        (7, "quantity not positive"),
        (8, "nothing to return"),
        (9, "quantity not positive"),
        (10, "no customer"),
        (11, "price not positive"),
        (12, "unreadable line"),
        (13, "limit exceeded"),
    ]
    assert (outcome.orders, outcome.accepted) == (1, 1)


async def test_an_invoice_that_another_file_brought_is_rejected(shop: Shop, tmp_path: Path) -> None:
    await imported(shop, retail(tmp_path, line("1")))
    outcome = await imported(shop, retail(tmp_path, line("1"), line("2")))
    assert [(each.number, each.reason) for each in outcome.rejected] == [(2, "order exists")]


async def test_an_import_that_was_cut_short_is_completed(shop: Shop, tmp_path: Path) -> None:
    path = retail(tmp_path, line("1"), line("2"))
    file = read_retail_file(path)
    half = RetailImport(shop, file, lambda count: None)
    await shop.execute(half._create(file.invoices[0], list(file.invoices[0].lines)))
    outcome = await imported(shop, path)
    assert (outcome.orders, outcome.changes) == (2, 3)
    assert (await shop.ask(SearchOrders(status=OrderStatus.SHIPPED))).total == 2


def test_the_report_holds_the_rejected_lines(tmp_path: Path) -> None:
    file = read_retail_file(retail(tmp_path, line(), "8,tea"))
    write_report(tmp_path / "new" / "report.csv", file.rejected)
    with (tmp_path / "new" / "report.csv").open(newline="") as report:
        (row,) = csv.DictReader(report)
    assert (row["line"], row["invoice"], row["reason"]) == ("3", "8", "unreadable line")


@pytest.fixture
def sample(url: str, tmp_path: Path) -> Path:
    """Return the sample; on PostgreSQL its first lines, as the figures do not depend on the engine."""
    if not SAMPLE.exists():
        pytest.skip(f"needs the sample of Online Retail at {SAMPLE}")
    if url.startswith("sqlite"):
        return SAMPLE
    part = tmp_path / "part.csv.gz"
    with gzip.open(SAMPLE, "rt", encoding="latin-1") as whole, gzip.open(part, "wt", encoding="latin-1") as beginning:
        beginning.writelines(itertools.islice(whole, 10_000))
    return part


async def test_every_figure_equals_one_computed_straight_from_the_file(shop: Shop, sample: Path) -> None:
    outcome = await imported(shop, sample)
    head = await shop.app.store.head()
    sales = await shop.ask(SalesByMonth())

    expected = Computed(sample)
    assert expected.returned
    assert {
        (each.month, each.country): (each.orders, each.items_sold, each.revenue) for each in sales
    } == expected.sales
    assert {(each.month, each.country): each.returned for each in sales if each.returned} == expected.returned
    assert outcome.reasons == expected.rejected
    assert outcome.accepted + len(outcome.rejected) == expected.lines
    assert len({each.number for each in outcome.rejected}) == len(outcome.rejected)

    again = await imported(shop, sample)
    assert again.changes == 0
    assert (again.orders, again.returns, again.rejected) == (outcome.orders, outcome.returns, outcome.rejected)
    assert await shop.app.store.head() == head
    assert await shop.ask(SalesByMonth()) == sales


class Computed:
    """The figures, by other means: plain loops over the rows, with nothing of the application."""

    def __init__(self, path: Path) -> None:
        with gzip.open(path, "rt", encoding="latin-1", newline="") as file:
            rows = list(csv.DictReader(file))
        self.lines = len(rows)
        self.rejected: Counter[str] = Counter()
        self._bought: dict[tuple[str, str, Decimal], list[list[object]]] = defaultdict(list)
        totals: dict[tuple[str, str], list[Decimal]] = defaultdict(lambda: [Decimal(0), Decimal(0), Decimal(0)])
        self.returned: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
        for invoice, own in self._good(rows).items():
            place = min(row["InvoiceDate"] for row in own)[:7], own[0]["Country"]
            totals[place][0] += 1
            for row in own:
                totals[place][1] += int(row["Quantity"])
                totals[place][2] += int(row["Quantity"]) * Decimal(row["UnitPrice"])
            self._remember(invoice, own, place)
        self.sales: dict[tuple[str, str], tuple[object, ...]] = {place: tuple(own) for place, own in totals.items()}
        credits_ = [row for row in rows if row["InvoiceNo"].startswith("C")]
        for row in sorted(credits_, key=lambda row: row["InvoiceDate"]):  # stable: in the order of the file
            self._take_back(row)

    def _good(self, rows: list[dict[str, str]]) -> dict[str, list[dict[str, str]]]:
        invoices: dict[str, list[dict[str, str]]] = defaultdict(list)
        for row in rows:
            if row["InvoiceNo"].startswith("C"):
                continue
            if not row["CustomerID"]:
                self.rejected["no customer"] += 1
            elif int(row["Quantity"]) <= 0:
                self.rejected["quantity not positive"] += 1
            elif Decimal(row["UnitPrice"]) <= 0:
                self.rejected["price not positive"] += 1
            else:
                invoices[row["InvoiceNo"]].append(row)
        return invoices

    def _remember(self, invoice: str, own: list[dict[str, str]], place: tuple[str, str]) -> None:
        quantities: Counter[tuple[str, str, Decimal]] = Counter()
        for row in own:
            quantities[row["CustomerID"], row["StockCode"], Decimal(row["UnitPrice"])] += int(row["Quantity"])
        date = min(row["InvoiceDate"] for row in own)
        for key, quantity in quantities.items():
            self._bought[key].append([date, invoice, quantity, place])

    def _take_back(self, row: dict[str, str]) -> None:
        quantity, price = -int(row["Quantity"]), Decimal(row["UnitPrice"])
        if not row["CustomerID"]:
            self.rejected["no customer"] += 1
            return
        for each in sorted(self._bought[row["CustomerID"], row["StockCode"], price], reverse=True):
            date, _, left, place = each
            if str(date) <= row["InvoiceDate"] and quantity <= int(str(left)):
                each[2] = int(str(left)) - quantity
                self.returned[place] += quantity * price  # type: ignore[index]
                return
        self.rejected["nothing to return"] += 1
