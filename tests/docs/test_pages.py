"""Every example of the documentation runs, and says what the page says."""

from __future__ import annotations

import re
import shutil
from importlib import import_module
from pathlib import Path

import pytest
from tests.docs.pages import ROOT, blocks, run

import twofold

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=name)
def test_a_page_does_what_it_says(page: Path, tmp_path: Path) -> None:
    if "curl " in page.read_text() and not shutil.which("curl"):
        pytest.skip("curl is not installed")
    run(page, tmp_path)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=name)
def test_a_page_links_to_what_there_is(page: Path) -> None:
    for link in LINK.findall(page.read_text("utf-8")):
        if not link.startswith("http"):
            assert (page.parent / link).exists(), link


def test_the_first_application_has_forty_lines() -> None:
    [first] = [block for block in blocks(ROOT / "README.md") if block.language == "python"]
    assert len(first.text.splitlines()) <= 40


def test_each_guarantee_names_tests_that_there_are() -> None:
    page = (ROOT / "docs/explanation/guarantees.md").read_text("utf-8")
    named = re.findall(r"`((?:tests|src)/[\w/]+\.py)(?:::(\w+))?`", page)
    assert len(named) > 15
    for path, test in named:
        assert (ROOT / path).exists(), path
        assert not test or f"def {test}(" in (ROOT / path).read_text("utf-8"), f"{path}::{test}"


@pytest.mark.parametrize("page", sorted((ROOT / "docs/reference").glob("*.md")), ids=name)
def test_the_reference_names_what_there_is(page: Path) -> None:
    named = re.findall(r"^::: ([\w.]+)$", page.read_text("utf-8"), re.MULTILINE)
    assert named or page.name == "index.md"
    for path in named:
        module, _, attribute = path.rpartition(".")
        try:
            import_module(path)
        except ModuleNotFoundError:
            assert hasattr(import_module(module), attribute), path


def test_every_public_name_stands_in_the_reference() -> None:
    pages = "\n".join(page.read_text("utf-8") for page in (ROOT / "docs/reference").glob("*.md"))
    modules = [import_module(path) for path in re.findall(r"^::: ([\w.]+)$", pages, re.MULTILINE)]
    assert [each for each in twofold.__all__ if not any(hasattr(module, each) for module in modules)] == []


def architecture_of(change: str) -> list[str]:
    """Return the files that the page names for a change."""
    page = (ROOT / "docs/explanation/architecture.md").read_text("utf-8")
    [row] = [line for line in page.splitlines() if line.startswith(f"| {change} |")]
    return re.findall(r"`(src/[\w/]+\.\w+)`", row)


@pytest.mark.parametrize(
    "change",
    [
        "add a state to the life of a read model",
        "add an engine",
        "change how a conflict is retried",
        "add a column to the log",
    ],
)
def test_the_architecture_says_in_at_most_three_files_where_a_change_belongs(change: str) -> None:
    files = architecture_of(change)
    assert 1 <= len(files) <= 3
    assert [each for each in files if not (ROOT / each).is_file()] == []


def test_the_architecture_names_every_folder() -> None:
    page = (ROOT / "docs/explanation/architecture.md").read_text("utf-8")
    folders = [each.parent.name for each in (ROOT / "src/twofold").glob("*/__init__.py")]
    modules = [each.name for each in (ROOT / "src/twofold").glob("*.py") if not each.name.startswith("_")]
    assert [each for each in [*(f"{folder}/" for folder in folders), *modules] if f"`{each}`" not in page] == []
