"""PgBouncer in transaction mode: from one statement to the next, a client may be on another server connection."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.debian import find_program
from tests.postgres_servers import unprivileged_user


@contextmanager
def pgbouncer(server: Path, **changed: object) -> Iterator[Path]:
    """Yield the folder of the socket of a pooler in front of a server's.

    Raises:
        ProgramMissingError: there is no pgbouncer on this machine, and none can be fetched.
    """
    program = find_program("pgbouncer", "libevent-2.1-7", "libc-ares2")
    folder, user = Path(tempfile.mkdtemp(prefix="twofold-pooler-")), unprivileged_user()
    settings = {
        "unix_socket_dir": folder, "listen_port": 5432, "auth_type": "any", "pool_mode": "transaction",
        "default_pool_size": 3, "max_client_conn": 200, "ignore_startup_parameters": "extra_float_digits",
        **changed,
    }  # fmt: skip
    lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
    (folder / "ini").write_text(f"[databases]\n* = host={server} user=postgres\n[pgbouncer]\n{lines}")
    if user:
        shutil.chown(folder, user)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program.path, folder / "ini"], user=user, stdout=log, stderr=log, env=program.environment
        )
    try:
        _wait_for(folder, process)
        yield folder
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


def _wait_for(folder: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while True:
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(os.fspath(folder / ".s.PGSQL.5432")) == 0:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError((folder / "log").read_text())
        time.sleep(0.02)  # a foreign process starts
