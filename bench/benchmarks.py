"""The benchmarks. Each asks all contenders of an engine in turn, round by round, so that noise hits all alike."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from typing import NamedTuple

from bench import workload
from bench.contenders import FLOOR, OURS, Contender, Entry, started

FOLLOWERS = 1000


class Settings(NamedTuple):
    """How long to measure."""

    rounds: int
    seconds: float
    events: int
    sizes: tuple[int, ...] = (100_000, 1_000_000)


class Result(NamedTuple):
    """Medians of the rounds; None where a contender cannot do this."""

    name: str
    engine: str
    case: str
    value: float | None
    unit: str
    floor: float | None
    peers: dict[str, float | None]


class Measurement(NamedTuple):
    """A case, its unit, and the question to put to each contender."""

    case: str
    unit: str
    ask: Callable[[Contender], float | None]


def append(settings: Settings) -> list[Measurement]:
    """Events per second that were appended and acknowledged as durable."""

    def measurement(case: workload.Case) -> Measurement:
        return Measurement(
            case.name,
            "events/s",
            lambda contender: contender.ask("append", writers=case.writers, batch=case.batch, seconds=settings.seconds),
        )

    return [measurement(case) for case in workload.CASES]


def load(settings: Settings) -> list[Measurement]:
    """Milliseconds to load one stream, decode and fold it; the floor fetches its rows."""
    return [
        Measurement("10", "ms", lambda contender: contender.ask("load", events=workload.SHORT, times=200)),
        Measurement("1000", "ms", lambda contender: contender.ask("load", events=workload.BULK, times=20)),
    ]


def read(settings: Settings) -> list[Measurement]:
    """Events per second of the whole log, decoded; the floor fetches the rows."""
    return [Measurement("all", "events/s", lambda contender: contender.ask("read", events=settings.events))]


def latency(settings: Settings) -> list[Measurement]:
    """Milliseconds from an acknowledged append to the handler of a live subscription, median."""
    return [Measurement("1x1", "ms", lambda contender: contender.ask("latency", commits=200))]


def size(settings: Settings) -> list[Measurement]:
    """Bytes per event, indexes included."""
    return [Measurement("all", "bytes/event", lambda contender: contender.ask("size", events=settings.events))]


def project(settings: Settings) -> list[Measurement]:
    """Events per second from the log into a read model of accounts; the floor is a loop over batches, by hand."""

    def measurement(case: str, kind: str, workers: int) -> Measurement:
        return Measurement(case, "events/s", lambda contender: contender.ask("project", kind=kind, workers=workers))

    return [measurement("keyed", "keyed", 1), measurement("keyed-2-workers", "keyed", 2), measurement("sql", "sql", 1)]


def consistency(settings: Settings) -> list[Measurement]:
    """Milliseconds from a commit to the answer of a query that shows it, median; the read model may be elsewhere."""
    return [
        Measurement("one-process", "ms", lambda contender: contender.ask("consistency", commits=100, processes=1)),
        Measurement("two-processes", "ms", lambda contender: contender.ask("consistency", commits=100, processes=2)),
    ]


def idle(settings: Settings) -> list[Measurement]:
    """Percent of a core that an application uses while nothing happens, by projections and by followers of a query."""

    def measurement(case: str, projections: int, followers: int) -> Measurement:
        return Measurement(
            case, "% of a core",
            lambda contender: contender.ask(
                "idle", projections=projections, followers=followers, seconds=10 * settings.seconds
            ),
        )  # fmt: skip

    return [
        measurement("1", 1, 0), measurement("10", 10, 0), measurement("40", 40, 0),
        measurement("1000-followers", 1, FOLLOWERS),
    ]  # fmt: skip


def followers(settings: Settings) -> list[Measurement]:
    """What followers of queries cost 16 writers, in appends per second, and how soon a change reaches all of them."""

    def writing(case: str, followers: int) -> Measurement:
        return Measurement(
            case, "appends/s",
            lambda contender: contender.ask("followed", followers=followers, seconds=3 * settings.seconds),
        )  # fmt: skip

    return [
        writing("none", 0), writing("1000-idle", FOLLOWERS),
        Measurement("reach-1000", "ms", lambda contender: contender.ask("reach", followers=FOLLOWERS, changes=5)),
    ]  # fmt: skip


def growth(settings: Settings) -> list[Measurement]:
    """What one request costs on logs of growing length; two tags an event, a few customers with most of the events."""

    def measurement(size: int, what: str) -> Measurement:
        def ask(contender: Contender) -> float | None:
            if contender.ask("grow", events=size) is None:
                return None
            return contender.ask("growth", what=what)

        return Measurement(f"{size}-{what}", "MB" if what == "memory" else "ms", ask)

    asked = ("append", "decide", "read", "get", "page", "start", "memory")
    return [measurement(size, what) for size in settings.sizes for what in asked]


def http(settings: Settings) -> list[Measurement]:
    """Requests per second of the Orders API, one worker, 16 connections; the floor validates and stores nothing."""

    def measurement(case: str, request: str, apart: int) -> Measurement:
        return Measurement(
            case, "req/s",
            lambda contender: contender.ask("http", request=request, seconds=3 * settings.seconds, apart=apart),
        )  # fmt: skip

    return [
        measurement("post", "post", 0), measurement("get", "get", 0),
        measurement("post-apart", "post", 1), measurement("get-apart", "get", 1),
    ]  # fmt: skip


BENCHMARKS = {
    "append": append,
    "load": load,
    "read": read,
    "latency": latency,
    "size": size,
    "project": project,
    "consistency": consistency,
    "http": http,
    "growth": growth,
    "idle": idle,
    "followers": followers,
}
FILLED = {"load": ("fill", 1), "read": ("fill", 1), "size": ("fill", 1), "project": ("fill_accounts", 3)}
"""How the log is made that the measurements share, and how many times as long as the settings say."""


def run(name: str, engine: str, entries: list[Entry], settings: Settings) -> Iterator[Result]:
    """Measure one benchmark on one engine."""
    with started(entries) as contenders:
        if name in FILLED:
            fill, times = FILLED[name]
            for contender in contenders:
                contender.ask(fill, events=times * settings.events)
        for measurement in BENCHMARKS[name](settings):
            yield _result(name, engine, measurement, contenders, 1 if name == "size" else settings.rounds)


def _result(name: str, engine: str, measurement: Measurement, contenders: list[Contender], rounds: int) -> Result:
    answers: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for number in range(rounds):
        turn = number % len(contenders)
        for contender in contenders[turn:] + contenders[:turn]:
            value = measurement.ask(contender)
            if value is not None:
                answers[contender.name].append(value)
    medians = {name: statistics.median(values) if values else None for name, values in answers.items()}
    ours, floor = medians.pop(OURS, None), medians.pop(FLOOR, None)
    return Result(name, engine, measurement.case, ours, measurement.unit, floor, medians)
