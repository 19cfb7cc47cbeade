"""Results for people and for programs."""

from __future__ import annotations

import json

from bench.benchmarks import Result
from bench.contenders import BEFORE, FLOOR, OURS, PEERS

HEADINGS = ("benchmark", "engine", "case", "unit", OURS, BEFORE, FLOOR, *PEERS)


def as_json(result: Result) -> str:
    """Return a result as one line of JSON."""
    return json.dumps(result._asdict())


def heading() -> str:
    """Return the headings of the table, and what its ratios mean."""
    note = "(nx): how many times better twofold is than this one, in this run; floor: the raw driver, without framework"
    return f"{note}\n\n{_line(HEADINGS)}"


def as_row(result: Result) -> str:
    """Return a result as a row of the table."""
    others = (result.peers.get(BEFORE), result.floor, *(result.peers.get(name) for name in PEERS))
    compared = (_compared(result, other) for other in others)
    return _line((result.name, result.engine, result.case, result.unit, _number(result.value), *compared))


def _compared(result: Result, other: float | None) -> str:
    if not other or not result.value:
        return _number(other)
    ratio = result.value / other if result.unit.endswith("/s") else other / result.value
    return f"{_number(other)} ({ratio:.2g}x)" if ratio < 10 else f"{_number(other)} ({ratio:.0f}x)"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3f}"


def _line(cells: tuple[str, ...]) -> str:
    name, engine, case, unit, *numbers = cells
    return f"{name:<13}{engine:<10}{case:<16}{unit:<12}" + "".join(f"{number:>20}" for number in numbers)
