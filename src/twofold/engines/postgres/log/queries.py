"""The named blocks of `queries.sql`."""

from __future__ import annotations

from functools import cache

from twofold.engines.postgres.log.event_columns import COVERED, SELECTED
from twofold.ports.sql import sql_blocks


def query(name: str) -> bytes:
    """Return a block by its name."""
    return _blocks()[name]


@cache
def _blocks() -> dict[str, bytes]:
    return {
        name: sql.encode()
        for name, sql in sql_blocks("twofold.engines.postgres.log", columns=SELECTED, covered=COVERED).items()
    }
