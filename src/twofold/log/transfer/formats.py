"""The formats of files, by the ends of their names."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import cast

from twofold.arguments import check_instance, check_port
from twofold.log.event_store import EventStore
from twofold.log.transfer.header import LogReader, LogWriter
from twofold.log.transfer.json_lines import JsonLinesReader, JsonLinesWriter
from twofold.options import LogOptions
from twofold.ports.maintenance import PortableLog

JSON_LINES, PARQUET = ".jsonl", ".parquet"


def writer(path: Path, options: LogOptions) -> LogWriter:
    """Return what writes a file.

    Raises:
        ModuleNotFoundError: the packages for its format are missing.
    """
    if path.suffix == JSON_LINES:
        return JsonLinesWriter(path, options.file_part)
    made: LogWriter = _parquet().ParquetWriter(path, options)
    return made


def reader(path: Path, options: LogOptions) -> LogReader:
    """Return what reads a file; raises what `writer` raises, and what `JsonLinesReader` does."""
    if path.suffix == JSON_LINES:
        return JsonLinesReader(path, options.file_part)
    made: LogReader = _parquet().ParquetReader(path, options)
    return made


def checked_path(path: str | Path) -> Path:
    """Return the path of a file as it was given to a public function.

    Raises:
        TypeError: it is none.
        ValueError: the name of the file tells no format.
    """
    check_instance("path", path, (str, Path))
    if (found := Path(path)).suffix not in (JSON_LINES, PARQUET):
        raise ValueError(f"`path` is {str(path)!r}, which tells no format; let it end in {JSON_LINES} or {PARQUET}")
    return found


def portable(store: EventStore) -> PortableLog:
    """Return the log of a store.

    Raises:
        TypeError: it is of an engine whose logs cannot be exported.
    """
    check_port("store", store.log, "store whose log can be exported and imported", "restore", "read_commands")
    return cast(PortableLog, store.log)


def _parquet() -> ModuleType:
    try:
        import duckdb  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("Parquet needs DuckDB: pip install 'twofold[duckdb]'") from error
    return import_module("twofold.log.transfer.parquet")
