"""`twofold worker | run | demo | new`, as processes that get real signals."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from cyclopts import ValidationError
from tests.accounts import Open
from tests.cli.starting_app import build
from tests.cli.typed import Fails, Twofold
from tests.docs.pages import ROOT

from twofold.cli.commands import app

PATIENCE = 60
APP = "tests.cli.starting_app:build"


@contextmanager
def begun(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command beside the test; it is killed if it has not ended by then."""
    command = [sys.executable, "-m", "twofold", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, cwd=ROOT, **pipes) as process:  # type: ignore[call-overload]
        try:
            yield process
        finally:
            process.kill()


def line_with(process: subprocess.Popen[str], sign: str) -> re.Match[str]:
    """Read on until a line fits, and return the match."""
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(sign, line):
            return found
    raise AssertionError(f"it ended before it said {sign}: {process.communicate()[1]}")


async def open_accounts(url: str) -> None:
    async with build(url) as app:
        for n in range(3):
            await app.commands.dispatch(Open(account=f"a{n}"))


def test_a_worker_keeps_read_models_in_step_until_a_signal(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    asyncio.run(open_accounts(url))
    with begun("worker", APP, "--url", url, "--every", "0.1") as process:
        line_with(process, r"^in step: 1 read models, 3 events in the log$")
        process.send_signal(signal.SIGTERM)
        said, complaints = process.communicate(timeout=PATIENCE)
    assert (process.returncode, complaints) == (0, "")
    assert "ended by a signal" in said


def test_a_worker_tells_programs_how_it_goes_in_json(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    asyncio.run(open_accounts(url))
    with begun("worker", APP, "--url", url, "--every", "0.1", "--json") as process:
        told = json.loads(line_with(process, r'^\{.*"behind":0.*').string)
        process.send_signal(signal.SIGINT)
        last = process.communicate(timeout=PATIENCE)[0].splitlines()[-1]
    assert process.returncode == 0
    assert (told["head"], told["projections"][0]["name"]) == (3, "balances")
    assert json.loads(last) == {"ended": "signal"}


@pytest.mark.parametrize("command", ["worker", "run"])
def test_an_application_that_is_not_there_is_told_with_exit_code_1(fails: Fails, command: str) -> None:
    assert "there is no module" in fails(command, "nowhere:app")


@pytest.mark.parametrize("allowed", [False, True])
def test_run_shows_the_dashboard_and_changes_nothing_unless_allowed(tmp_path: Path, *, allowed: bool) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    options = ["--allow-changes"] if allowed else []
    with begun("run", APP, "--url", url, "--port", "0", "--every", "0.1", *options) as process:
        address = line_with(process, r"dashboard at (http://127\.0\.0\.1:\d+/)")[1]
        line_with(process, "in step")
        with pytest.raises(OSError):  # noqa: PT011 - whatever the system says of an address where nobody listens
            socket.create_connection(("127.0.0.2", int(address.rstrip("/").rpartition(":")[2])), timeout=1)
        with urlopen(address, timeout=PATIENCE) as page:
            assert b"balances" in page.read()
        change = Request(f"{address}projections/balances/pause", b"", {"Sec-Fetch-Site": "same-origin"})
        with pytest.raises(HTTPError) as refused:
            urlopen(change, timeout=PATIENCE)
        with refused.value as answer:
            text = answer.read().decode()
        assert ("You may look, and change nothing" in text) is not allowed
        assert ("The page is too old" in text) is allowed, "the word of the cookie is missing, which only pages have"
        process.terminate()
        _, complaints = process.communicate(timeout=PATIENCE)
    assert (process.returncode, complaints) == (0, "")


def test_a_port_that_is_taken_is_told(fails: Fails, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        complaint = fails("run", APP, "--url", f"sqlite:///{tmp_path}/a.db", "--port", port)
    assert f"port {port} of 127.0.0.1 cannot be used" in complaint
    assert "--port" in complaint


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", APP, "--port", "65536"],
        ["run", APP, "--port", "-1"],
        ["worker", APP, "--every", "0"],
        ["demo", "--serve", "--port", "65536"],
        ["verify", "memory://", "--after", "-1"],
        ["verify", "memory://", "--most", "0"],
        ["anchor", "memory://", "anchors", "--every", "0"],
        ["parked", "list", "memory://", "--limit", "0"],
        ["parked", "retry", "memory://", "sales", "--wait", "-1"],
        ["processes", "list", "memory://", "reminders", "--limit", "0"],
    ],
    ids=" ".join,
)
def test_a_number_that_cannot_be_meant_is_refused_before_a_command_begins(arguments: list[str]) -> None:
    with pytest.raises(ValidationError, match=f"for {arguments[-2]}. Must be"):
        app.parse_args(arguments, exit_on_error=False, print_error=False)


def test_the_demonstration_kills_a_shop_and_finds_every_order_once(twofold: Twofold) -> None:
    found = json.loads(twofold("demo", "--seconds", "0.6", "--kills", "2", "--json").stdout)
    assert found["acknowledged"] > 0
    assert found["stored"] >= found["acknowledged"]
    assert (found["lost"], found["doubled"], found["kills"]) == (0, 0, 2)
    assert found["counted"] == found["stored"]


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("My Shop!", "such as my-shop"), ("7up", "such as up"), ("../x", "such as x"), ("", "such as my-shop"),
        ("a--b", "such as a-b"), ("class", "write class-app"), ("json", "write json-app"),
        ("twofold", "write twofold-app"), ("tests", "write tests-app"), ("fastapi", "write fastapi-app"),
    ],
)  # fmt: skip
def test_a_name_that_no_project_can_have_is_refused_with_one_that_it_can(
    fails: Fails, tmp_path: Path, name: str, remedy: str
) -> None:
    assert remedy in fails("new", name, "--into", str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_left_alone(fails: Fails, twofold: Twofold, tmp_path: Path) -> None:
    made = json.loads(twofold("new", "tea-tasks", "--into", str(tmp_path), "--json").stdout)
    assert {".github/workflows/test.yml", "Dockerfile", "src/tea_tasks/app.py"} <= set(made["files"])
    before = (tmp_path / "tea-tasks/README.md").read_text()
    assert "PROJECT" not in before
    assert "exists already" in fails("new", "tea-tasks", "--into", str(tmp_path))
    assert (tmp_path / "tea-tasks/README.md").read_text() == before
