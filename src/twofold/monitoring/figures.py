"""The figures of an application: one table, of which Prometheus and OpenTelemetry get the same.

1. `FIGURES` says of each figure its name, its unit, what it tells, and by which labels its values differ.
2. `Figure.points` reads its values from a status, for which the databases were asked once for all figures.
3. What this process has counted needs no status; see `twofold.telemetry.tallies`.

A label's values are names from the code or states: never an id, a tenant or a text, of which there is no end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from twofold.monitoring.status import ApplicationStatus
from twofold.processes.instance import ProcessState
from twofold.processes.processes import ProcessStatus
from twofold.synchronizer.status import ProjectionState, ProjectionStatus

Point = tuple[tuple[str, ...], float]
"""The values of the labels, and the value."""

SECONDS = "s"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Something that is measured."""

    name: str
    unit: str
    """As OpenTelemetry writes it: `s`, or what is counted in braces, or empty."""
    about: str
    labels: tuple[str, ...] = ()
    read: Callable[[ApplicationStatus], Iterable[Point]]

    def points(self, found: ApplicationStatus | None) -> list[Point]:
        """Return the values of a status; none if the databases did not answer, except of `UP`."""
        if self is UP:
            return [((), float(found is not None))]
        return [] if found is None else list(self.read(found))


UP = Figure(
    name="twofold.up", unit="", about="Whether the databases answered; while they do not, only counters are told",
    read=lambda _: (),
)  # fmt: skip


def _of_projections(name: str, unit: str, about: str, value: Callable[[ProjectionStatus], float | None]) -> Figure:
    """Return a figure of each read model, reaction and feed of a process for which it has a value."""

    def read(found: ApplicationStatus) -> Iterator[Point]:
        for each in found.projections:
            if (known := value(each)) is not None:
                yield (each.name,), known

    return Figure(name=f"twofold.projection.{name}", unit=unit, about=about, labels=("projection",), read=read)


def _of_processes(name: str, unit: str, about: str, value: Callable[[ProcessStatus], float]) -> Figure:
    def read(found: ApplicationStatus) -> Iterator[Point]:
        for each in found.processes:
            yield (each.name,), value(each)

    return Figure(name=f"twofold.process.{name}", unit=unit, about=about, labels=("process",), read=read)


def _states(found: ApplicationStatus) -> Iterator[Point]:
    for each in found.projections:
        for state in ProjectionState:
            yield (each.name, state.value), float(each.state is state)


def _instances(found: ApplicationStatus) -> Iterator[Point]:
    for each in found.processes:
        for state in ProcessState:
            yield (each.name, state.value), float(getattr(each.counts, state.value))


def _unattended(status: ProjectionStatus) -> float:
    return max((each.unattended for each in status.segments), default=timedelta()).total_seconds()


def _unattended_building(status: ProjectionStatus) -> float | None:
    return None if status.building is None else status.building_unattended.total_seconds()


def _held_back(status: ProjectionStatus) -> int:
    return len({held.tenant for each in status.segments for held in each.held_back})


FIGURES: tuple[Figure, ...] = (
    UP,
    Figure(
        name="twofold.log.head", unit="{event}", about="Position at which the log ends",
        read=lambda found: [((), float(found.head))],
    ),
    _of_projections(
        "lag", SECONDS, "Age of the oldest event that is still to be handled; 0 if there is none",
        lambda each: each.lag.total_seconds(),
    ),
    _of_projections(
        "max_lag", SECONDS, "Lag that the code allows; absent where it says none, and where the code is not here",
        lambda each: None if each.max_lag is None else each.max_lag.total_seconds(),
    ),
    _of_projections(
        "behind", "{event}", "Positions between what has been handled and the head of the log",
        lambda each: each.behind,
    ),
    _of_projections("position", "{event}", "Position up to which all is handled", lambda each: each.position),
    _of_projections("parked", "{event}", "Events that are parked", lambda each: each.parked),
    _of_projections(
        "problems", "{problem}", "What is wrong, counted; 0 is healthy, and the dashboard and `status()` tell which",
        lambda each: len(each.problems),
    ),
    _of_projections("unattended", SECONDS, "For how long no worker has worked on one of its segments", _unattended),
    _of_projections("segments", "{segment}", "Segments into which it is split", lambda each: len(each.segments)),
    _of_projections(
        "segments.held", "{segment}", "Segments that a worker holds",
        lambda each: sum(bool(segment.worker) for segment in each.segments),
    ),
    _of_projections("tenants.held_back", "{tenant}", "Tenants whose many events are taken in turns", _held_back),
    _of_projections("version", "", "Version of the code that is shown", lambda each: each.version),
    _of_projections("generation", "", "Number of the generation that is shown", lambda each: each.generation),
    _of_projections(
        "building.position", "{event}", "Position up to which the next generation is built; absent unless one is",
        lambda each: each.building,
    ),
    _of_projections(
        "building.unattended", SECONDS, "For how long no worker has built the next generation; absent unless one is",
        _unattended_building,
    ),
    Figure(
        name="twofold.projection.state", unit="", about="1 for the state that it is in, 0 for the others",
        labels=("projection", "state"), read=_states,
    ),
    Figure(
        name="twofold.process.instances", unit="{instance}", about="Instances in each state",
        labels=("process", "state"), read=_instances,
    ),
    _of_processes(
        "ignored", "{input}", "Inputs that came after the end of their instances", lambda each: each.counts.ignored
    ),
    _of_processes(
        "timer.late", SECONDS, "Age of the oldest timer that is due; 0 if none is",
        lambda each: each.counts.timer_late.total_seconds(),
    ),
    _of_processes(
        "command.age", SECONDS, "Age of the oldest command without an outcome; 0 if all have one",
        lambda each: each.counts.oldest_command.total_seconds(),
    ),
    _of_processes(
        "problems", "{problem}", "What is wrong, counted; 0 is healthy, and the dashboard and `status()` tell which",
        lambda each: len(each.problems),
    ),
)  # fmt: skip
"""All figures that are read from the databases: every process that asks tells the same."""
