"""Files in the layout of "Online Retail" (UCI Machine Learning Repository, Chen, Sain, Guo 2012)."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import NamedTuple
from uuid import NAMESPACE_OID, UUID, uuid5

from orders.items import OrderItem

COLUMNS = {
    "invoice": ("InvoiceNo", "Invoice"),
    "product_id": ("StockCode",),
    "description": ("Description",),
    "quantity": ("Quantity",),
    "at": ("InvoiceDate",),
    "price": ("UnitPrice", "Price"),
    "customer_id": ("CustomerID", "Customer ID"),
    "country": ("Country",),
}
"""Our names, and those of the file's header: of "Online Retail", and of its sequel "Online Retail II"."""
DATE_FORMATS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%m/%d/%Y %H:%M")


class RetailFileError(Exception):
    """The file cannot be read as what it should be; the text names the remedy."""


class Line(NamedTuple):
    """A line of the file that could be read."""

    number: int
    """Of the line in the file; the header is 1."""
    invoice: str
    product_id: str
    description: str
    quantity: int
    at: datetime
    price: Decimal
    customer_id: str
    """Empty if the file names none."""
    country: str

    @property
    def sold(self) -> OrderItem:
        """What the line sells."""
        return OrderItem(self.product_id, self.quantity, self.price, self.description)

    @property
    def returned(self) -> OrderItem:
        """What the line takes back: the file has returned quantities below zero."""
        return OrderItem(self.product_id, -self.quantity, self.price, self.description)


class Rejection(NamedTuple):
    """A line that was not taken, and why."""

    number: int
    invoice: str
    product_id: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Invoice:
    """The lines of one invoice, in the order of the file. A number that begins with C is a credit note."""

    number: str
    lines: tuple[Line, ...]

    @property
    def is_credit_note(self) -> bool:
        """Whether goods came back."""
        return self.number.upper().startswith("C")


@dataclass(frozen=True)
class RetailFile:
    """A file that was read: its invoices, and the lines that are none."""

    id: UUID
    """Follows from the content alone, whatever the file is called and however it is packed."""
    line_count: int
    invoices: tuple[Invoice, ...]
    rejected: tuple[Rejection, ...]


def read_retail_file(path: Path) -> RetailFile:
    """Read a CSV file, in UTF-8 or Latin-1, perhaps packed with gzip.

    Raises:
        RetailFileError: it cannot be read, or is something else.
    """
    text = _text(_content(path), path)
    lines: list[Line] = []
    rejected: list[Rejection] = []
    for number, fields in _rows(text, path):
        try:
            lines.append(_line(number, fields))
        except ValueError as error:
            rejected.append(Rejection(number, fields["invoice"], fields["product_id"], "unreadable line", str(error)))
    if not lines:
        raise RetailFileError(f"{path}: not one line could be read as an order line; is it complete?")
    invoices, strangers = _invoices(lines)
    count = len(lines) + len(rejected)
    return RetailFile(uuid5(NAMESPACE_OID, text), count, invoices, (*rejected, *strangers))


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    except FileNotFoundError:
        raise RetailFileError(f"{path}: there is no such file; check the path") from None
    except IsADirectoryError:
        raise RetailFileError(f"{path}: is a folder; name a .csv or .csv.gz file in it") from None
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise RetailFileError(f"{path}: the gzip archive is damaged ({error}); download it again") from None
    except OSError as error:
        raise RetailFileError(f"{path}: cannot be read: {error.strerror}") from None


def _text(content: bytes, path: Path) -> str:
    if content.startswith(b"PK\x03\x04"):
        raise RetailFileError(f"{path}: is an Excel or zip file; save the sheet as CSV, or unpack it, and import that")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _rows(text: str, path: Path) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Yield each line as fields under our names, and its number."""
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        header = [name.strip() for name in next(reader, [])]
        places = {field: _place(header, names, path) for field, names in COLUMNS.items()}
        number = reader.line_num + 1
        for row in reader:
            if row:
                yield number, {field: row[at].strip() if at < len(row) else "" for field, at in places.items()}
            number = reader.line_num + 1
    except csv.Error as error:
        raise RetailFileError(f"{path}, line {reader.line_num}: is not CSV ({error}); look for an open quote") from None


def _place(header: list[str], names: tuple[str, ...], path: Path) -> int:
    for name in names:
        if name in header:
            return header.index(name)
    wanted = ",".join(columns[0] for columns in COLUMNS.values())
    found = ",".join(header)[:200] or "nothing"
    raise RetailFileError(
        f"{path}: the first line has no column {names[0]}; it must be the header {wanted} (separated by commas), "
        f"and is {found}"
    )


def _line(number: int, fields: Mapping[str, str]) -> Line:
    """Return the line that the fields make.

    Raises:
        ValueError: one of them is missing or is not what it should be.
    """
    for field in ("invoice", "product_id", "country"):
        if not fields[field]:
            raise ValueError(f"{COLUMNS[field][0]} is empty")
    return Line(
        number,
        fields["invoice"],
        fields["product_id"],
        fields["description"],
        _quantity(fields["quantity"]),
        _moment(fields["at"]),
        _price(fields["price"]),
        fields["customer_id"].removesuffix(".0"),
        fields["country"],
    )


def _quantity(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"Quantity is not a whole number: {text!r}") from None


def _price(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ValueError(f"UnitPrice is not a number: {text!r}") from None


def _moment(text: str) -> datetime:
    for pattern in DATE_FORMATS:
        try:
            return datetime.strptime(text, pattern).replace(tzinfo=UTC)
        except ValueError:
            continue
    raise ValueError(f"InvoiceDate is not like 2011-10-06 16:20:00: {text!r}")


def _invoices(lines: Iterable[Line]) -> tuple[tuple[Invoice, ...], list[Rejection]]:
    """Gather lines into invoices. A line of another customer or country than the first of its invoice is none of it."""
    gathered: dict[str, list[Line]] = {}
    strangers = []
    for line in lines:
        first = gathered.setdefault(line.invoice, [line])[0]
        if (line.customer_id, line.country) != (first.customer_id, first.country):
            detail = f"line {first.number} of this invoice has customer {first.customer_id!r} in {first.country}"
            strangers.append(Rejection(line.number, line.invoice, line.product_id, "mixed invoice", detail))
        elif line is not first:
            gathered[line.invoice].append(line)
    return tuple(Invoice(number, tuple(own)) for number, own in gathered.items()), strangers
