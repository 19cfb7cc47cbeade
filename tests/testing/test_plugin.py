"""The pytest plug-in in projects of users, each run by a pytest of its own; and what holds without it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

pytest_plugins = ["pytester"]

SHOP = """
from dataclasses import dataclass
from twofold import Application, Command, Decider, Event

@dataclass(frozen=True, kw_only=True)
class Taken(Event):
    pieces: int

@dataclass(frozen=True, kw_only=True)
class Take(Command[int]):
    pieces: int

SHELF = Decider(
    initial_state=lambda: 5,
    decide=lambda command, left: [Taken(pieces=command.pieces)],
    evolve=lambda left, event: left - event.pieces,
    stream_type="Shelf",
    events=(Taken,),
)

def wire(app: Application) -> None:
    async def take(command: Take) -> int:
        await app.store.append([Taken(pieces=command.pieces)])
        return command.pieces

    app.commands.register(Take, take)
"""
CONFTEST = """
import pytest
from shop import wire

@pytest.fixture
def twofold_wire():
    return wire
"""
USES = """
import pytest
from shop import Take, Taken

async def take(app):
    async with app:
        assert await app.commands.dispatch(Take(pieces=2)) == 2
        assert [each.event async for each in app.store.read()] == [Taken(pieces=2)]
"""
AUTO = """
async def test_app(twofold_app):
    await take(twofold_app)

def test_sync(twofold_sync):
    assert twofold_sync.call(twofold_sync.app.commands.dispatch, Take(pieces=3)) == 3

async def test_store(twofold_store, twofold_url):
    async with twofold_store:
        await twofold_store.append([Taken(pieces=1)])
    assert not twofold_url.startswith("memory") or twofold_url == "memory://"

@pytest.mark.parametrize("twofold_url", ["memory://"], indirect=True)
async def test_own_choice(twofold_app):
    await take(twofold_app)
"""
STRICT = """
@pytest.mark.asyncio
async def test_asyncio(twofold_app):
    await take(twofold_app)

@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_anyio(twofold_app, anyio_backend):
    await take(twofold_app)

def test_plain(twofold_app):
    import asyncio
    asyncio.run(take(twofold_app))
"""
UNFINISHED = """
import unittest
import pytest
from shop import SHELF, Take, Taken
from twofold.testing import scenario

given = scenario(SHELF)

def test_forgotten():
    given().when(Take(pieces=1))

def test_kept():
    outcome = given().when(Take(pieces=2))
    assert outcome is not None

def test_two():
    given().when(Take(pieces=3)); given().when(Take(pieces=4))

@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_async(anyio_backend):
    given().when(Take(pieces=5))

@pytest.mark.asyncio
async def test_asyncio():
    given().when(Take(pieces=6))

class Case(unittest.TestCase):
    def test_case(self):
        given().when(Take(pieces=7))

class AsyncCase(unittest.IsolatedAsyncioTestCase):
    async def test_async_case(self):
        given().when(Take(pieces=8))

@pytest.fixture
def done():
    return given().when(Take(pieces=9))

def test_finished(done):
    done.then(Taken(pieces=9))
    assert given().when(Take(pieces=9)).events == (Taken(pieces=9),)

def test_failed_by_itself():
    outcome = given().when(Take(pieces=10))
    raise LookupError("its own")
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[..., pytest.RunResult]:
    """Return a function that runs a project of a user."""
    for name in ("PYTHONPATH", "PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER"):
        monkeypatch.delenv(name, raising=False)
    pytester.makepyfile(shop=SHOP)
    pytester.makeconftest(CONFTEST)

    def run(test: str, *arguments: str) -> pytest.RunResult:
        pytester.makepyfile(test_project=test)
        pytester.makeini("[pytest]\npythonpath = .\nasyncio_default_fixture_loop_scope = function\n")
        light = ("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:hypothesispytest")
        return pytester.runpytest_subprocess("-rfE", *light, *arguments)

    return run


