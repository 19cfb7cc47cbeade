"""Here, the engine is PostgreSQL."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest
from tests.postgres_servers import PostgresServer


@pytest.fixture
def url(new_database: Callable[[int], str]) -> str:
    """Return the address of a fresh database on the newest server."""
    return new_database(18)


@pytest.fixture
def new_standby(own_server: Callable[..., PostgresServer]) -> Callable[[PostgresServer], PostgresServer]:
    """Return a function that starts a streaming standby of a server, which is restarted for it."""

    def start(primary: PostgresServer) -> PostgresServer:
        primary.stop()
        copy = primary.folder / "copy"
        subprocess.run(["cp", "-a", primary.data, copy], check=True)  # with its owner
        (copy / "standby.signal").touch()
        primary.start()
        return own_server(data=copy, settings={"primary_conninfo": f"host={primary.folder} user=postgres"})

    return start
