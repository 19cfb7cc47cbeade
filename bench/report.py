"""Results for people at a terminal, and for programs."""

from __future__ import annotations

import json

from bench.contenders import BEFORE, DECODED, FLOOR, OURS, PEERS
from bench.results import Figure, Result

COLUMNS = (OURS, BEFORE, FLOOR, DECODED, *PEERS)
NOTE = """\
Medians of the rounds, with the least and the most of them; all contenders took turns in one run.
  floor      the raw driver by hand: the same rows, columns and indexes, without framework
  decoded    the same, and JSON made into objects
  x          how many times as good Twofold is as this one, in this run; below 1 it is slower or larger
"""


def as_json(result: Result) -> str:
    """Return a result as one line of JSON."""
    return json.dumps(result._asdict())


def heading() -> str:
    """Return the headings of the table, and what its columns mean."""
    return f"{NOTE}\n{_line('what, engine, unit', COLUMNS)}"


def as_rows(result: Result) -> str:
    """Return a result as two rows of the table: medians with ratios, and their spread below."""
    what = f"{result.benchmark} {result.case}, {result.engine}, {result.unit}"
    medians = [_compared(result, name) for name in COLUMNS]
    spreads = [spread(result.figures.get(name)) for name in COLUMNS]
    return f"{_line(what, medians)}\n{_line('', spreads)}"


def number(value: float) -> str:
    """Return a figure as a reader likes it: thousands divided, three digits of what is small."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def times(ratio: float) -> str:
    """Return a ratio in two digits, or as a whole number."""
    return f"{ratio:.2g}" if ratio < 10 else f"{ratio:.0f}"


def spread(figure: Figure | None) -> str:
    """Return the least and the most of a figure, empty if there is none."""
    return f"{number(figure.low)}-{number(figure.high)}" if figure else ""


def _compared(result: Result, name: str) -> str:
    figure, ratio = result.figures.get(name), result.ratio(name)
    if figure is None:
        return "-"
    if name == OURS or ratio is None:
        return number(figure.median)
    return f"{number(figure.median)} ({times(ratio)}x)"


def _line(what: str, cells: tuple[str, ...] | list[str]) -> str:
    return f"{what:<44}" + "".join(f"{cell:>20}" for cell in cells)
