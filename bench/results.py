"""What a measurement gave, and how it is kept from one run to the next."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench.contenders import OURS, ROOT

STORED = ROOT / "bench" / "results.json"


class Figure(NamedTuple):
    """The median of the rounds, and the least and the most of them."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Figure:
        """Return the figure of at least one value."""
        return cls(*(_short(each) for each in (statistics.median(values), min(values), max(values))))


class Result(NamedTuple):
    """What the contenders did in one case on one engine; one that is missing cannot do it."""

    benchmark: str
    engine: str
    case: str
    unit: str
    figures: dict[str, Figure]

    @property
    def ours(self) -> Figure | None:
        """What Twofold did."""
        return self.figures.get(OURS)

    def ratio(self, contender: str) -> float | None:
        """Return how many times as good as a contender Twofold is; None if one of both is missing."""
        other = self.figures.get(contender)
        if self.ours is None or other is None or not self.ours.median or not other.median:
            return None
        ratio = self.ours.median / other.median
        return ratio if self.unit.endswith("/s") else 1 / ratio


class Run(NamedTuple):
    """Results and the machine on which they were measured."""

    machine: dict[str, str]
    results: list[Result]

    def to_json(self) -> str:
        """Return it as JSON, one result a line, so that a change of one shows as such."""
        lines = ",\n".join(f"    {json.dumps(each._asdict())}" for each in self.results)
        return f'{{\n  "machine": {json.dumps(self.machine)},\n  "results": [\n{lines}\n  ]\n}}\n'

    @classmethod
    def from_json(cls, text: str) -> Run:
        """Return what `to_json` wrote."""
        read: dict[str, Any] = json.loads(text)
        results = [
            Result(**each | {"figures": {name: Figure(*figure) for name, figure in each["figures"].items()}})
            for each in read["results"]
        ]
        return cls(read["machine"], results)

    def with_new(self, results: Iterable[Result], order: Sequence[str], load: float) -> Run:
        """Return a run in which new results take the places of old ones, by benchmarks in an order.

        Args:
            results: the new ones.
            order: the names of all benchmarks.
            load: what the machine had to do before the first of them.
        """
        by_case = {each[:3]: each for each in self.results} | {each[:3]: each for each in results}
        known = [each for each in by_case.values() if each.benchmark in order]
        return Run(this_machine(load), sorted(known, key=lambda each: order.index(each.benchmark)))


def stored(path: Path = STORED) -> Run:
    """Return the results that were kept, none at first."""
    return Run.from_json(path.read_text("utf-8")) if path.exists() else Run({}, [])


def this_machine(load: float) -> dict[str, str]:
    """Return what a reader wants to know of this machine."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "revision": _revision(),
        "load": f"{load:.1f}",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _revision() -> str:
    asked = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return asked.stdout.strip()


def _short(value: float) -> float:
    """Round to four digits: the machine is not as exact as that."""
    return float(f"{value:.4g}")
