"""PostgreSQL: one log for many processes on many hosts, committed in groups."""

from twofold.engines.postgres.database import PostgresDatabase
from twofold.engines.postgres.log.event_log import PostgresEventLog
from twofold.engines.postgres.read_models.read_database import PostgresReadDatabase

__all__ = ["PostgresDatabase", "PostgresEventLog", "PostgresReadDatabase"]
