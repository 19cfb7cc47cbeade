"""The formats of files, by the ends of their names."""

from __future__ import annotations

from pathlib import Path

from twofold.errors import LogFileError
from twofold.log.transfer.header import LogReader, LogWriter
from twofold.log.transfer.json_lines import JsonLinesReader, JsonLinesWriter
from twofold.options import LogOptions

JSON_LINES, PARQUET = ".jsonl", ".parquet"


def writer(path: Path, options: LogOptions) -> LogWriter:
    """Return what writes a file.

    Raises:
        LogFileError: its name tells no format.
        ModuleNotFoundError: the packages for its format are missing.
    """
    if _format(path) == JSON_LINES:
        return JsonLinesWriter(path, options.file_part)
    raise LogFileError(path, "no parquet yet")


def reader(path: Path, options: LogOptions) -> LogReader:
    """Return what reads a file; raises what `writer` raises, and what `JsonLinesReader` does."""
    if _format(path) == JSON_LINES:
        return JsonLinesReader(path, options.file_part)
    raise LogFileError(path, "no parquet yet")


def _format(path: Path) -> str:
    if path.suffix in (JSON_LINES, PARQUET):
        return path.suffix
    raise LogFileError(path, f"its name tells no format; end it with {JSON_LINES} or {PARQUET}")
