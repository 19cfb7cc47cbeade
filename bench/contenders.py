"""Start the contenders of an engine, and ask them."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

OURS, BEFORE, FLOOR, DECODED = "twofold", "before", "floor", "decoded"
"""`BEFORE` is Twofold at another revision, see `--against`; `DECODED` the floor with JSON made into objects."""
ROOT = Path(__file__).parents[1]
BUSES = ("python-cqrs", "lato", "diator")
PEERS = ("eventsourcing", "umadb", "sqlalchemy", *BUSES)
PATIENCE = 600.0
"""Seconds for one answer."""


class Entry(NamedTuple):
    """A contender that can be started: its module, its interpreter, where it stores its events, and its checkout."""

    name: str
    module: str
    python: Path
    place: Callable[[], str]
    root: Path = ROOT


class Contender:
    """A running contender. See `bench.worker.serve` for what it can be asked."""

    def __init__(self, name: str, place: str, process: subprocess.Popen[str]) -> None:
        self.name = name
        self.place = place
        self._process = process

    def ask(self, do: str, *, patience: float = PATIENCE, **arguments: float | str) -> float | None:
        """Return the answer; None if it cannot do this, or failed, which standard error tells."""
        if self._process.stdin is None or self._process.stdout is None or self._process.poll() is not None:
            return None
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._line(patience) or '{"error": "it ended or hangs"}')
        if "error" in answer:
            print(f"bench: {self.name} failed to {do}: {answer['error']}", file=sys.stderr)
        value = answer.get("value")
        return None if value is None else float(value)

    def _line(self, patience: float) -> str:
        """Wait for an answer; a contender that hangs is out of the race, with all that it started."""
        answers = self._process.stdout
        if answers and select.select([answers], [], [], patience)[0]:
            return answers.readline()
        os.killpg(self._process.pid, signal.SIGKILL)
        return ""


@contextmanager
def started(entries: list[Entry]) -> Iterator[list[Contender]]:
    """Run contenders, each on a log of its own that is empty."""
    with ExitStack() as stack:
        contenders = []
        for entry in entries:
            place = entry.place()
            process = subprocess.Popen(
                [str(entry.python), "-m", entry.module, place],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": f"{entry.root}:{entry.root / 'examples'}"},
                cwd=entry.root,
            )
            stack.enter_context(process)  # closes its standard input, upon which it ends, and waits for it
            contenders.append(Contender(entry.name, place, process))
        yield contenders


def entries(
    name: str,
    engine: str,
    files: Callable[[], str],
    databases: Callable[[], str],
    peers: Path | None,
    before: Path | None = None,
) -> list[Entry]:
    """Return who competes in a benchmark on an engine; `before` is a checkout of another revision that is set up."""
    if name == "http":
        return _http_entries(engine, files, databases, peers, before)
    if name == "dispatch":
        return _dispatch_entries(engine, files, peers, before)
    here, place = Path(sys.executable), files if engine == "sqlite" else databases
    ours = place if engine == "postgres" else lambda: f"sqlite:///{files()}"
    found = [
        Entry(OURS, "bench.workers.twofold_itself", here, ours),
        *([Entry(BEFORE, "bench.workers.twofold_itself", before / ".venv/bin/python", ours, before)] if before else []),
        Entry(FLOOR, f"bench.workers.{engine}_floor", here, place),
    ]
    if peers:
        for peer, its_place in zip(("eventsourcing", "umadb"), (place, files), strict=True):
            found.append(Entry(peer, f"bench.workers.{peer}_peer", peers, its_place))
    return found


def _http_entries(
    engine: str, files: Callable[[], str], databases: Callable[[], str], peers: Path | None, before: Path | None
) -> list[Entry]:
    here, place = Path(sys.executable), files if engine == "sqlite" else databases
    ours = place if engine == "postgres" else lambda: f"sqlite:///{files()}"
    found = [Entry(OURS, "bench.http.twofold_itself", here, ours)]
    if before:  # its application, asked by the client of this revision
        found.append(Entry(BEFORE, "bench.http.twofold_itself", before / ".venv/bin/python", ours, before))
    found.append(Entry(FLOOR, "bench.http.bare", here, place))
    found += [Entry(peer, f"bench.http.{peer}_peer", peers, place) for peer in ("eventsourcing", "sqlalchemy") if peers]
    return found


def _dispatch_entries(engine: str, files: Callable[[], str], peers: Path | None, before: Path | None) -> list[Entry]:
    """Return the buses, on one engine only: their handler does nothing that an engine would store."""
    if engine != "sqlite":
        return []
    here, ours = Path(sys.executable), lambda: f"sqlite:///{files()}"
    found = [Entry(OURS, "bench.dispatch.twofold_itself", here, ours)]
    if before:
        found.append(Entry(BEFORE, "bench.dispatch.twofold_itself", before / ".venv/bin/python", ours, before))
    found.append(Entry(FLOOR, "bench.dispatch.bare", here, files))
    found += [Entry(bus, f"bench.dispatch.{bus.replace('-', '_')}_peer", peers, files) for bus in BUSES if peers]
    return found
