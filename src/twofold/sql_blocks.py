"""SQL is source code: statements live in `queries.sql` files, in blocks that begin with `-- name: …`."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources


@cache
def sql_blocks(package: str) -> dict[str, str]:
    """Return the blocks of an engine's `queries.sql` by name."""
    text = resources.files(package).joinpath("queries.sql").read_text("utf-8")
    parts = re.split(r"^-- name: (\w+)$", text, flags=re.MULTILINE)[1:]
    return {name: sql.strip() for name, sql in zip(parts[::2], parts[1::2], strict=True)}
