"""The public surface changes only on purpose."""

from __future__ import annotations

import sys
from difflib import unified_diff

import pytest
from tests.docs.surface import FILE, surface


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="signatures of base classes differ between Pythons")
def test_the_public_surface_is_what_was_agreed() -> None:
    agreed, found = FILE.read_text("utf-8").splitlines(), surface().splitlines()
    change = "\n".join(unified_diff(agreed, found, "agreed", "found", lineterm="", n=0))
    assert not change, f"if this is meant, run `python -m tests.docs.surface` and commit the file:\n{change}"


def test_the_surface_is_the_same_each_time() -> None:
    assert surface() == surface()
    assert " at 0x" not in surface()
