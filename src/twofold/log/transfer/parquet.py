"""Folders of Parquet files, for DuckDB, pandas and all else that reads `log.parquet/events-*.parquet`.

1. An export writes file after file into `FOLDER.part`, each under another name until it is whole. Run again, it goes on
   behind the last one.
2. `header.json` and `trailer.json` say what the first and the last line of JSON Lines do. The folder's name comes last.
3. An import compares the digest over all files before it believes a row.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import IO, Any

import duckdb
import msgspec
from msgspec.structs import astuple

from twofold.errors import LogFileError
from twofold.log.transfer.header import Header, Part, Trailer, Written
from twofold.log.transfer.json_lines import (
    count_intact,
    lock,
    parsed_header,
    parsed_trailer,
    refuse_damaged,
    sync,
    unfinished,
)
from twofold.messages.stored_event import COLUMNS, ColumnKind, StoredEvent
from twofold.options import LogOptions
from twofold.ports.maintenance import StoredCommand
from twofold.ports.sql import literal

HEADER, TRAILER, LOCK = "header.json", "trailer.json", "lock"
EVENTS, COMMANDS = "events", "commands"
_SETTINGS: dict[str, Any] = {"autoinstall_known_extensions": False, "autoload_known_extensions": False}
_encode = msgspec.json.Encoder().encode

_SQL_TYPES = {ColumnKind.NUMBER: "BIGINT", ColumnKind.LARGE: "BIGINT"}
_COLUMNS = {
    EVENTS: ", ".join(f"{name} {_SQL_TYPES.get(kind, 'VARCHAR')}" for name, kind in COLUMNS.items()),
    COMMANDS: "command_id VARCHAR, content_hash VARCHAR, result VARCHAR, name VARCHAR, first_position BIGINT, "
    "last_position BIGINT",
}
_AS_VALUE = {ColumnKind.ID: bytes.hex, ColumnKind.JSON: bytes.decode}
_AS_STORED = {ColumnKind.ID: bytes.fromhex, ColumnKind.JSON: str.encode}
_KINDS = list(COLUMNS.values())


class ParquetWriter:
    """A `LogWriter` of Parquet.

    Args:
        path: of the folder.
        options: how many rows a file has.
    """

    def __init__(self, path: Path, options: LogOptions) -> None:
        self._path, self._unfinished = path, unfinished(path)
        self._most = options.parquet_rows
        self._connection = duckdb.connect(":memory:", config=_SETTINGS)
        self._waiting: dict[str, list[tuple[Any, ...]]] = {EVENTS: [], COMMANDS: []}
        self._counts = {EVENTS: 0, COMMANDS: 0}
        self._held: IO[bytes] | None = None

    def begin(self, header: Header) -> tuple[Header, Written]:
        """Do what `LogWriter.begin` promises."""
        if self._path.exists():
            raise LogFileError(self._path, "it exists already; remove it, or name another one")
        self._unfinished.mkdir(parents=True, exist_ok=True)
        self._held = (self._unfinished / LOCK).open("wb")
        lock(self._held, self._path)
        beginning = self._unfinished / HEADER
        if not beginning.exists():
            _write(beginning, _encode(header) + b"\n")
            return header, Written()
        begun = parsed_header(beginning, beginning.read_bytes())
        return begun, self._take_up(begun)

    def write(self, events: Sequence[StoredEvent], commands: Sequence[StoredCommand]) -> None:
        """Do what `LogWriter.write` promises; rows wait until they fill a file."""
        for kind, rows in ((EVENTS, map(_event_values, events)), (COMMANDS, map(_command_values, commands))):
            self._waiting[kind].extend(rows)
            if len(self._waiting[kind]) >= self._most:
                self._write_file(kind)

    def finish(self) -> Trailer:
        """Do what `LogWriter.finish` promises."""
        for kind in self._waiting:
            if self._waiting[kind]:
                self._write_file(kind)
        digest = _digest(self._unfinished)
        trailer = Trailer(events=self._counts[EVENTS], commands=self._counts[COMMANDS], digest=digest)
        _write(self._unfinished / TRAILER, _encode(trailer) + b"\n")
        (self._unfinished / LOCK).unlink()
        for path in self._unfinished.iterdir():
            sync(path)
        sync(self._unfinished)
        self._unfinished.rename(self._path)
        sync(self._path.parent)
        return trailer

    def close(self) -> None:
        """Do what `LogWriter.close` promises."""
        self._connection.close()
        if self._held is not None:
            self._held.close()

    def _write_file(self, kind: str) -> None:
        rows, self._waiting[kind] = self._waiting[kind], []
        path = self._file(kind, len(_files(self._unfinished, kind)) + 1)
        being_written = path.with_suffix(".new")
        with self._connection.cursor() as cursor:
            cursor.execute(f"CREATE OR REPLACE TABLE rows_ ({_COLUMNS[kind]})")
            with cursor.appender("rows_") as appender:
                appender.append_rows(rows)
            cursor.execute(f"COPY rows_ TO {literal(being_written)} (FORMAT parquet, COMPRESSION zstd)")
        being_written.rename(path)
        self._counts[kind] += len(rows)

    def _take_up(self, header: Header) -> Written:
        """Read what an interrupted export has left, and remove all files from the first one on that is not whole."""
        found, is_whole = Written(), True
        for kind in (EVENTS, COMMANDS):
            for number, path in enumerate(_files(self._unfinished, kind), 1):
                part = self._whole(path, header, found.last) if is_whole and path == self._file(kind, number) else None
                if part is None:  # or is missing: what stands behind it would leave a gap
                    is_whole = False
                    path.unlink()
                    continue
                self._counts[kind] += len(part.events) + len(part.commands)
                last = part.events[-1] if part.events else found.last
                command = part.commands[-1].command_id if part.commands else found.last_command
                found = Written(self._counts[EVENTS], self._counts[COMMANDS], last, command)
        return found

    def _file(self, kind: str, number: int) -> Path:
        return self._unfinished / f"{kind}-{number:06}.parquet"

    def _whole(self, path: Path, header: Header, last: StoredEvent | None) -> Part | None:
        with suppress(duckdb.Error, ValueError, TypeError):
            parts = list(_parts(self._connection, path, self._most))
            events = [row for part in parts for row in part.events]
            if count_intact(events, header, last) == len(events):
                return Part(path, 1, events, [each for part in parts for each in part.commands])
        return None


class ParquetReader:
    """A `LogReader` of Parquet.

    Args:
        path: of the folder.
        options: how many rows are read at once.

    Raises:
        LogFileError: it is no export, or the export was not finished.
    """

    def __init__(self, path: Path, options: LogOptions) -> None:
        self.path = path
        self._most = options.whole_log_chunk
        if not path.is_dir():
            raise LogFileError(path, "an export to Parquet is a folder, and this is none")
        beginning, end = path / HEADER, path / TRAILER
        self.header = parsed_header(beginning, beginning.read_bytes() if beginning.exists() else b"")
        self.trailer = parsed_trailer(end, end.read_bytes() if end.exists() else b"")

    def check(self) -> None:
        """Do what `LogReader.check` promises."""
        if _digest(self.path) == self.trailer.digest:
            return
        refuse_damaged(self.parts())
        raise LogFileError(self.path, "files were changed, are missing or were added; export it again")

    def parts(self) -> Generator[Part]:
        """Do what `LogReader.parts` promises."""
        with duckdb.connect(":memory:", config=_SETTINGS) as connection:
            for path in chain(_files(self.path, EVENTS), _files(self.path, COMMANDS)):
                try:
                    yield from _parts(connection, path, self._most)
                except (duckdb.Error, ValueError, TypeError) as error:
                    raise LogFileError(path, f"it cannot be read, and was changed or is damaged: {error}") from error


def _files(folder: Path, kind: str) -> list[Path]:
    return sorted(folder.glob(f"{kind}-*.parquet"))


def _parts(connection: duckdb.DuckDBPyConnection, path: Path, most: int) -> Iterator[Part]:
    """Iterate over the rows of one file."""
    is_events = path.name.startswith(EVENTS)
    names = ", ".join(COLUMNS if is_events else StoredCommand._fields)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {names} FROM read_parquet({literal(path)})")
        place = 1
        while rows := cursor.fetchmany(most):
            if is_events:
                yield Part(path, place, _events(rows), [])
            else:
                yield Part(path, place, [], list(map(_command, rows)))
            place += len(rows)


def _event_values(row: StoredEvent) -> tuple[Any, ...]:
    return tuple(
        [convert(value) if convert else value for convert, value in zip(_TO_VALUES, astuple(row), strict=True)]
    )


def _command_values(command: StoredCommand) -> tuple[Any, ...]:
    return command.command_id.hex(), command.content_hash.hex(), command.result.decode(), *command[3:]


def _events(rows: Sequence[tuple[Any, ...]]) -> list[StoredEvent]:
    columns = zip(*rows, strict=True)
    converted = [map(convert, each) if convert else each for convert, each in zip(_TO_STORED, columns, strict=True)]
    return list(map(StoredEvent, *converted))


def _command(row: tuple[Any, ...]) -> StoredCommand:
    command_id, content_hash, result, *others = row
    return StoredCommand(bytes.fromhex(command_id), bytes.fromhex(content_hash), result.encode(), *others)


_TO_VALUES: list[Any] = [_AS_VALUE.get(kind) for kind in _KINDS]
_TO_STORED: list[Any] = [_AS_STORED.get(kind) for kind in _KINDS]


def _digest(folder: Path) -> str:
    """Return the digest over all files but the trailer."""
    digest = blake2b(digest_size=16)
    for path in sorted(folder.iterdir()):
        if path.name == HEADER or path.suffix == ".parquet":
            digest.update(path.name.encode())
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()


def _write(path: Path, content: bytes) -> None:
    """Write a file that is there as a whole or not at all."""
    new = path.with_suffix(".new")
    new.write_bytes(content)
    new.rename(path)
