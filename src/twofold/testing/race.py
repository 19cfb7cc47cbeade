"""A race of real processes on one log, and the judge of what it left behind.

    report = Race(open_log, folder, seed=7, writers=4, readers=2, seconds=5.0).run()

Writers append in every way there is, are killed and started again; readers follow, are killed, and go on from their
checkpoint; disturbers hold transactions open. Every process keeps a ledger of its own, in files: what it was about to
do, and what it was told. The judge compares the ledgers with the log, and never asks the log about itself.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import multiprocessing
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from twofold.messages.event_query import AppendCondition, EventQuery
from twofold.messages.ids import uuid7
from twofold.messages.stream import ANY
from twofold.ports.event_log import Append, Appended, EventLog
from twofold.testing.judge import Report, facts, judge, whole_log
from twofold.testing.samples import Noted, Revised, new_event, topic

OpenLog = Callable[[], EventLog]
"""Make a log that is not open yet; called in every process, so it must be importable: a function, or a `partial`."""

Disturber = Callable[[random.Random, float], Coroutine[Any, Any, None]]
"""Hold transactions open, lock things, for some seconds, which are its argument; must be importable as well."""

_FORKS = "forkserver" in multiprocessing.get_all_start_methods()
_CONTEXT: Any = multiprocessing.get_context("forkserver" if _FORKS else "spawn")
"""Starts processes that inherit no connection; a server forks them in milliseconds, a new interpreter takes longer."""

HOT_TOPICS = 5
CONCURRENCY = 8


class Ledger:
    """A file of one process, a line per fact, that survives its kill: what the kernel took is kept."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(self._file, b"\n")  # a process that was killed may have left half a line

    def write(self, **fact: Any) -> None:
        """Note a fact."""
        os.write(self._file, json.dumps(fact).encode() + b"\n")


@dataclass(frozen=True)
class Race:
    """What takes part."""

    open_log: OpenLog
    folder: Path
    seed: int
    writers: int = 4
    readers: int = 2
    seconds: float = 5.0
    kills: int = 4
    disturbers: tuple[Disturber, ...] = ()

    def run(self) -> Report:
        """Run the race to its end and judge it.

        Raises:
            AssertionError: the log lost, doubled, inverted or skipped an event, or accepted what it should have
                refused, or a process failed; the text begins with the seed.
        """
        asyncio.run(_open_and_close(self.open_log))
        writers, readers, disturbers = (
            [_Runner(run_writer, (self, number, float("inf"))) for number in range(self.writers)],
            [_Runner(_run_reader, (self, number)) for number in range(self.readers)],
            [_Runner(_run_disturber, (self, number)) for number in range(len(self.disturbers))],
        )
        with _naming(self.seed), _ending([*writers, *readers, *disturbers]):
            self._until_ready(writers)
            self._kill([*writers, *readers])
            self.enough.touch()
            for each in (*writers, *disturbers):
                each.join()
            (self.folder / "written").touch()  # readers end when they have seen all of it
            for each in readers:
                each.join()
            return judge(asyncio.run(whole_log(self.open_log)), self.folder)

    @property
    def enough(self) -> Path:
        """A file whose existence ends the writers."""
        return self.folder / "enough"

    def _until_ready(self, writers: list[_Runner]) -> None:
        """Wait for the imports of the writers, which may take longer than the race on a machine that is busy."""
        while not all((self.folder / f"writer-{number}").exists() for number in range(self.writers)):
            for each in writers:
                each.check()
            time.sleep(0.01)

    def _kill(self, victims: list[_Runner]) -> None:
        chance, begin = random.Random(self.seed), time.time()
        for moment in sorted(chance.uniform(0.2, 0.9) for _ in range(self.kills)):
            _sleep_until(begin + self.seconds * moment)
            chance.choice(victims).kill_and_start_again()
        _sleep_until(begin + self.seconds)


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.time()))


class _Runner:
    """A process of the race."""

    def __init__(self, target: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        self._target = target
        self._arguments = arguments
        self._start()

    def _start(self) -> None:
        self._process = _CONTEXT.Process(target=self._target, args=self._arguments)
        self._process.start()

    def kill_and_start_again(self) -> None:
        self.check()
        self.kill()
        self._start()

    def kill(self) -> None:
        self._process.kill()
        self._process.join()

    def join(self) -> None:
        self._process.join(120)
        assert not self._process.is_alive(), f"{self._target.__name__} does not come to its end"
        self.check()

    def check(self) -> None:
        """Fail if it has failed."""
        assert not self._process.exitcode, f"{self._target.__name__} failed; its error stands above"


@contextmanager
def _ending(runners: list[_Runner]) -> Iterator[None]:
    try:
        yield
    finally:
        for runner in runners:
            runner.kill()


@contextmanager
def _naming(seed: int) -> Iterator[None]:
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"race with seed {seed}: {error}") from None


async def _open_and_close(open_log: OpenLog) -> None:
    log = open_log()
    await log.open()
    await log.close()


def run_writer(plan: Race, number: int, end: float) -> None:
    """Be one of the writers of a race, in this process; for campaigns that do something else to writers than kill."""
    asyncio.run(write(plan, number, end))


def _run_reader(plan: Race, number: int) -> None:
    asyncio.run(_read(plan, number))


def _run_disturber(plan: Race, number: int) -> None:
    asyncio.run(plan.disturbers[number](random.Random(plan.seed + number), plan.seconds))


