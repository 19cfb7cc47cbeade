"""The side of a contender: answer requests, one JSON object per line, until standard input ends."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any


def serve(opened: AbstractContextManager[Any]) -> None:
    """Call the methods that are asked for: `{"do": "append", "writers": 1, …}` is answered by `{"value": 4711.0}`.

    A contender may have any of these methods; what it lacks is answered by null.

    - `append(writers, batch, seconds)`: events per second
    - `append_tagged(batch, seconds)`: the same by one writer, each event with two tags of its own
    - `fill(events)`: store `workload.streams(events)`, unmeasured
    - `load(events, times)`: milliseconds to load and fold a stream
    - `read(events)`: events per second, the whole log, decoded
    - `load_kept(events, times)`: the same where the process keeps states of long streams
    - `command(events, how, times)`: milliseconds to load a stream, decide and append, where the process keeps the state
      (`kept`) or has just begun (`fresh`)
    - `load_decoded(events, times)`, `read_decoded(events)`: the same by the floor, with JSON made into objects
    - `fill_tagged(events)`: store streams of events with two tags each, unmeasured
    - `copy(events)`: events per second, the whole log into another database
    - `export(events)`, `import_file(events)`: events per second, the whole log into a file, and from there into another
      database
    - `latency(commits)`: milliseconds from an acknowledged append to the handler of a subscription
    - `size(events)`: bytes per event, indexes included
    - `fill_accounts(events)`: store the movements of `workload.accounts(events)`, unmeasured
    - `project(kind, workers)`: events per second into a new, empty read model of accounts; `keyed` by a function from
      row and event to row, `slow` by one that computes for a while, `sql` by a statement for each event
    - `rebuild()`: events per second into a new generation of such a keyed read model, beside the one that serves
    - `follow(projections, commits)`: events per second, each appended by itself, until all projections show the last
    - `http(request, seconds, apart)`: requests per second of `post` or `get`; `apart` asks for the projections in a
      process of their own
    - `dispatch(seconds)`: microseconds of a command through three middlewares to a handler that does nothing
    - `grow(events)`: make the log so long, with two tags an event, and let a read model of 200 000 rows follow
    - `growth(what, times)`: milliseconds of one `append`, `decide`, `read`, `get`, `page` or `start` on it, the median,
      its `memory`, or the `size` of an event in the log
    - `idle(projections, followers, seconds)`: percent of a core while nothing happens
    - `seen(commits)`: milliseconds from a commit in another process until a process at rest knows of it, the median
    - `followed(followers, seconds)`: appends per second beside followers of queries whose answers do not change
    - `reach(followers, changes)`: milliseconds until a change has reached all followers of its row
    - `process(events)`: inputs of a process per second: events, each with a command, and the outcomes of these
    - `wait(timers, seconds)`: percent of a core while as many timers of a process wait
    - `fire(timers, count)`: milliseconds until `count` timers have fired that are due at one moment, beside others
    - `consistency(commits, processes)`: milliseconds from a commit to a query that sees it, in a read model that is
      kept by the same process or by a second one
    """
    with opened as contender:
        for line in sys.stdin:
            request = json.loads(line)
            method = getattr(contender, request.pop("do"), None)
            try:
                answer = {"value": method(**request) if method else None}
            except Exception:
                answer = {"error": traceback.format_exc()}
            print(json.dumps(answer), flush=True)


def write_for(seconds: float, write: Callable[[int, int], int]) -> float:
    """Call `write(writer 0, turn)` again and again, and return events per second."""
    return write_in_threads(1, seconds, write)


def write_in_threads(writers: int, seconds: float, write: Callable[[int, int], int]) -> float:
    """Call `write(writer, turn)` in as many threads, and return the events per second that it reports in all."""

    def keep_writing(writer: int) -> int:
        written = turn = 0
        while time.perf_counter() < deadline:
            written += write(writer, turn)
            turn += 1
        return written

    start = time.perf_counter()
    deadline = start + seconds
    if writers == 1:
        written = keep_writing(0)
    else:
        with ThreadPoolExecutor(writers) as pool:
            written = sum(pool.map(keep_writing, range(writers)))
    return written / (time.perf_counter() - start)


def median_ms(times: int, call: Callable[[], object]) -> float:
    """Return the median duration of a call in milliseconds."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken) * 1000


def per_second(events: int, call: Callable[[], int]) -> float:
    """Return the rate of a call that handles so many events, and that returns how many it saw."""
    start = time.perf_counter()
    seen = call()
    taken = time.perf_counter() - start
    if seen != events:
        raise AssertionError(f"saw {seen} events instead of {events}")
    return events / taken


@contextmanager
def another_process(module: str, place: str) -> Iterator[None]:
    """Run a module that keeps a read model in step until its standard input ends."""
    with subprocess.Popen(
        [sys.executable, "-m", module, place], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        if process.stdout is None or process.stdout.readline() != "ready\n":
            raise AssertionError("the process that keeps the read model did not start")
        yield