def test_the_fixtures_work_beside_pytest_asyncio_that_runs_all(
    project: Callable[..., pytest.RunResult], new_database: Callable[[int], str]
) -> None:
    server = new_database(18)
    databases = [f"--twofold-url={url}" for url in ("memory://", "sqlite://", server)]
    result = project(USES + AUTO, "-v", "-o", "asyncio_mode=auto", "-W", "error", *databases)
    result.assert_outcomes(passed=10)
    result.stdout.fnmatch_lines([f"*test_app?{each}? PASSED*" for each in ("memory", "sqlite", "postgresql")])
    with psycopg.connect(server) as connection:
        left = connection.execute("SELECT count(*) FROM pg_database WHERE datname LIKE 'twofold_test_%'").fetchone()
    assert left == (0,)


def test_the_fixtures_work_beside_anyio_and_pytest_asyncio_that_is_strict(
    project: Callable[..., pytest.RunResult],
) -> None:
    databases = ("--twofold-url=memory://", "--twofold-url=sqlite:///shop.db")
    result = project(USES + STRICT, "-o", "asyncio_mode=strict", "-W", "error", *databases)
    result.assert_outcomes(passed=3, errors=3)
    result.stdout.fnmatch_lines(["*write sqlite://, and each test gets a file of its own*"])


def unfinished(result: pytest.RunResult) -> set[str]:
    """Return the lines of the test module that are told to be unfinished."""
    numbers = re.findall(r"test_project\.py:(\d+): a `when`", str(result.stdout))
    lines = UNFINISHED.strip().splitlines()
    return {lines[int(number) - 1].strip() for number in numbers}


FORGOTTEN = {
    "given().when(Take(pieces=1))",
    "outcome = given().when(Take(pieces=2))",
    "given().when(Take(pieces=3)); given().when(Take(pieces=4))",
    "given().when(Take(pieces=5))",
    "given().when(Take(pieces=6))",
    "given().when(Take(pieces=7))",
    "given().when(Take(pieces=8))",
}


def test_a_when_without_a_then_fails_its_test(project: Callable[..., pytest.RunResult]) -> None:
    result = project(UNFINISHED, "-W", "error")
    result.assert_outcomes(failed=8, passed=1)
    assert unfinished(result) == FORGOTTEN
    result.stdout.fnmatch_lines(["FAILED *test_failed_by_itself - LookupError*"])


def test_a_when_without_a_then_fails_its_test_without_the_plugin(project: Callable[..., pytest.RunResult]) -> None:
    result = project(UNFINISHED, "-p", "no:twofold", "-W", "error")
    result.assert_outcomes(failed=3, errors=6, passed=6)  # an error is of the clean-up, which no test outlives
    assert unfinished(result) == {*FORGOTTEN, "outcome = given().when(Take(pieces=10))"}
    result.stdout.no_fnmatch_line("*::test_finished*")


def test_a_when_without_a_then_fails_its_test_of_unittest(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "test_project.py").write_text(UNFINISHED)
    command = [sys.executable, "-m", "unittest", "test_project"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "FAILED (failures=2)" in run.stderr
    assert "given().when(Take(pieces=7))" in run.stderr
    assert "given().when(Take(pieces=8))" in run.stderr


def test_a_when_outside_of_tests_warns(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    script = "from shop import *; from twofold.testing import scenario; scenario(SHELF)().when(Take(pieces=1))"
    python = {**os.environ, "PYTHONPATH": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", script], env=python, capture_output=True, text=True, check=True)
    assert "UnfinishedScenarioWarning: <string>:1: a `when` without a `then` checks nothing" in run.stderr


def test_the_plugin_loads_nothing_of_twofold() -> None:
    code = "import pytest_twofold, sys; print({name.split('.')[0] for name in sys.modules} & {'twofold', 'msgspec'})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"set()\n"
