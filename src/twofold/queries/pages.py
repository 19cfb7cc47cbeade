"""Pages of read models: what a page holds, and the cursors with which the next one begins."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from twofold.errors import InvalidCursorError, InvalidFilterError
from twofold.ports.full_text import Range
from twofold.ports.table import Column
from twofold.queries.filters import comparable

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class PaginatedResult(Generic[T]):
    """One page of a longer answer. All of it is from one snapshot of the read model."""

    items: Sequence[T]
    total: int
    """Number of items on all pages."""
    page: int
    """From 1."""
    page_size: int
    total_pages: int
    next_cursor: str | None = None
    """Where the next page begins; for deep pages much cheaper than a page number."""
    highlights: Sequence[Mapping[str, Sequence[Range]]] = ()
    """For each item the full-text fields in which words were found, and where in them; if that was asked for."""
    position: int = 0
    """The position of the log that the page is of.

    While the segments of a divided read model stand at different positions, it is the lowest of them.
    """
    furthest: int = 0
    """No row shows an event behind this position: it is `position`, unless the segments stand at different ones."""


def write_cursor(order: Sequence[str], last: Sequence[Any]) -> str:
    """Return the cursor for the rows that come after the one with these values of the sort's fields."""
    return base64.urlsafe_b64encode(msgspec.json.encode([list(order), list(last)])).decode()


def read_cursor(cursor: str, order: Sequence[Column], longest: int) -> tuple[Any, ...]:
    """Return the values of the sort's columns after which a page begins.

    Raises:
        InvalidCursorError: the cursor is damaged, or belongs to another sort.
    """
    try:
        if not isinstance(cursor, str) or len(cursor) > longest:
            raise ValueError
        content = base64.urlsafe_b64decode(cursor)
        names, values = msgspec.json.decode(content, type=tuple[list[str], list[Any]])
        if names != [column.name for column in order] or len(values) != len(order):
            raise InvalidCursorError("the cursor belongs to another sort; take the one of the page before")
        return tuple(comparable(column, value) for column, value in zip(order, values, strict=True))
    except (msgspec.MsgspecError, binascii.Error, ValueError, RecursionError, InvalidFilterError) as error:
        raise InvalidCursorError("this is no cursor of a page; take the `next_cursor` of the page before") from error
