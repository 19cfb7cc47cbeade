"""DuckDB: read models for reports, in one file of columns that one process owns; Parquet snapshots for all others."""

try:
    import duckdb  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("read models on DuckDB need its driver: pip install 'twofold[duckdb]'") from error

from twofold.engines.duckdb.parquet_snapshots import ParquetSnapshots, Snapshot
from twofold.engines.duckdb.read_database import DuckDbReadDatabase
from twofold.engines.duckdb.snapshots import Manifest

__all__ = ["DuckDbReadDatabase", "Manifest", "ParquetSnapshots", "Snapshot"]
