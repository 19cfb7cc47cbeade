"""Statements with `:names`, as all engines share them, run by DuckDB, which spells them `$names`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import duckdb


def run(connection: duckdb.DuckDBPyConnection, sql: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Run one statement with values for its `:names`, and return its rows."""
    spelled, wanted = _spelled(sql)
    return connection.execute(spelled, {name: values[name] for name in wanted}).fetchall()


@cache
def _spelled(sql: str) -> tuple[str, frozenset[str]]:
    """Return a statement in DuckDB's spelling, and its names: the driver refuses values that are not asked for."""
    mark = re.compile(r"(?<!:):([a-z]\w*)")
    return mark.sub(r"$\1", sql), frozenset(mark.findall(sql))
