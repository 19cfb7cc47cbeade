"""SQL as source code: statements in `queries.sql` files, in blocks that begin with `-- name: …`, and quoted names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources


@cache
def sql_blocks(package: str, file: str = "queries.sql", **fragments: str) -> dict[str, str]:
    """Return the blocks of an SQL file in a package by name.

    Args:
        package: where the file is.
        file: its name.
        fragments: what takes the place of their names in braces, as of `{columns}`.
    """
    text = resources.files(package).joinpath(file).read_text("utf-8")
    parts = re.split(r"^-- name: (\w+)$", text, flags=re.MULTILINE)[1:]
    blocks = {name: sql.strip() for name, sql in zip(parts[::2], parts[1::2], strict=True)}
    for fragment, value in fragments.items():
        blocks = {name: sql.replace(f"{{{fragment}}}", value) for name, sql in blocks.items()}
    return blocks


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


def referring_first(tables: Sequence[str], references: Iterable[tuple[str, str]]) -> list[str]:
    """Return tables so that each comes before those that it refers to, as far as they do not refer to each other.

    Args:
        tables: their names.
        references: pairs of a table and one that it refers to.
    """
    referred_by: dict[str, set[str]] = {table: set() for table in tables}
    for table, referred in references:
        if table != referred and table in referred_by and referred in referred_by:
            referred_by[referred].add(table)
    ordered: list[str] = []
    while referred_by:
        free = [table for table, others in referred_by.items() if not others & referred_by.keys()] or [*referred_by]
        ordered += free
        for table in free:
            del referred_by[table]
    return ordered


def names(columns: Iterable[str], prefix: str = "") -> str:
    """Return column names as a list in SQL."""
    return ", ".join(f"{prefix}{quoted(name)}" for name in columns)
