"""Pages of documentation as programs: a titled block is a file, a console block is run and its output compared."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PORTS = ("8000", "8001", "4222")
"""The ports that pages speak of; free ones take their place."""
BROKER = "localhost:4222"
"""The broker that files of pages connect to."""
PEERS = {"use-with-dbos-or-faststream.md": ("dbos", "faststream")}
"""Pages that `make peers` runs, in an environment that has these modules; they are no dependencies of the project."""
POSTGRES = "postgresql://localhost/library"
"""The empty database that pages speak of; one of the tests' server takes its place."""
SERVERS = {
    "uvicorn": "Application startup complete.",
    "gunicorn": "Booting worker",
    "celery": "[queues]",
    "nats-server": "Server is ready",
}
"""Programs that run until the page ends, and what they log when they can be asked."""
KILLED = ("celery",)
"""Those that are killed with their children: Celery takes six seconds to end, whatever it runs."""
SHOWN_ONLY = ("text", "toml")
BY_HAND = ("git clone", "cd ", "make ", "pip install", "uv add", "python -m venv", "source ")
"""What a reader types in a `sh` block, and a test does not."""


class Block(NamedTuple):
    """A fenced block."""

    language: str
    title: str
    text: str


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    found = []
    for language, options, text in BLOCK.findall(page.read_text("utf-8")):
        title = re.search(r'title="([^"]+)"', options)
        found.append(Block(language, title[1] if title else "", text))
    return found


def run(page: Path, folder: Path, *, postgres_url: str = "") -> None:
    """Do in an empty folder what a page says; a database that takes the place of the page's has the given address.

    Raises:
        AssertionError: a block is of a kind that is not run, a command fails, or says something else.
    """
    places = {**{port: _free_port() for port in PORTS}, POSTGRES: f"'{postgres_url}'"}
    (folder / "examples").symlink_to(ROOT / "examples")
    with ExitStack() as servers:
        for block in blocks(page):
            if block.language == "python":
                assert block.title, f"{page.name}: name the file of\n{block.text}"
                text = block.text.replace(BROKER, f"127.0.0.1:{places['4222']}")
                (folder / block.title).write_text(text, "utf-8")
            elif block.language == "console":
                for command, output in _commands(block.text):
                    _type(_with(places, command), output, folder, servers)
            elif block.language == "sh":
                assert all(line.startswith(BY_HAND) for line in block.text.splitlines()), block.text
            else:
                assert block.language in SHOWN_ONLY, f"{page.name}: nobody runs a block of {block.language!r}"
                if block.title:  # a file that the next commands read
                    (folder / block.title).write_text(block.text, "utf-8")


def _commands(console: str) -> list[tuple[str, str]]:
    return [(command, output) for command, output in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", console, re.MULTILINE)]


def _with(places: dict[str, str], command: str) -> str:
    for said, taken in places.items():
        command = command.replace(said, taken)
    return command


def _type(command: str, output: str, folder: Path, servers: ExitStack) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": ""}
    program = command.partition(" ")[0]
    if program in SERVERS:
        log = folder / f"{program}.log"
        with log.open("wb") as file:
            server = subprocess.Popen(
                command.split(), cwd=folder, env=environment, stdout=file, stderr=file, process_group=0
            )
        servers.callback(_end, server, signal.SIGKILL if program in KILLED else signal.SIGTERM)
        _wait_for(SERVERS[program], server, log)
        return
    done = subprocess.run(
        command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    expected = re.escape(output.strip()).replace(re.escape("..."), ".*?")
    said = done.stdout.strip()
    assert re.fullmatch(expected, said, re.DOTALL), f"$ {command}\n{done.stdout}{done.stderr}\n-- expected --\n{output}"


def _end(server: subprocess.Popen[bytes], how: signal.Signals) -> None:
    """End a server and its children."""
    with suppress(ProcessLookupError):
        os.killpg(server.pid, how)
    server.wait(30)


def _wait_for(ready: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while ready not in log.read_text():
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)  # a foreign process starts


def _free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return str(listener.getsockname()[1])
