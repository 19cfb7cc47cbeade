"""Reading files in the layout of "Online Retail"."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from orders.retail import Line, RetailFileError, read_retail_file

HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
ONE = '1,85123A,"HEART, WHITE ",6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom\n'


def write(folder: Path, content: str | bytes, name: str = "retail.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_line_is_read_as_what_it_means(tmp_path: Path) -> None:
    (invoice,) = read_retail_file(write(tmp_path, HEADER + ONE)).invoices
    at = datetime(2010, 12, 1, 8, 26, tzinfo=UTC)
    assert invoice.lines == (Line(2, "1", "85123A", "HEART, WHITE", 6, at, Decimal("2.55"), "17850", "United Kingdom"),)


def test_lines_in_no_order_are_gathered_by_invoice(tmp_path: Path) -> None:
    file = read_retail_file(write(tmp_path, HEADER + ONE + ONE.replace("1,", "C2,", 1) + ONE))
    assert [(each.number, len(each.lines), each.is_credit_note) for each in file.invoices] == [
        ("1", 2, False),
        ("C2", 1, True),
    ]


@pytest.mark.parametrize(("encoding", "packed"), [("latin-1", False), ("utf-8", True), ("utf-8-sig", False)])
def test_encoding_and_packing_are_recognised(tmp_path: Path, encoding: str, packed: bool) -> None:
    content = (HEADER + ONE.replace("HEART", "CAFÉ £")).encode(encoding)
    file = read_retail_file(write(tmp_path, gzip.compress(content) if packed else content))
    assert file.invoices[0].lines[0].description == "CAFÉ £, WHITE"


def test_the_id_follows_from_the_content_alone(tmp_path: Path) -> None:
    plain = read_retail_file(write(tmp_path, HEADER + ONE))
    packed = read_retail_file(write(tmp_path, gzip.compress((HEADER + ONE).encode()), "other.csv.gz"))
    more = read_retail_file(write(tmp_path, HEADER + ONE + ONE, "more.csv"))
    assert plain.id == packed.id != more.id


def test_the_sequel_and_american_dates_are_read_too(tmp_path: Path) -> None:
    header = "Invoice,StockCode,Description,Quantity,InvoiceDate,Price,Customer ID,Country\n"
    file = read_retail_file(write(tmp_path, header + "1,A,B,1,12/31/2010 8:26,2.5,,EIRE\n"))
    assert file.invoices[0].lines[0].at == datetime(2010, 12, 31, 8, 26, tzinfo=UTC)


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        ("1,A,B,six,2010-12-01 08:26:00,1,1,UK", "Quantity is not a whole number: 'six'"),
        ("1,A,B,1,yesterday,1,1,UK", "InvoiceDate is not like 2011-10-06 16:20:00: 'yesterday'"),
        ("1,A,B,1,2010-12-01 08:26:00,cheap,1,UK", "UnitPrice is not a number: 'cheap'"),
        (",A,B,1,2010-12-01 08:26:00,1,1,UK", "InvoiceNo is empty"),
        ("1,A,B", "Country is empty"),
    ],
)
def test_a_line_that_cannot_be_read_is_kept_with_its_number_and_the_reason(
    tmp_path: Path, line: str, detail: str
) -> None:
    file = read_retail_file(write(tmp_path, HEADER + ONE + line + "\n"))
    (rejection,) = file.rejected
    assert (rejection.number, rejection.reason, rejection.detail) == (3, "unreadable line", detail)
    assert file.line_count == 2


def test_line_numbers_count_lines_of_the_file_not_of_the_table(tmp_path: Path) -> None:
    broken = ONE.replace("HEART, WHITE", "HEART\nWHITE")
    file = read_retail_file(write(tmp_path, HEADER + broken + ONE))
    assert [line.number for line in file.invoices[0].lines] == [2, 4]


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (b"", "must be the header InvoiceNo"),
        (b"a;b;c\n1;2;3\n", "separated by commas"),
        (b"PK\x03\x04rest", "save the sheet as CSV"),
        (b"\x1f\x8b\x08broken", "download it again"),
        (HEADER.encode(), "is it complete"),
        ((HEADER + '1,A,"' + "x" * 200_000).encode(), "open quote"),
    ],
)
def test_a_file_that_is_something_else_is_refused_with_the_remedy(tmp_path: Path, content: bytes, hint: str) -> None:
    with pytest.raises(RetailFileError, match=hint):
        read_retail_file(write(tmp_path, content))


def test_a_missing_file_and_a_folder_are_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(RetailFileError, match="check the path"):
        read_retail_file(tmp_path / "none.csv")
    with pytest.raises(RetailFileError, match="is a folder"):
        read_retail_file(tmp_path)
