"""Everything in memory, for an application's own unit tests: `Application("memory://")`."""

from twofold.engines.memory.database import MemoryDatabase
from twofold.engines.memory.event_log import MemoryEventLog
from twofold.engines.memory.read_database import MemoryReadDatabase

__all__ = ["MemoryDatabase", "MemoryEventLog", "MemoryReadDatabase"]
