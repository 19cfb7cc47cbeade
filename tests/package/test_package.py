"""What is published: a wheel that works in an empty environment, alone and with each extra, typed, light to import."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from tests.docs.pages import ROOT, blocks

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
NEEDS = {
    "cli": "twofold.cli", "dashboard": "twofold.dashboard", "duckdb": "twofold.engines.duckdb",
    "fastapi": "twofold.fastapi", "postgres": "twofold.engines.postgres", "pydantic": "pydantic",
    "mcp": "twofold.cli.starting.agents, twofold.mcp", "privacy": "cryptography",
    "prometheus": "twofold.prometheus", "schema": "jsoncompat",
    "run": "twofold.cli.starting.serving, uvicorn",
}  # fmt: skip
"""What of the package, or beside it, works with each extra."""
FORBIDDEN = (
    "cyclopts", "rich", "duckdb", "fastapi", "starlette", "psycopg", "pydantic", "sqlalchemy", "pytest", "hypothesis",
    "uvicorn", "jinja2", "django", "celery", "jsoncompat", "mcp", "cryptography", "prometheus_client",
    "twofold.testing",
    "twofold.engines.postgres", "twofold.fastapi",
    "twofold.cli", "twofold.dashboard", "twofold.mcp",
)  # fmt: skip
"""What `import twofold` must not load."""
HEAVY = [each for each in FORBIDDEN if not each.startswith("twofold.")]
LIGHT = {
    "twofold.fastapi": ("fastapi", "starlette", "pydantic"),
    "twofold.dashboard": ("starlette", "jinja2"),
    "twofold.prometheus": ("prometheus_client",),
    "twofold.cli": ("cyclopts", "rich"),
    "twofold.mcp": ("mcp", "pydantic", "starlette", "uvicorn", "cryptography", "rich"),
    "twofold.engines.postgres": ("psycopg",),
    "twofold.engines.duckdb": ("duckdb",),
    "pytest_twofold": ("pytest",),
}  # fmt: skip
"""Which packages each part may load; the others would cost time and memory in a process that does not use them."""

OPEN_PAGES = """
import asyncio
from twofold import Application
from twofold.dashboard import dashboard

async def status(site, path):
    sent = []
    async def send(message):
        sent.append(message)
    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}
    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"",
             "root_path": "", "scheme": "http", "headers": [(b"host", b"127.0.0.1")], "client": ("127.0.0.1", 1),
             "server": ("127.0.0.1", 80), "http_version": "1.1"}
    await site(scope, receive, send)
    return sent[0]["status"]

async def main():
    async with Application("sqlite:///pages.db") as app:
        site = dashboard(app)
        for path in ("/", "/events", "/projections", "/processes", "/flow", "/assets/htmx.min.js"):
            print(path, await status(site, path))

asyncio.run(main())
"""
"""Opens pages of the dashboard without a server, which its extra does not bring."""


def uv() -> str:
    found = shutil.which("uv") or str(ROOT / ".tools/bin/uv")
    if not Path(found).exists():
        pytest.skip("uv is not installed")
    return found


def done(*command: object, cwd: Path | None = None) -> str:
    """Run a command that must not fail, and return what it says."""
    ran = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300, cwd=cwd, check=False)
    assert ran.returncode == 0, f"{command}\n{ran.stdout}{ran.stderr}"
    return ran.stdout


def said_by(*command: object) -> str:
    """Run a command that is to fail, and return its complaint."""
    ran = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 1, ran.stdout
    return ran.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the sdist and the wheel, which is made of the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    done(uv(), "build", "--quiet", "--out-dir", folder, ROOT)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    [wheel] = built.glob("*.whl")
    return wheel


def environment(folder: Path, *what: str) -> Path:
    """Return the Python of a new environment that holds nothing but what is named, and what that needs."""
    done(uv(), "venv", "--quiet", "--python", sys.executable, folder)
    python = folder / "bin/python"
    fill(python, *what)
    return python


def fill(python: Path, *what: str) -> None:
    """Let an environment hold nothing but what is named, and what that needs; all else is removed from it."""
    done(uv(), "pip", "install", "--quiet", "--exact", "--python", python, *what)


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of an environment with the wheel, and without an extra."""
    return environment(tmp_path_factory.mktemp("bare") / "env", str(wheel))


