"""The engines: one PostgreSQL server of each version for the session, one database for each test."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import pytest_asyncio
from tests.debian import remove_programs
from tests.memory import folder_in_memory
from tests.postgres_servers import PostgresServer, ServerMissingError, remove_clusters
from tests.synchronizing import engine_at

from twofold import EventStore
from twofold.engines.engine import Engine

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as of what a shell runs in the background; tests send it
    signal.signal(signal.SIGINT, signal.default_int_handler)

if memory := folder_in_memory():
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory))  # where `tmp_path` is


BYTECODE = Path(__file__).parents[1] / ".cache/bytecode"
"""Where the processes that tests start keep what they compile, if the environment says that it is not kept."""
if sys.dont_write_bytecode:  # as the images of containers say: an import of `twofold` then takes twice as long
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(BYTECODE)


def pytest_sessionfinish() -> None:
    """Delete what is kept between tests; the workers of pytest-xdist end without running what was registered to."""
    remove_clusters()
    remove_programs()
    shutil.rmtree(BYTECODE / Path(tempfile.gettempdir()).relative_to("/"), ignore_errors=True)


LONGEST = ("tests/orders/test_importing.py", "tests/synchronizer/test_history.py", "tests/engines/test_backups.py")
"""Files that take long and stand late in the order: one of them at the end would leave the other workers idle."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Callable[[int], PostgresServer]]:
    """Return a function that gives the running server of a major version."""
    servers: dict[int, PostgresServer] = {}

    def server(version: int) -> PostgresServer:
        if version not in servers:
            servers[version] = _started(version)
        return servers[version]

    yield server
    for each in servers.values():
        each.remove()


@pytest.fixture
def new_database(postgres_server: Callable[[int], PostgresServer]) -> Iterator[Callable[[int], str]]:
    """Return a function that gives the address of a fresh database on the server of a major version."""
    with ExitStack() as databases:
        yield lambda version: databases.enter_context(postgres_server(version).database())


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the address of an empty database, on each engine in turn."""
    return _address(request, tmp_path)


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def shared_url(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    postgres_server: Callable[[int], PostgresServer],
) -> Iterator[str]:
    """Return the address of a database that all tests of a module share, on each engine in turn."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('shared')}/twofold.db"
        return
    with postgres_server(18).database() as url:
        yield url


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def any_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the same, and that of a database in memory."""
    return _address(request, tmp_path)


def _address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "memory":
        return "memory://"
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/twofold.db"
    fresh: Callable[[int], str] = request.getfixturevalue("new_database")
    return fresh(18)


@pytest_asyncio.fixture
async def engine(url: str) -> AsyncIterator[Engine]:
    """Return an open engine on an empty database, each in turn."""
    async with engine_at(url) as (engine, _):
        yield engine


@pytest.fixture
def store(engine: Engine) -> EventStore:
    """Return the store on the open engine."""
    return EventStore(engine.log)


@pytest.fixture
def reachable_path() -> Iterator[Path]:
    """Return a folder that the user who runs the servers may reach, which `tmp_path` is not."""
    with tempfile.TemporaryDirectory(prefix="twofold-test-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@pytest.fixture
def own_server() -> Iterator[Callable[..., PostgresServer]]:
    """Return a function that starts a server which the test may break."""
    with ExitStack() as servers:

        def start(version: int = 18, **options: object) -> PostgresServer:
            server = _started(version, **options)
            servers.callback(server.remove)
            return server

        yield start


@pytest.fixture(scope="module")
def restartable_server() -> Iterator[PostgresServer]:
    """Return a server that the tests of a module restart and put back, each with a database of its own."""
    server = _started(18)
    yield server
    server.remove()


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


def _started(version: int, **options: object) -> PostgresServer:
    try:
        server = PostgresServer(version, **options)  # type: ignore[arg-type]
    except ServerMissingError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    try:
        server.start()
    except BaseException:
        server.remove()
        raise
    return server
