"""Parquet snapshots: what the read models of a DuckDB file hold at one moment, for any number of processes to read.

A snapshot is a folder with a file for each read model and a manifest. It gets its name by a rename, when all of it is
on the disk, and loses it by a rename before it is removed: there is never a torn one. Its files are never changed. The
last snapshots stay, and each stays for a while after the next one came, so that its readers can finish.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import duckdb
import msgspec

from twofold.engines.duckdb.statements import run
from twofold.engines.duckdb.tables import tables, views
from twofold.options import DuckDbOptions
from twofold.ports.checkpoints import SQL, Generation
from twofold.ports.sql import literal, quoted

MANIFEST = "manifest.json"
_NAME = re.compile(r"snapshot-(\d{9})")


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot says of itself. stored: version with care."""

    number: int
    """From 1."""
    taken_at: datetime
    positions: Mapping[str, int]
    """How far each projection had come."""
    tables: tuple[str, ...]
    """The names under which rows can be asked for."""


def write_snapshot(connection: duckdb.DuckDBPyConnection, folder: Path, options: DuckDbOptions) -> Manifest:
    """Write all that the read models hold at one moment, and remove the snapshots that no process needs any more."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    unfinished = folder / ".unfinished"  # of a process that was killed: only one has the database open
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        number = max(numbers(folder), default=0) + 1
        manifest = _write_files(connection, unfinished, number)
        unfinished.rename(path_of(folder, number))
        _sync(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    _remove_old(folder, options)
    return manifest


def numbers(folder: Path) -> list[int]:
    """Return which snapshots there are, in order."""
    found = (_NAME.fullmatch(each.name) for each in folder.iterdir()) if folder.is_dir() else ()
    return sorted(int(match[1]) for match in found if match)


def path_of(folder: Path, number: int) -> Path:
    """Return where a snapshot is."""
    return folder / f"snapshot-{number:09}"


def _remove_old(folder: Path, options: DuckDbOptions) -> None:
    """Remove all but the last snapshots, and those that were the latest one a moment ago."""
    for removed in folder.glob(".removed-*"):  # by a process that was killed
        shutil.rmtree(removed, ignore_errors=True)
    there, now = numbers(folder), time.time()
    for number, successor in pairwise(there[: 1 - options.snapshots_kept or None]):
        came_at = (path_of(folder, successor) / MANIFEST).stat().st_mtime
        if now - came_at >= options.snapshots_kept_for:
            shutil.rmtree(path_of(folder, number).rename(folder / f".removed-{number}"), ignore_errors=True)


def _write_files(connection: duckdb.DuckDBPyConnection, folder: Path, number: int) -> Manifest:
    connection.execute("BEGIN")  # all of it is of the moment of its first statement
    try:
        sources = _sources(connection)
        positions = {each.name: _position(connection, each) for each in _live(connection)}
        for name, source in sources.items():
            _write_file(connection, source, folder / f"{name}.parquet")
    finally:
        connection.execute("ROLLBACK")
    manifest = Manifest(number=number, taken_at=datetime.now(UTC), positions=positions, tables=tuple(sources))
    (folder / MANIFEST).write_bytes(msgspec.json.encode(manifest))
    for path in [*folder.iterdir(), folder]:
        _sync(path)
    return manifest


def _sources(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """Return what each name shows: a read model's table with all its columns, or a view of a SQL projection."""
    there = tables(connection)
    served = {each.name: f"{each.name}{each.suffix}" for each in _live(connection)}
    return {name: served[name] if served.get(name) in there else name for name in sorted(views(connection))}


def _live(connection: duckdb.DuckDBPyConnection) -> list[Generation]:
    generations = [Generation(*row) for row in run(connection, SQL["generations"], {})]
    return [each for each in generations if each.role == "serving"]


def _position(connection: duckdb.DuckDBPyConnection, generation: Generation) -> int:
    of = {"name": generation.name, "generation": generation.number}
    return run(connection, SQL["position_of"], of)[0][0] or 0


def _write_file(connection: duckdb.DuckDBPyConnection, source: str, path: Path) -> None:
    connection.execute(f"COPY (FROM {quoted(source)}) TO {literal(path)} (FORMAT parquet, COMPRESSION zstd)")


def _sync(path: Path) -> None:
    """Make sure that a file, or what a folder holds, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
