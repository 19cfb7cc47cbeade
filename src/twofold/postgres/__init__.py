"""PostgreSQL: one log for many processes on many hosts, committed in groups."""

from twofold.postgres.database import PostgresDatabase
from twofold.postgres.event_log import PostgresEventLog
from twofold.postgres.read_database import PostgresReadDatabase

__all__ = ["PostgresDatabase", "PostgresEventLog", "PostgresReadDatabase"]
