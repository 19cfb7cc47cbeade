"""SQL as source code: statements in `queries.sql` files, in blocks that begin with `-- name: …`, and quoted names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from importlib import resources


@cache
def sql_blocks(package: str, file: str = "queries.sql") -> dict[str, str]:
    """Return the blocks of an SQL file in a package by name."""
    text = resources.files(package).joinpath(file).read_text("utf-8")
    parts = re.split(r"^-- name: (\w+)$", text, flags=re.MULTILINE)[1:]
    return {name: sql.strip() for name, sql in zip(parts[::2], parts[1::2], strict=True)}


def in_format(sql: str) -> str:
    """Return a statement with `:names` as drivers with `%(names)s` want it, on an engine that locks rows."""
    sql = sql.replace("%", "%%").replace("/* FOR UPDATE */", "FOR UPDATE")
    return re.sub(r"(?<!:):([a-z]\w*)", r"%(\1)s", sql)


def quoted(name: str) -> str:
    """Return a name as SQL may read it, even if it is a word of SQL's own, such as `order`."""
    return f'"{name}"'


def literal(text: object) -> str:
    """Return a text as SQL writes it, where no parameter may stand."""
    return "'" + str(text).replace("'", "''") + "'"


def names(columns: Iterable[str], prefix: str = "") -> str:
    """Return column names as a list in SQL."""
    return ", ".join(f"{prefix}{quoted(name)}" for name in columns)
