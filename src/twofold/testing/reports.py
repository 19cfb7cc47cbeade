"""How scenarios say what they expected, and what came."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import NoReturn


def difference(expected: Sequence[object], actual: Sequence[object]) -> str:
    """Return both side by side, line by line."""
    lines = difflib.ndiff([repr(each) for each in expected], [repr(each) for each in actual])
    return "\n".join(line.rstrip() for line in lines)


def fail(text: str, cause: Exception | None = None) -> NoReturn:
    """Fail a test.

    Raises:
        AssertionError: always.
    """
    raise AssertionError(text) from cause
