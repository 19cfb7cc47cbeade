"""DuckDB: read models for reports, in one file of columns that one process owns; Parquet snapshots for all others."""

from twofold.duckdb.read_database import DuckDbReadDatabase

__all__ = ["DuckDbReadDatabase"]
