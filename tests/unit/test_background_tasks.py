"""Every task that Twofold begins has a supervisor, or needs none for a reason that is written down here."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import twofold

SOURCE = Path(twofold.__file__).parent
SHIPPED_TESTS = "testing"
BEGINS = {
    "create_task",
    "ensure_future",
    "TaskGroup",
    "Thread",
    "Timer",
    "run_coroutine_threadsafe",
    "start_new_thread",
}
SUPERVISED = {"supervise", "keep_running"}

ALLOWED = {
    "engines/postgres/connection.py Watch._look": "the probe answers by itself, whatever it raises",
    "engines/postgres/log/joined.py _commit": "the caller awaits the commit",
    "engines/postgres/log/lane.py Lane._work": "the worker awaits the commit, which raises nothing",
    "engines/postgres/log/lane.py Lane.submit": "it ends when no append waits; each failure goes to the callers",
    "engines/postgres/read_models/lookups.py Lookups._go_on": "it answers each look-up with whatever is raised",
    "engines/sqlite/log/event_log.py SqliteEventLog.wait": "its failure goes to all who wait; the next wait begins it",
    "engines/sqlite/read_models/read_database.py SqliteReadDatabase.follow": (
        "who waits looks by himself at every poll, is told what fails then, and begins it again"
    ),
    "engines/sqlite/writer.py Writer.__init__": "a thread, which answers each job with whatever is raised",
    "fastapi/outages.py Bounded._begin": "it lives as long as its request, and answers that",
    "fastapi/outages.py Outages.is_over": "those who ask await it",
    "fastapi/watch.py WatchResponse.__call__": "three parts of one response, which awaits and ends them",
    "monitoring/status.py SharedStatus.ask": "one look, which all who ask await",
    "log/transfer/restoring.py Restoring.store": "its block awaits it",
    "log/chunks.py ChunkReader.read_ahead": "one read, whose failure goes to who reads on",
    "processes/runner.py ProcessRunner._begin_pruning": "`make_passes` supervises what may fail of it",
    "processes/sweep.py Sweep._send_ready": "one command; whatever comes of it, the next turn of the sweep takes in",
    "queries/changes.py Changes._begin": "its failure goes to all who wait; the next wait begins it",
    "queries/shared_looks.py SharedLooks.ask": "one look, which those who share it await",
    "sync.py SyncApplication.call": "the caller waits for it",
    "sync.py _Running": "a thread that runs a loop until it is stopped",
    "sync.py _Running.start": "the caller waits for the start; the thread runs the loop until it is stopped",
    "sync.py _Running.stop": "the caller waits for it",
    "sync.py _end": "the caller waits for the thread",
    "synchronizer/segments/runner.py SegmentRunner._begin_beside": (
        "a `Supervisor` of the segment's runs it, whose error is the segment's fault"
    ),
    "synchronizer/synchronizer.py ReadModelSynchronizer.begin": (
        "`run` supervises its parts, and `status` tells if it has ended all the same"
    ),
    "synchronizer/synchronizer.py ReadModelSynchronizer.run_once": "the caller awaits both",
    "synchronizer/worker.py Worker._bring_in_line": "`SegmentRunner.run` is supervised; one that ends is begun again",
    "synchronizer/worker.py Worker._finish_rebuilds": "it tells a supervisor of failures; later rounds begin it again",
    "tasks.py run_in_thread": "the caller awaits it",
    "tasks.py keep_running": "the supervisor of supervisors: what ends in any way begins again",
}
"""Where tasks and threads begin without `supervise`, and why that is enough."""


MODULE = """
    keep = create_task(supervise("a", work, backoff))
    other = create_task(Supervisor("b", backoff).run(work), name="b")

    def begin():
        map(asyncio.create_task, works)

    class Machine:
        async def start(self):
            async with asyncio.TaskGroup() as group:
                ...

        def go(self):
            self._loop.create_task(supervised_not())
"""


def test_every_task_has_a_supervisor_or_a_reason_to_need_none() -> None:
    found = set(unsupervised(SOURCE))
    assert found - ALLOWED.keys() == set(), "run it by `twofold.tasks.supervise`, or write down why it needs no such"
    assert ALLOWED.keys() - found == set(), "these begin no task any more"


def test_an_unsupervised_task_is_found_in_whatever_way_it_is_begun(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(dedent(MODULE))
    assert set(unsupervised(tmp_path)) == {"module.py begin", "module.py Machine.start", "module.py Machine.go"}


def unsupervised(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder)
        if name.parts[0] != SHIPPED_TESTS:
            yield from (f"{name.as_posix()} {where}" for where in places(ast.parse(path.read_text("utf-8")), ()))


def places(node: ast.AST, within: tuple[str, ...]) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        within = (*within, node.name)
    if isinstance(node, ast.Call) and called(node.func) in BEGINS and is_supervised(node):
        return
    if isinstance(node, ast.Name | ast.Attribute) and called(node) in BEGINS:
        yield ".".join(within)
    for child in ast.iter_child_nodes(node):
        yield from places(child, within)


def called(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def is_supervised(call: ast.Call) -> bool:
    """Return whether what is begun is `supervise(…)`, or `run` of a supervisor."""
    work = call.args[0] if call.args else None
    if not isinstance(work, ast.Call):
        return False
    if called(work.func) in SUPERVISED:
        return True
    return isinstance(work.func, ast.Attribute) and work.func.attr == "run" and "upervisor" in ast.unparse(work.func)
