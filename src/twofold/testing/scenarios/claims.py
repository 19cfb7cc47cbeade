"""A `when` that no `then` follows checks nothing: the test that holds it fails, and is told the line.

1. `when` opens a claim, with the line of the test that it stands in.
2. `then…` closes it, and so does a look at what came of it.
3. At the end of a test, the pytest plug-in asks for the claims that are still open, and fails the test.
4. Without the plug-in, the running `unittest.TestCase` or `pytest.Item` is found among the callers, and the claim is
   checked in its clean-up.
5. Outside of both, a claim that is thrown away open gives an `UnfinishedScenarioWarning`.
"""

from __future__ import annotations

import linecache
import os
import sys
import unittest
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

PACKAGE = __name__.rpartition(".")[0]


class UnfinishedScenarioWarning(UserWarning):
    """A scenario ended with a `when`, outside of any test."""


class Claim:
    """A `when` that waits for its `then`."""

    def __init__(self) -> None:
        self.is_open = True
        self.place, self.line = _place()
        self._is_watched = watch(self)

    def close(self) -> None:
        """Note that a `then` has come."""
        self.is_open = False

    def check(self) -> None:
        """Make sure that a `then` has come.

        Raises:
            AssertionError: none has.
        """
        if self.is_open:
            self.close()
            raise AssertionError(str(self))

    def __str__(self) -> str:
        return f"{self.place}: a `when` without a `then` checks nothing; say what is expected\n  {self.line}".rstrip()

    def __del__(self) -> None:
        if self.is_open and not self._is_watched:
            warnings.warn(str(self), UnfinishedScenarioWarning, stacklevel=2)


def watch(claim: Claim) -> bool:
    """See to it that the running test checks a claim; return whether there is one."""
    plugin: Any = sys.modules.get("pytest_twofold")
    if plugin and plugin.watching:
        plugin.watching[-1].append(claim)
        return True
    clean_up = next(_clean_ups(), None)
    if clean_up is not None:
        clean_up(claim.check)
    return clean_up is not None


def _clean_ups() -> Iterator[Callable[[Callable[[], object]], object]]:
    """Return how the tests among the callers register a clean-up, the innermost first."""
    pytest: Any = sys.modules.get("pytest")
    for frame in _callers():
        for value in list(frame.f_locals.values()):
            if isinstance(value, unittest.TestCase):
                yield value.addCleanup
            elif pytest and isinstance(value, pytest.Item):
                yield value.addfinalizer


def _place() -> tuple[str, str]:
    """Return the file and number of the test's line, and the line."""
    for frame in _callers():
        if not str(frame.f_globals.get("__name__", "")).startswith(PACKAGE):
            file, number = frame.f_code.co_filename, frame.f_lineno
            return f"{file.removeprefix(f'{Path.cwd()}{os.sep}')}:{number}", linecache.getline(file, number).strip()
    return "?", ""


def _callers() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back
