"""The page of what is refused is what the tests say."""

from __future__ import annotations

from difflib import unified_diff

from tests.docs.refusals import FILE, PARAGRAPHS, ROOT, page


def test_the_page_says_what_the_tests_prove() -> None:
    agreed, found = FILE.read_text("utf-8").splitlines(), page().splitlines()
    change = "\n".join(unified_diff(agreed, found, "the page", "the tests", lineterm="", n=0))
    assert not change, f"run `make surface` and commit the page:\n{change}"


def test_each_module_of_refusals_stands_on_the_page() -> None:
    named = {module for paragraph in PARAGRAPHS for module in paragraph.modules}
    there = {str(path.relative_to(ROOT)) for path in (ROOT / "tests/refusals").glob("test_*.py")}
    assert there <= named
