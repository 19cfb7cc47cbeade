"""The embedded engine: one SQLite file, one writer thread, many readers."""

from twofold.engines.sqlite.database import SqliteDatabase
from twofold.engines.sqlite.log.event_log import SqliteEventLog
from twofold.engines.sqlite.read_models.read_database import SqliteReadDatabase

__all__ = ["SqliteDatabase", "SqliteEventLog", "SqliteReadDatabase"]
