"""Whether a role may have the connections that Twofold needs: told at the start, by name, and not by waiting."""

from __future__ import annotations

import asyncio

from twofold.engines.postgres.connection import Connection
from twofold.errors import StorageUnavailableError

NEEDED = 4
"""Connections of a process at the least: one for questions, one for appends, two to listen."""
NEEDED_OF_POOLER = 2
"""Connections to the server at the least that a pooler must lend at one moment: while one holds a transaction, the
other one goes on."""
_LIMITS = """
    SELECT 'role ' || rolname, 'ALTER ROLE ' || quote_ident(rolname) || ' CONNECTION LIMIT', rolconnlimit
    FROM pg_roles WHERE rolname = session_user AND NOT rolsuper AND rolconnlimit >= 0
    UNION ALL
    SELECT 'database ' || datname, 'ALTER DATABASE ' || quote_ident(datname) || ' CONNECTION LIMIT', datconnlimit
    FROM pg_database, pg_roles
    WHERE datname = current_database() AND rolname = session_user AND NOT rolsuper AND datconnlimit >= 0
    UNION ALL
    SELECT 'server', 'set max_connections to superuser_reserved_connections +',
        current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer
    ORDER BY 3"""


async def refuse_small_limits(connection: Connection) -> None:
    """Refuse a role, database or server that takes fewer connections than a process needs.

    Raises:
        StorageUnavailableError: the text names what is limited, and the statement that raises it.
        psycopg.Error: the server did not answer.
    """
    for what, remedy, limit in await (await connection.execute(_LIMITS)).fetchall():
        if limit < NEEDED:
            raise StorageUnavailableError(
                f"the {what} takes {limit} connections, but each process of Twofold needs {NEEDED} at the least: one "
                f"for questions, one for appends, two to listen. {remedy} {NEEDED} or more"
            )


async def lends_two(first: Connection, second: Connection, patience: float) -> bool:
    """Return whether a pooler lends a second connection to the server while the first one is in a transaction.

    Raises:
        psycopg.Error: the pooler did not answer.
    """
    async with first.transaction():
        await first.execute("SELECT 1")
        try:
            async with asyncio.timeout(patience):
                await second.execute("SELECT 1")
        except TimeoutError:
            return False
    return True


def small_pool(seconds: float) -> StorageUnavailableError:
    """Return what is raised about a pooler that lends no second connection."""
    return StorageUnavailableError(
        f"the pooler has not lent a second connection to the server within {seconds:g} s; each process of Twofold "
        f"needs {NEEDED_OF_POOLER} at the least at one moment: raise default_pool_size (PgBouncer) or the limit of "
        f"connections of the role"
    )