@pytest.fixture(scope="module")
def refilled(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of an environment that each test fills with what it wants; the wheel is compiled once."""
    return environment(tmp_path_factory.mktemp("refilled") / "env", str(wheel))


def test_the_wheel_holds_the_code_its_sql_and_its_types_and_nothing_else(built: Path, wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    folders = {name.partition("/")[0] for name in names}
    assert folders == {"twofold", "pytest_twofold", f"twofold-{PROJECT['version']}.dist-info"}
    sources = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").rglob("*") if path.is_file()}
    assert {name for name in sources if "__pycache__" not in name} <= set(names)
    assert "twofold/py.typed" in names
    assert len(list(built.glob("*.tar.gz"))) == 1


def test_every_extra_is_tested() -> None:
    assert set(PROJECT["optional-dependencies"]) == set(NEEDS)


def test_the_first_example_runs_and_prints_what_the_page_says(bare: Path, tmp_path: Path) -> None:
    source, console = blocks(ROOT / "README.md")[:2]
    (tmp_path / "first.py").write_text(source.text)
    said = done(bare, "first.py", cwd=tmp_path)
    assert said.strip() == console.text.partition("\n")[2].strip()


def test_the_first_example_passes_a_strict_type_checker(bare: Path, tmp_path: Path) -> None:
    (tmp_path / "first.py").write_text(blocks(ROOT / "README.md")[0].text)
    done(sys.executable, "-m", "mypy", "--strict", "--python-executable", bare, "first.py", cwd=tmp_path)


@pytest.mark.parametrize("url", ["memory://", "sqlite:///bare.db"])
def test_an_application_starts_without_an_extra(bare: Path, tmp_path: Path, url: str) -> None:
    program = "import asyncio, sys, twofold; asyncio.run(twofold.Application(sys.argv[1]).start())"
    done(bare, "-c", f"{program}; print('started')", url, cwd=tmp_path)


def test_importing_loads_no_optional_package(bare: Path) -> None:
    for python in (sys.executable, bare):  # where all are installed, and where none is
        loaded = done(python, "-c", "import sys, twofold, twofold.processes; print(*sys.modules)").split()
        assert [each for each in FORBIDDEN if each in loaded] == []
        assert len(loaded) < 700, "each module costs time in every process that starts"


@pytest.mark.parametrize("part", LIGHT)
def test_a_part_loads_no_package_of_another_one(part: str) -> None:
    loaded = done(sys.executable, "-c", f"import sys, {part}; print(*sys.modules)").split()
    assert [each for each in HEAVY if each in loaded and each not in LIGHT[part]] == []


def test_without_its_extra_each_part_says_what_to_install(bare: Path) -> None:
    complaint = said_by(bare, "-m", "twofold", "--help")
    assert complaint == "twofold: the command line needs its extra: pip install 'twofold[cli]'\n"
    program = "import twofold; twofold.Application('postgresql://localhost/x')"
    assert "twofold[postgres]" in said_by(bare, "-c", program)


@pytest.mark.parametrize("extra", NEEDS)
def test_with_an_extra_its_part_works_in_an_empty_environment(
    extra: str, wheel: Path, refilled: Path, tmp_path: Path
) -> None:
    python = refilled
    fill(python, f"{wheel}[{extra}]")
    done(python, "-c", f"import {NEEDS[extra]}", cwd=tmp_path)
    if extra == "cli":
        assert "twofold" in done(python, "-m", "twofold", "--help", cwd=tmp_path)
        assert "up to date" in done(python, "-m", "twofold", "migrate", "sqlite:///a.db", cwd=tmp_path)
        done(python, "-m", "twofold", "doctor", "sqlite:///a.db", cwd=tmp_path)
        complaint = said_by(python, "-m", "twofold", "demo", "--serve")
        assert complaint == "twofold: the dashboard's server needs jinja2: pip install 'twofold[run]'\n"
        complaint = said_by(python, "-m", "twofold", "mcp", "orders.app:build")
        assert complaint == "twofold: the server for coding agents needs mcp: pip install 'twofold[mcp]'\n"
    if extra == "dashboard":
        opened = done(python, "-c", OPEN_PAGES, cwd=tmp_path).splitlines()
        assert len(opened) == 6
        assert all(each.endswith(" 200") for each in opened), opened


def test_a_new_project_is_installed_passes_its_tests_and_answers(wheel: Path, refilled: Path, tmp_path: Path) -> None:
    python = refilled
    fill(python, f"{wheel}[run,fastapi,postgres]")
    done(python, "-m", "twofold", "new", "tea-tasks", cwd=tmp_path)
    project = tmp_path / "tea-tasks"
    done(uv(), "pip", "install", "--quiet", "--python", python, "-e", f"{project}[dev]")
    assert "6 passed" in done(python, "-m", "pytest", "-q", cwd=project)
    for check in ("check", "format --check --diff"):
        done(sys.executable, "-m", "ruff", *check.split(), "--isolated", "--line-length=120", ".", cwd=project)
    with subprocess.Popen(
        [python, "-m", "uvicorn", "tea_tasks.web:api", "--port", "0"], cwd=project, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stderr is not None
            port = next(found[1] for line in server.stderr if (found := re.search(r"http://127.0.0.1:(\d+)", line)))
            address = f"http://127.0.0.1:{port}"
            new_task = Request(f"{address}/tasks", b'{"title": "Make tea"}', {"Content-Type": "application/json"})
            with urlopen(new_task, timeout=60) as answer:
                assert answer.status == 201
            with urlopen(f"{address}/twofold/events", timeout=60) as answer:
                assert b"TaskAdded" in answer.read()
        finally:
            server.terminate()
