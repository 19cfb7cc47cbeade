"""All that can be tuned, in one place: one frozen class for each machine, passed in where the machine is made.

`Application(url, options=Options(synchronizer=SynchronizerOptions(lease=30)))`. The defaults are what was measured;
each field says its unit and what gets worse when it is raised or lowered.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class LogOptions:
    """Event store, subscriptions and everything that reads the log in chunks."""


@dataclass(frozen=True, kw_only=True)
class CommandOptions:
    """Command bus: attempts and waiting after conflicts."""


@dataclass(frozen=True, kw_only=True)
class QueryOptions:
    """Query bus, read models, and waiting for consistency."""


@dataclass(frozen=True, kw_only=True)
class SynchronizerOptions:
    """Workers, leases, steps, retries, rebuilds."""


@dataclass(frozen=True, kw_only=True)
class SqliteOptions:
    """SQLite: its writer, its readers, looking for the commits of other processes."""


@dataclass(frozen=True, kw_only=True)
class PostgresOptions:
    """PostgreSQL: connections, deadlines, group commit, listening."""


@dataclass(frozen=True, kw_only=True)
class DuckDbOptions:
    """DuckDB: the file and its Parquet snapshots."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of all machines of an application."""

    log: LogOptions = field(default_factory=LogOptions)
    commands: CommandOptions = field(default_factory=CommandOptions)
    queries: QueryOptions = field(default_factory=QueryOptions)
    synchronizer: SynchronizerOptions = field(default_factory=SynchronizerOptions)
    sqlite: SqliteOptions = field(default_factory=SqliteOptions)
    postgres: PostgresOptions = field(default_factory=PostgresOptions)
    duckdb: DuckDbOptions = field(default_factory=DuckDbOptions)
