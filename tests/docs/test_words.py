"""The texts keep to the prose rules: they name the actor and the object, and leave out words that hide them."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from tests.docs.pages import ROOT

BREAK = r"[\s#>*-]+"
"""Between two words of one sentence: a space, or the end of a line with the marks that begin the next."""
HIDING = rf"somebody|nobody|whoever|anew|lest|so{BREAK}many|as{BREAK}it{BREAK}is"
REPLACED = (
    rf"shadows?|dead{BREAK}letters?|set(?:s|ting)?{BREAK}(?:(?:it|them|events?){BREAK})?aside"
    rf"|pass(?:es|ed|ing)?{BREAK}(?:(?:it|them){BREAK})?over|live{BREAK}(?:answers?|quer(?:y|ies)|generations?)"
)
"""What the table of names has other words for: building, parked, skip, watch, serving."""
DROPPED = re.compile(rf"\b({HIDING}|{REPLACED})\b|\b(?-i:Meanwhile)\b", re.IGNORECASE)
FOLDERS = ("src", "docs", "examples")
FILES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
SUFFIXES = (".py", ".sql", ".md", ".html")
TO_DO = Path(__file__).with_name("words_to_replace.txt")
"""The files whose texts are not rewritten yet, with the number of dropped words in each. The list only gets shorter."""


def texts() -> list[Path]:
    found = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*")) if path.suffix in SUFFIXES]
    return [*found, *(ROOT / name for name in FILES if (ROOT / name).exists())]


def allowed() -> Counter[str]:
    lines = (line.split() for line in TO_DO.read_text("utf-8").splitlines())
    return Counter({path: int(count) for count, path in lines})


def dropped_words(text: str) -> list[str]:
    return [
        f"line {text.count(chr(10), 0, found.start()) + 1}: {' '.join(found[0].split())}"
        for found in DROPPED.finditer(text)
    ]


def test_no_text_uses_a_word_that_the_prose_rules_drop() -> None:
    to_do, wrong = allowed(), {}
    for path in texts():
        name = str(path.relative_to(ROOT))
        found = dropped_words(path.read_text("utf-8"))
        if len(found) > to_do[name]:
            wrong[name] = found
    assert wrong == {}, "name the actor and the object instead"


@pytest.mark.parametrize(
    "text",
    [
        "Somebody else", "nobody's", "so\n# many", "built anew.", "as it\n    is", "lest it", "Meanwhile, it",
        "the shadow tables", "sets them aside", "setting\n# aside", "is passed over", "live answers", "a live query",
    ],
)  # fmt: skip
def test_a_dropped_word_is_found_wherever_it_stands(text: str) -> None:
    assert dropped_words(text)


@pytest.mark.parametrize(
    "text",
    [
        "has it is",
        "renewed",
        "the least",
        "some body",
        "so much",
        "latest",
        "in the meanwhile",
        "a live worker",
        "passes by",
    ],
)
def test_other_words_are_left_alone(text: str) -> None:
    assert dropped_words(text) == []
