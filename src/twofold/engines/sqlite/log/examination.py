"""What an operator should know of the file and the machine beneath a log on SQLite."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from twofold.engines.sqlite.log.reader import SQL
from twofold.options import InspectionOptions
from twofold.ports.maintenance import Examination, Symptom

_OVER_NETWORKS = {
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "afs",
    "ceph",
    "glusterfs",
    "fuse.sshfs",
    "fuse.glusterfs",
}
_MOUNTS = Path("/proc/self/mounts")


def examine(reader: sqlite3.Connection, path: Path, options: InspectionOptions) -> Examination:
    """Return what the file and its disk are like, and what is wrong with that."""
    wal, disk = path.with_name(path.name + "-wal"), shutil.disk_usage(path.parent)
    wal_size = wal.stat().st_size if wal.exists() else 0
    [journal], [last] = reader.execute("PRAGMA journal_mode").fetchone(), reader.execute(SQL["last_time"]).fetchone()
    facts = {
        "engine": f"SQLite {sqlite3.sqlite_version}", "file": str(path), "journal mode": journal,
        "size": _bytes(path.stat().st_size), "write-ahead log": _bytes(wal_size), "free": _bytes(disk.free),
    }  # fmt: skip
    return Examination(facts, [*_of_disk(path, wal_size, disk.free, options), *of_clock(last, options)])


def of_clock(last: int, options: InspectionOptions) -> Iterator[Symptom]:
    """Yield what the time of the last event says of the clock of this machine."""
    ahead = last / 1e6 - time.time()
    if ahead > options.clock_difference:
        yield Symptom("TF202", "clock", f"The last event was recorded {ahead:,.1f} s after the time of this machine.")


def file_system_of(path: Path, mounts: str) -> str:
    """Return the type of the file system that a file is on, given the text of the kernel's table of mounts."""
    found = {Path(place): kind for _, place, kind, *_ in (line.split() for line in mounts.splitlines())}
    return next((found[each] for each in (path, *path.parents) if each in found), "")


def _of_disk(path: Path, wal_size: int, free: int, options: InspectionOptions) -> Iterator[Symptom]:
    if free < options.free_disk:
        yield Symptom("TF203", str(path), f"The disk of {path} has {_bytes(free)} free.")
    kind = file_system_of(path.resolve(), _MOUNTS.read_text()) if _MOUNTS.exists() else ""
    if kind in _OVER_NETWORKS:
        yield Symptom("TF204", str(path), f"{path} is on a file system of the type {kind}, over a network.")
    if wal_size > options.large_wal:
        yield Symptom("TF205", str(path), f"The write-ahead log of {path} has {_bytes(wal_size)}.")


def _bytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
