"""Looking up the headers of a request."""

from __future__ import annotations

from typing import Any

from twofold.fastapi.headers import all_of, headers_of, text_of


def scope(*headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http", "headers": iter(headers) if not headers else list(headers)}


def test_of_a_header_that_comes_twice_the_first_counts() -> None:
    found = headers_of(scope((b"if-match", b'"1"'), (b"if-match", b'"2"')))
    assert text_of(found, b"if-match") == '"1"'


def test_a_header_that_is_not_there_is_none_and_an_empty_one_is_a_text() -> None:
    found = headers_of(scope((b"prefer", b"")))
    assert (text_of(found, b"prefer"), text_of(found, b"cookie")) == ("", None)


def test_any_byte_is_taken() -> None:
    assert text_of(headers_of(scope((b"x", b"\xff"))), b"x") == "\xff"


def test_all_values_of_a_header_are_joined() -> None:
    assert all_of(scope((b"prefer", b"a"), (b"host", b"h"), (b"prefer", b"wait=2")), b"prefer") == "a,wait=2"
