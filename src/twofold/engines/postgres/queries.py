"""The named blocks of `queries.sql`."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources


def query(name: str) -> bytes:
    """Return a block by its name."""
    return _blocks()[name]


@cache
def _blocks() -> dict[str, bytes]:
    text = resources.files("twofold.engines.postgres").joinpath("queries.sql").read_text("utf-8")
    parts = re.split(r"^-- name: (\w+)$", text, flags=re.MULTILINE)[1:]
    return {name: sql.strip().encode() for name, sql in zip(parts[::2], parts[1::2], strict=True)}
