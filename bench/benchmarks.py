"""The benchmarks. Each asks all contenders of an engine in turn, round by round, so that noise hits all alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from bench import servers, workload
from bench.contenders import DECODED, FLOOR, Contender, Entry, started
from bench.results import Figure, Result

FOLLOWERS = 1000
WAITING = 100_000
"""Timers that wait."""
DUE = 1000
"""Timers that are due at one moment."""


class Settings(NamedTuple):
    """How long to measure."""

    rounds: int
    seconds: float
    events: int
    sizes: tuple[int, ...] = (100_000, 1_000_000)


class Measurement(NamedTuple):
    """A case, its unit, and the question to put to each contender."""

    case: str
    unit: str
    ask: Callable[[Contender], float | None]
    decoded: Callable[[Contender], float | None] | None = None
    """The question to the floor where it makes objects of the rows, too."""


def append(settings: Settings) -> list[Measurement]:
    """Events per second that were appended and acknowledged as durable; writers x events of each append."""

    def measurement(case: workload.Case) -> Measurement:
        return Measurement(
            case.name,
            "events/s",
            lambda contender: contender.ask("append", writers=case.writers, batch=case.batch, seconds=settings.seconds),
        )

    tagged = Measurement(
        "bulk-tagged", "events/s",
        lambda contender: contender.ask("append_tagged", batch=workload.BULK, seconds=settings.seconds),
    )  # fmt: skip
    return [*map(measurement, workload.CASES), tagged]


def load(settings: Settings) -> list[Measurement]:
    """Milliseconds to load one stream, decode and fold it; the floor fetches its rows.

    `command` loads, decides and appends: in a process that keeps the state, or in one that has just begun.
    """

    def measurement(events: int, times: int) -> Measurement:
        return Measurement(
            str(events), "ms",
            lambda contender: contender.ask("load", events=events, times=times),
            lambda floor: floor.ask("load_decoded", events=events, times=times),
        )  # fmt: skip

    def command(events: int, how: str) -> Measurement:
        return Measurement(
            f"command-{events}-{how}", "ms",
            lambda contender: contender.ask("command", events=events, how=how, times=200),
        )  # fmt: skip

    kept = Measurement("1000-kept", "ms", lambda contender: contender.ask("load_kept", events=workload.BULK, times=200))
    commands = [command(events, how) for events in (workload.SHORT, workload.LONG) for how in ("kept", "fresh")]
    return [measurement(workload.SHORT, 200), measurement(workload.BULK, 20), kept, *commands]


def read(settings: Settings) -> list[Measurement]:
    """Events per second of the whole log, decoded; the floor fetches the rows."""
    return [
        Measurement(
            "all", "events/s",
            lambda contender: contender.ask("read", events=settings.events),
            lambda floor: floor.ask("read_decoded", events=settings.events),
        )
    ]  # fmt: skip


def copy(settings: Settings) -> list[Measurement]:
    """Events per second of a log with two tags an event into another database, by a copy and by a file.

    A copy verifies, writes and compares; an export verifies and writes, an import checks the file first.
    """

    def measurement(case: str, what: str) -> Measurement:
        return Measurement(case, "events/s", lambda contender: contender.ask(what, events=settings.events))

    return [measurement("all", "copy"), measurement("export", "export"), measurement("import", "import_file")]


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

    return [
        measurement("keyed", "keyed", 1), measurement("keyed-2-workers", "keyed", 2),
        Measurement("rebuild", "events/s", lambda contender: contender.ask("rebuild")),
        measurement("sql", "sql", 1), measurement("slow", "slow", 1), measurement("slow-2-workers", "slow", 2),
    ]  # fmt: skip


def following(settings: Settings) -> list[Measurement]:
    """Events per second, appended one by one, until the last of the read models that follow shows the last of them."""

    def measurement(projections: int) -> Measurement:
        return Measurement(
            str(projections), "events/s",
            lambda contender: contender.ask("follow", projections=projections, commits=300),
        )  # fmt: skip

    return [measurement(1), measurement(50)]


def processes(settings: Settings) -> list[Measurement]:
    """Inputs of a process per second, with effects exactly once: events, and the outcomes of their commands."""
    events = min(settings.events // 5, 10_000)
    return [Measurement("inputs", "inputs/s", lambda contender: contender.ask("process", events=events))]


def timers(settings: Settings) -> list[Measurement]:
    """Percent of a core while timers wait, and milliseconds until those have fired that are due at one moment."""

    def waiting(count: int) -> Measurement:
        return Measurement(
            f"{count}-waiting", "% of a core",
            lambda contender: contender.ask("wait", timers=count, seconds=10 * settings.seconds),
        )  # fmt: skip

    def due(waiting: int) -> Measurement:
        return Measurement(
            f"{DUE}-due-beside-{waiting}", "ms", lambda contender: contender.ask("fire", timers=waiting, count=DUE)
        )

    return [waiting(0), due(0), waiting(WAITING), due(WAITING)]


def consistency(settings: Settings) -> list[Measurement]:
    """Milliseconds from a commit to the answer of a query that shows it, median; the read model may be elsewhere."""
    return [
        Measurement("one-process", "ms", lambda contender: contender.ask("consistency", commits=100, processes=1)),
        Measurement("two-processes", "ms", lambda contender: contender.ask("consistency", commits=100, processes=2)),
    ]


def idle(settings: Settings) -> list[Measurement]:
    """Percent of a core that an application uses while nothing happens, by projections and by followers of a query.

    It is measured for 15 s, within which each follower asks for a sign of life once.
    """

    def measurement(case: str, projections: int, followers: int) -> Measurement:
        return Measurement(
            case, "% of a core",
            lambda contender: contender.ask(
                "idle", projections=projections, followers=followers, seconds=15 * settings.seconds
            ),
        )  # fmt: skip

    return [
        measurement("1", 1, 0), measurement("10", 10, 0), measurement("40", 40, 0),
        measurement("1000-followers", 1, FOLLOWERS),
        Measurement("seen", "ms", lambda contender: contender.ask("seen", commits=50)),
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
    grown: set[tuple[str, int]] = set()

    def measurement(size: int, what: str, unit: str) -> Measurement:
        def ask(contender: Contender) -> float | None:
            if (contender.name, size) not in grown:
                grown.add((contender.name, size))
                if contender.ask("grow", events=size, patience=growing_time(size)) is None:
                    return None
                servers.settle(contender.place)
            return contender.ask("growth", what=what, times=200)

        return Measurement(f"{size}-{what}", unit, ask)

    return [measurement(size, what, unit) for size in settings.sizes for what, unit in GROWING.items()]


GROWING = {
    "append": "ms", "decide": "ms", "read": "ms", "get": "ms", "page": "ms", "start": "ms",
    "memory": "MB", "size": "bytes/event",
}  # fmt: skip
"""What is measured on a log of each length, and its unit."""


def growing_time(events: int) -> float:
    """Return the seconds within which a log must have grown so long, and its read model with it."""
    return 600 + events / 500


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


def dispatch(settings: Settings) -> list[Measurement]:
    """Microseconds of a command through three middlewares to a handler that does nothing; the floor calls that."""
    return [
        Measurement(
            "three-middlewares", "us", lambda contender: contender.ask("dispatch", seconds=settings.seconds)
        )
    ]  # fmt: skip


BENCHMARKS = {
    "append": append,
    "load": load,
    "read": read,
    "copy": copy,
    "latency": latency,
    "size": size,
    "project": project,
    "following": following,
    "processes": processes,
    "timers": timers,
    "consistency": consistency,
    "http": http,
    "dispatch": dispatch,
    "growth": growth,
    "idle": idle,
    "followers": followers,
}
FILLED = {
    "load": ("fill", 1), "read": ("fill", 1), "copy": ("fill_tagged", 1), "size": ("fill", 1),
    "project": ("fill_accounts", 3),
}  # fmt: skip
"""How the log is made that the measurements share, and how many times as long as the settings say."""


def run(name: str, engine: str, entries: list[Entry], settings: Settings) -> Iterator[Result]:
    """Measure one benchmark on one engine."""
    with started(entries) as contenders:
        if name in FILLED:
            fill, times = FILLED[name]
            for contender in contenders:
                contender.ask(fill, events=times * settings.events)
            for contender in contenders:
                servers.settle(contender.place)
        for measurement in BENCHMARKS[name](settings):
            yield _result(name, engine, measurement, contenders, 1 if name == "size" else settings.rounds)


def _result(name: str, engine: str, measurement: Measurement, contenders: list[Contender], rounds: int) -> Result:
    answers: dict[str, list[float]] = {}
    for number in range(rounds):
        turn = number % len(contenders)
        for contender in contenders[turn:] + contenders[:turn]:
            for answered, ask in _questions(measurement, contender):
                value = ask(contender)
                if value is not None:
                    answers.setdefault(answered, []).append(value)
    figures = {contender: Figure.of(values) for contender, values in answers.items()}
    return Result(name, engine, measurement.case, measurement.unit, figures)


def _questions(measurement: Measurement, contender: Contender) -> list[tuple[str, Callable[[Contender], float | None]]]:
    asked = [(contender.name, measurement.ask)]
    if contender.name == FLOOR and measurement.decoded:
        asked.append((DECODED, measurement.decoded))
    return asked