async def write(plan: Race, number: int, end: float) -> None:
    """Be one of the writers of a race, in this event loop; may be cancelled, as a process may be killed."""
    ledger = Ledger(plan.folder / f"writer-{number}")
    log = plan.open_log()
    await log.open()
    chance = random.Random(f"{plan.seed}-{number}-{os.getpid()}")
    writer = _Writer(log, ledger, f"{number}-{os.getpid()}", chance)

    def running() -> bool:
        return time.time() < end and not plan.enough.exists()

    try:
        await asyncio.gather(*(writer.run(task, running) for task in range(CONCURRENCY)))
    finally:
        await log.close()


class _Writer:
    """Appends at random, and notes every append before and after."""

    def __init__(self, log: EventLog, ledger: Ledger, name: str, chance: random.Random) -> None:
        self._log = log
        self._ledger = ledger
        self._name = name
        self._chance = chance
        self._done: list[tuple[Append, Appended]] = []
        self._numbers = itertools.count()
        self._hot: Counter[str] = Counter()

    async def run(self, task: int, running: Callable[[], bool]) -> None:
        version = 0
        while running():
            kind = self._chance.random()
            if kind < 0.4:
                version = await self._own_stream(f"Own-{self._name}-{task}", version)
            elif kind < 0.6:
                await self._hot_stream()
            elif kind < 0.8:
                await self._claim()
            elif kind < 0.95 or not self._done:
                await self._append(Append((self._event("", Revised),)))
            else:
                await self._again()

    async def _own_stream(self, stream_id: str, version: int) -> int:
        events = tuple(self._event(stream_id) for _ in range(self._chance.choice((1, 2, 3, 30))))
        appended = await self._append(Append(events, ((stream_id, version),)))
        if appended is None:
            self._ledger.write(told="contradicted", ids=[], answer=f"{stream_id}, its own, is not at {version}")
            rows = await self._log.read_stream(stream_id, limit=1_000_000)
            return rows[-1].version if rows else 0
        return version + len(events)

    async def _hot_stream(self) -> None:
        stream_id = f"Hot-{self._chance.randrange(HOT_TOPICS)}"
        rows = await self._log.read_stream(stream_id, after=self._hot[stream_id], limit=1_000_000)
        expected = self._hot[stream_id] = rows[-1].version if rows else self._hot[stream_id]
        other = f"Hot-{self._chance.randrange(HOT_TOPICS)}"
        events = (self._event(stream_id),) if other == stream_id else (self._event(stream_id), self._event(other))
        await self._append(Append(events, ((stream_id, expected),) if other == stream_id else (
            (stream_id, expected), (other, ANY))))  # fmt: skip

    async def _claim(self) -> None:
        """Decide on what a query shows, as a dynamic consistency boundary does."""
        query = topic(self._topic(), kinds=(Noted,) if self._chance.random() < 0.5 else ())
        after = await self._log.head()
        await self._log.read(query, before=after + 1, limit=10, backwards=True)
        await self._append(Append((self._event(""),), condition=AppendCondition(query, after)))

    async def _again(self) -> None:
        append, first = self._chance.choice(self._done)
        outcome = await self._log.append(append)
        if not isinstance(outcome, Appended) or (outcome.first, outcome.last) != (first.first, first.last):
            ids = [str(UUID(bytes=event.event_id)) for event in append.events]
            self._ledger.write(told="contradicted", ids=ids, answer=f"first {first}, then {outcome}")

    async def _append(self, append: Append) -> Appended | None:
        ids = [str(UUID(bytes=event.event_id)) for event in append.events]
        self._ledger.write(told="about to", ids=ids)
        outcome = await self._log.append(append)
        if not isinstance(outcome, Appended):
            self._ledger.write(told="refused", ids=ids)
            return None
        self._ledger.write(told="stored", ids=ids, **outcome_facts(outcome), **conditions(append))
        self._done = [*self._done[-50:], (append, outcome)]
        return outcome

    def _event(self, stream_id: str, kind: type[Noted] = Noted) -> Any:
        text = f"{self._name}-{next(self._numbers)}"  # the intent: no other event has this text
        return new_event(stream_id, self._topic(), kind=kind, event_id=uuid7(), text=text)

    def _topic(self) -> str:
        return f"t{self._chance.randrange(HOT_TOPICS)}"


def outcome_facts(outcome: Appended) -> dict[str, Any]:
    """Return what a ledger notes of an append that was acknowledged."""
    return {"first": outcome.first, "last": outcome.last, "repeated": outcome.repeated}


def conditions(append: Append) -> dict[str, Any]:
    """Return what a ledger notes of that which had to hold for an append."""
    facts: dict[str, Any] = {"expected": {stream: v for stream, v in append.expected if isinstance(v, int)}}
    if append.condition:
        item = append.condition.fail_if.items[0]
        facts |= {"types": item.types, "tags": item.tags, "after": append.condition.after}
    return facts


async def _read(plan: Race, number: int) -> None:
    """Follow the log by polling reads, as every subscription does below, and note what was seen before going on."""
    path = plan.folder / f"reader-{number}"
    position = _last_seen(path)
    ledger = Ledger(path)
    ledger.write(told="begin", after=position)
    log = plan.open_log()
    await log.open()
    while True:
        written = (plan.folder / "written").exists()
        head = await log.wait(position, 0.2)
        rows = await log.read(EventQuery.all(), after=position, before=head + 1, limit=200)
        if rows:
            ledger.write(told="saw", events=[(row.position, str(UUID(bytes=row.event_id))) for row in rows])
            position = rows[-1].position
        elif written and position >= await log.head():
            break
    await log.close()


def _last_seen(path: Path) -> int:
    if not path.exists():
        return 0
    seen = [fact["events"] for fact in facts(path) if fact["told"] == "saw"]
    return int(seen[-1][-1][0]) if seen else 0
