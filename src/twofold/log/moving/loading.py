"""Finds the function `transform` in a file of Python."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import cast

from twofold.arguments import check_instance
from twofold.log.moving.plain_event import Transform

FUNCTION = "transform"


def load_transform(path: str | Path) -> Transform:
    """Return the function `transform` of a file.

    Raises:
        TypeError: the path is none.
        ValueError: the file cannot be run, or has no such function.
        OSError: it cannot be read.
    """
    check_instance("path", path, (str, Path))
    Path(path).read_bytes()  # raises what is more telling than what a program that is missing raises
    try:
        found = runpy.run_path(str(path), run_name=f"twofold_{FUNCTION}").get(FUNCTION)
    except Exception as error:
        raise ValueError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise ValueError(f"{path} has no function {FUNCTION}; write `def {FUNCTION}(source: SourceEvent): ...` in it")
    return cast(Transform, found)
