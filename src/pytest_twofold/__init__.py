"""The pytest plug-in: fixtures on an empty database, and scenarios without a `then` fail their tests.

Pytest loads it in every run where Twofold is installed. It therefore stands beside the package, and imports nothing of
it before a test asks for a fixture.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from twofold import Application, EventStore
    from twofold.sync import SyncApplication
    from twofold.testing.scenarios.claims import Claim

MEMORY = "memory://"

watching: list[list[Claim]] = []
"""The scenarios of the tests that run, which `twofold.testing` adds to the last list."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Say what can be set: on the command line, and in the configuration."""
    parser.getgroup("twofold").addoption(
        "--twofold-url",
        action="append",
        metavar="URL",
        help="the database of the fixtures twofold_…: memory:// (the default), sqlite:// for a file of each test, or "
        "postgresql://… for a database of each test on that server; given several times, tests run on each",
    )
    parser.addini("twofold_urls", "the databases of the fixtures twofold_…, see --twofold-url", type="linelist")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what uses a database on each that was asked for."""
    urls: list[str] = metafunc.config.getoption("--twofold-url") or metafunc.config.getini("twofold_urls")
    is_set = any("twofold_url" in str(mark.args[:1]) for mark in metafunc.definition.iter_markers("parametrize"))
    if urls and not is_set and "twofold_url" in metafunc.fixturenames:
        metafunc.parametrize("twofold_url", urls, indirect=True, ids=[urlsplit(each).scheme for each in urls])


@pytest.fixture
def twofold_check_schemas() -> Callable[..., None]:
    """Return a function that fails the test if today's classes of events do not go with their schema lock.

    `twofold_check_schemas(app, "events.lock.json")`; `ignore` takes codes, as `twofold schema check` does.
    """

    def check(app: Application, file: str | Path = "events.lock.json", *, ignore: tuple[str, ...] = ()) -> None:
        from twofold.checks.findings import without
        from twofold.schema import check_file

        found = [
            each
            for each in without(check_file(app.event_types(), file, app.store._known_streams), ignore)
            if each.level == "error"
        ]
        if found:
            pytest.fail("\n".join(map(str, found)), pytrace=False)

    return check


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    """Fail a test that leaves a scenario with a `when` and without a `then`."""
    watching.append([])
    try:
        yield
    finally:
        claims = watching.pop()
    unfinished = [claim for claim in claims if claim.is_open]
    for claim in unfinished:
        claim.close()
    if unfinished:
        pytest.fail("\n".join(map(str, unfinished)), pytrace=False)


@pytest.fixture
def twofold_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Return the address of an empty database of this test: in memory, or what `--twofold-url` says."""
    url: str = getattr(request, "param", MEMORY)
    scheme = urlsplit(url).scheme
    if scheme == "sqlite":
        if url != "sqlite://":
            raise pytest.UsageError(f"--twofold-url={url}: write sqlite://, and each test gets a file of its own")
        yield f"sqlite:///{tmp_path}/twofold.db"
    elif scheme in ("postgresql", "postgres"):
        with _postgres_database(url) as own:
            yield own
    else:
        yield url


@pytest.fixture
def twofold_wire() -> Callable[[Application], object]:
    """Return what registers handlers and adds projections; override it with a function of your own: `wire(app)`."""
    return lambda app: None


@pytest.fixture
def twofold_app(twofold_url: str, twofold_wire: Callable[[Application], object]) -> Application:
    """Return an application, wired and not started: `async with twofold_app: ...` starts it in any async test."""
    return _wired(twofold_url, twofold_wire)


@pytest.fixture
def twofold_store(twofold_app: Application) -> EventStore:
    """Return the event store of `twofold_app`; without the rest, `async with twofold_store: ...` opens it."""
    return twofold_app.store


@pytest.fixture
def twofold_sync(
    twofold_url: str, twofold_wire: Callable[[Application], object]
) -> Iterator[SyncApplication[Application]]:
    """Return a synchronous face of an application, which starts with the first call: `twofold_sync.call(...)`."""
    from twofold.sync import SyncApplication

    face = SyncApplication(lambda: _wired(twofold_url, twofold_wire))
    yield face
    face.close()


def _wired(url: str, wire: Callable[[Application], object]) -> Application:
    from twofold import Application

    app = Application(url)
    wire(app)
    return app


@contextmanager
def _postgres_database(url: str) -> Iterator[str]:
    """Make a database on a server for as long as the block lasts."""
    import psycopg
    from psycopg.sql import SQL, Identifier

    name = f"twofold_test_{uuid.uuid4().hex}"
    own = urlsplit(url)._replace(path=f"/{name}").geturl()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
        try:
            yield own
        finally:
            connection.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))
