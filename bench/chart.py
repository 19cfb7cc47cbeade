"""The chart of the README: bars of events per second, drawn from a run, the same for the same run."""

from __future__ import annotations

from html import escape

from bench.contenders import FLOOR, OURS
from bench.report import number
from bench.results import Result, Run

THEMES = {
    "light": {"text": "#1f2328", "faint": "#656d76", OURS: "#0969da", FLOOR: "#afb8c1", "eventsourcing": "#bf8700",
              "umadb": "#8250df"},
    "dark": {"text": "#e6edf3", "faint": "#8b949e", OURS: "#58a6ff", FLOOR: "#484f58", "eventsourcing": "#d29922",
             "umadb": "#a371f7"},
}  # fmt: skip
"""Colours of words and bars. The background is the page's."""
BARS = {OURS: "Twofold", FLOOR: "raw driver", "eventsourcing": "eventsourcing", "umadb": "umadb"}
GROUPS = {
    ("append", "1x1"): "1 writer, one event each",
    ("append", "64x1"): "64 writers, one event each",
    ("append", "bulk"): "1 000 events in one append",
    ("load", "1000"): "loading an aggregate of 1 000 events",
    ("read", "all"): "reading the whole log",
    ("project", "keyed"): "building a read model",
}
ENGINES = {"sqlite": "SQLite", "postgres": "PostgreSQL"}
WIDTH, COLUMN, LABEL, BAR = 860, 420, 92, 14
"""Pixels: of the chart, of an engine's half, of a bar's name, of a bar's height with its gap."""
LONGEST = COLUMN - LABEL - 90


def render(run: Run, theme: str) -> str:
    """Return the chart as SVG."""
    colours, parts, height = THEMES[theme], [], 0
    for place, (engine, title) in enumerate(ENGINES.items()):
        left, top = place * (WIDTH - COLUMN), 20
        parts.append(_text(left, top, f"{title}: events per second", colours["text"], bold=True))
        for group, words in GROUPS.items():
            found = [each for each in run.results if (each.benchmark, each.case, each.engine) == (*group, engine)]
            if found and found[0].ours:
                top += 26
                parts.append(_text(left, top, words, colours["text"]))
                top += 6
                parts += _bars(found[0], left, top, colours)
                top += BAR * len(_rates(found[0]))
        height = max(height, top + 12)
    style = '<style>text{font:12px system-ui,-apple-system,"Segoe UI",sans-serif}.b{font-weight:600}</style>'
    box = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {box}>\n{style}\n' + "\n".join(parts) + "\n</svg>\n"


def _rates(result: Result) -> dict[str, float]:
    """Return events per second of each contender; what is milliseconds for a stream becomes that, too."""
    found = {name: result.figures[name].median for name in BARS if name in result.figures}
    if result.unit.endswith("/s"):
        return found
    return {name: int(result.case) * 1000 / milliseconds for name, milliseconds in found.items()}


def _bars(result: Result, left: int, top: int, colours: dict[str, str]) -> list[str]:
    rates, parts = _rates(result), []
    for place, (name, rate) in enumerate(rates.items()):
        y, length = top + place * BAR, max(1, round(rate / max(rates.values()) * LONGEST))
        parts.append(_text(left, y + 10, BARS[name], colours["faint"]))
        parts.append(
            f'<rect x="{left + LABEL}" y="{y}" width="{length}" height="{BAR - 3}" rx="2" fill="{colours[name]}"/>'
        )
        parts.append(_text(left + LABEL + length + 6, y + 10, number(rate), colours["text"], bold=name == OURS))
    return parts


def _text(x: int, y: int, words: str, colour: str, *, bold: bool = False) -> str:
    weight = ' class="b"' if bold else ""
    return f'<text x="{x}" y="{y}" fill="{colour}"{weight}>{escape(words)}</text>'
