"""Every example of the documentation runs, and says what the page says."""

from __future__ import annotations

import re
import shutil
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
from tests.docs.pages import PEERS, POSTGRES, ROOT, blocks, run

import twofold
import twofold.fastapi
import twofold.inspection
import twofold.processes
import twofold.testing

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PICTURE = re.compile(r"""\bsrc(?:set)?="([^"]+)\"""")
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=name)
def test_a_page_does_what_it_says(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    text = page.read_text("utf-8")
    if "curl " in text and not shutil.which("curl"):
        pytest.skip("curl is not installed")
    if not all(map(find_spec, PEERS.get(page.name, ()))):
        pytest.skip("run by `make peers`")
    new_database = request.getfixturevalue("new_database") if POSTGRES in text else None
    run(page, tmp_path, postgres_url=new_database(18) if new_database else "")


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=name)
def test_a_page_links_to_what_there_is(page: Path) -> None:
    for link in LINK.findall(page.read_text("utf-8")):
        if not link.startswith("http"):
            assert (page.parent / link).exists(), link


def test_the_first_application_has_eighteen_lines() -> None:
    [first] = [block for block in blocks(ROOT / "README.md") if block.language == "python"]
    assert len(list(filter(str.strip, first.text.splitlines()))) <= 18


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_page_shows_pictures_that_there_are(page: Path) -> None:
    for picture in PICTURE.findall(page.read_text("utf-8")):
        assert (page.parent / picture).is_file(), picture


def test_each_guarantee_names_tests_that_there_are() -> None:
    page = (ROOT / "docs/explanation/guarantees.md").read_text("utf-8")
    named = re.findall(r"`((?:tests|src)/[\w/]+\.py)(?:::(\w+))?`", page)
    assert len(named) > 15
    assert not re.search(r"^[^|\n].*\n\|", page, re.MULTILINE), "a row stands outside of the table"
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


@pytest.mark.parametrize(
    "package",
    [twofold, twofold.fastapi, twofold.inspection, twofold.processes, twofold.testing],
    ids=lambda package: package.__name__,
)
def test_every_public_name_stands_in_the_reference(package: ModuleType) -> None:
    """A module's page shows what the module defines, and not what it imports."""
    pages = "\n".join(page.read_text("utf-8") for page in (ROOT / "docs/reference").glob("*.md"))
    shown = set(re.findall(r"^::: ([\w.]+)$", pages, re.MULTILINE))
    defined = {name: getattr(getattr(package, name), "__module__", None) or "" for name in package.__all__}
    assert [
        name for name, module in defined.items()
        if module.startswith("twofold") and not {module, f"{module}.{name}"} & shown
    ] == []  # fmt: skip


@pytest.mark.parametrize("index", ["README.md", "docs/index.md"])
def test_every_page_can_be_found(index: str) -> None:
    page = ROOT / index
    linked = {(page.parent / link).resolve() for link in LINK.findall(page.read_text("utf-8"))}
    pages = {*(ROOT / "docs/how-to").glob("*.md"), *(ROOT / "docs/explanation").glob("*.md"), ROOT / "docs/tutorial.md"}
    assert pages <= linked


@pytest.mark.parametrize("folder", ["decisions", "reference"])
def test_every_page_of_a_folder_stands_in_its_index(folder: str) -> None:
    index = ROOT / "docs" / folder / "index.md"
    linked = {(index.parent / link).resolve() for link in LINK.findall(index.read_text("utf-8"))}
    assert {page for page in index.parent.glob("*.md") if page != index} <= linked


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
