"""Numbered SQL files that bring a database up to date. One number is one change, on every engine."""

from __future__ import annotations

import re
from importlib import resources
from typing import NamedTuple

from twofold.errors import NewerStorageError


class Migration(NamedTuple):
    """One file, `0001_event_log.sql`."""

    number: int
    name: str
    sql: str


def load(package: str) -> list[Migration]:
    """Return the migrations in the `migrations` folder of an engine's package, in order.

    Raises:
        ValueError: a file has another kind of name, or the numbers are not 1, 2, 3, …
    """
    migrations = []
    files = resources.files(package).joinpath("migrations").iterdir()
    for entry in sorted((file for file in files if file.name.endswith(".sql")), key=lambda file: file.name):
        match = re.fullmatch(r"(\d{4})_(\w+)\.sql", entry.name)
        if match is None:
            raise ValueError(f"migration {entry.name} of {package} is not named like 0001_event_log.sql")
        migrations.append(Migration(int(match[1]), match[2], entry.read_text("utf-8")))
    if [m.number for m in migrations] != list(range(1, len(migrations) + 1)):
        raise ValueError(f"migrations of {package} are not numbered from 1 without a gap")
    return migrations


def pending(migrations: list[Migration], applied: int) -> list[Migration]:
    """Return what is still to be applied to a database at number `applied`.

    Raises:
        NewerStorageError: the database is ahead of this code.
    """
    if applied > len(migrations):
        raise NewerStorageError(
            f"the database is at migration {applied}, this release of twofold knows {len(migrations)}; upgrade twofold"
        )
    return migrations[applied:]
