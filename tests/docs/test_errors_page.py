"""Each error has a code that no other one has, and an entry with what happened, why, and what to do."""

from __future__ import annotations

import re

import pytest
from tests.docs.codes import FOLDER, pages
from tests.docs.errors import FILE, page

from twofold import errors
from twofold.checks.findings import CODES
from twofold.error_codes import ERROR_CODES

CLASSES = {
    name: each for name, each in vars(errors).items()
    if isinstance(each, type) and issubclass(each, errors.TwofoldError) and not name.startswith("_")
}  # fmt: skip


def test_every_error_has_one_code_and_every_code_an_error() -> None:
    assert sorted(each.error for each in ERROR_CODES.values()) == sorted(CLASSES)
    assert {each.code: name for name, each in CLASSES.items()} == {code: it.error for code, it in ERROR_CODES.items()}


def test_the_page_is_what_the_code_makes() -> None:
    assert FILE.read_text("utf-8") == page(), "run `make surface`"


def test_each_code_has_a_page_and_no_page_has_lost_its_code() -> None:
    made = pages()
    assert {file.name for file in FOLDER.iterdir()} == set(made), "a code stays for ever; for a new one: `make surface`"
    assert [name for name, text in made.items() if (FOLDER / name).read_text("utf-8") != text] == [], "`make surface`"


@pytest.mark.parametrize("code", [*ERROR_CODES, *CODES])
def test_a_code_says_what_happened_why_and_what_to_do(code: str) -> None:
    assert re.fullmatch(r"T[EF]\d{3}", code)
    shown = pages()[f"{code}.md"]
    for part in ("What", "Why", "Fix"):
        [text] = re.findall(rf"^\*{part}:\* (.*)$", shown, re.MULTILINE)
        assert re.fullmatch(r".{15,}\.", text), f"{code}: {part}: {text}"


def test_codes_stay_in_their_order_and_an_own_error_has_the_code_of_its_base() -> None:
    class SeatTakenError(errors.ValueTakenError):
        """An application's own."""

    assert list(ERROR_CODES) == sorted(ERROR_CODES)
    assert SeatTakenError("seat", "A1").code == errors.ValueTakenError.code == "TE304"
