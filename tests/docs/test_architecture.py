"""The page on the architecture is true: at most three files for each change, and the folders that there are."""

from __future__ import annotations

import re

import pytest
from tests.docs.pages import ROOT

PAGE = (ROOT / "docs" / "explanation" / "architecture.md").read_text("utf-8")
CHANGES = re.findall(r"^\| ((?:add|change) [^|]+) \|(.*)\|$", PAGE, re.MULTILINE)


def test_the_page_answers_where_changes_belong() -> None:
    wanted = {"state", "engine", "conflict", "column", "kind"}
    assert {word for word in wanted for change, _ in CHANGES if word in change} == wanted


@pytest.mark.parametrize(("change", "answer"), CHANGES, ids=[change for change, _ in CHANGES])
def test_a_change_is_made_in_at_most_three_files_that_exist(change: str, answer: str) -> None:
    files = re.findall(r"`(src/[^`]+)`", answer)
    assert 1 <= len(files) <= 3
    assert [name for name in files if not (ROOT / name).exists()] == []


def test_every_package_and_module_of_the_first_floor_has_a_line() -> None:
    listed = set(re.findall(r"`(\w+(?:/|\.py))`", PAGE))
    there = {
        path.name + ("/" if path.is_dir() else "")
        for path in (ROOT / "src" / "twofold").iterdir()
        if (path.is_dir() or path.suffix == ".py") and not path.name.startswith("__")
    }
    assert there - listed == set()


def test_no_package_has_more_modules_than_a_reader_can_keep_apart() -> None:
    counts = {
        str(folder.relative_to(ROOT)): len([each for each in folder.glob("*.py") if each.name != "__init__.py"])
        for folder in (ROOT / "src" / "twofold").rglob("*")
        if folder.is_dir()
    }
    assert {name: count for name, count in counts.items() if count > 18} == {}
