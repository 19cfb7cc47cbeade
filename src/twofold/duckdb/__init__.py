"""DuckDB: read models for reports, in one file of columns that one process owns; Parquet snapshots for all others."""

from twofold.duckdb.parquet_snapshots import ParquetSnapshots, Snapshot
from twofold.duckdb.read_database import DuckDbReadDatabase
from twofold.duckdb.snapshots import Manifest

__all__ = ["DuckDbReadDatabase", "Manifest", "ParquetSnapshots", "Snapshot"]
