"""The embedded engine: one SQLite file, one writer thread, many readers."""

from twofold.sqlite.database import SqliteDatabase
from twofold.sqlite.event_log import SqliteEventLog
from twofold.sqlite.read_database import SqliteReadDatabase

__all__ = ["SqliteDatabase", "SqliteEventLog", "SqliteReadDatabase"]
