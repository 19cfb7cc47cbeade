"""Write `docs/explanation/performance.md` and its charts from what was kept: `python -m bench.page`."""

from __future__ import annotations

from bench import chart
from bench.contenders import DECODED, FLOOR, OURS, PEERS, ROOT
from bench.report import number, spread, times
from bench.results import Result, Run, stored

TEMPLATE = ROOT / "bench" / "performance.md"
PAGE = ROOT / "docs" / "explanation" / "performance.md"
CHARTS = ROOT / "docs" / "assets"
ENGINES = {"sqlite": "SQLite", "postgres": "PostgreSQL"}
COLUMNS = {OURS: "Twofold", FLOOR: "raw driver", DECODED: "and JSON", **{peer: peer for peer in PEERS}}
BUSY = 1.0
"""Load of the machine before the first measurement from which on the page warns of its numbers."""
WORDS = {
    ("append", "1x1"): "append: 1 writer, 1 event each",
    ("append", "1x3"): "append: 1 writer, 3 events each",
    ("append", "16x1"): "append: 16 writers, 1 event each",
    ("append", "64x1"): "append: 64 writers, 1 event each",
    ("append", "64x3"): "append: 64 writers, 3 events each",
    ("append", "bulk"): "append: 1 000 events at once",
    ("append", "bulk-tagged"): "append: 1 000 events at once, two tags each",
    ("load", "10"): "load an aggregate of 10 events",
    ("load", "1000"): "load an aggregate of 1 000 events",
    ("load", "1000-kept"): "load it again in the same process, which keeps its state",
    ("load", "command-10-kept"): "a command on a stream of 10 events",
    ("load", "command-10-fresh"): "the same as the first command of a process",
    ("load", "command-10000-kept"): "a command on a stream of 10 000 events",
    ("load", "command-10000-fresh"): "the same as the first command of a process",
    ("read", "all"): "read the whole log",
    ("copy", "all"): "`twofold copy`, two tags an event: verify, write, compare",
    ("copy", "export"): "`twofold export`, JSON Lines",
    ("copy", "import"): "`twofold import`, JSON Lines, two tags an event",
    ("latency", "1x1"): "from a commit to a subscriber",
    ("size", "all"): "size of an event, with its indexes",
    ("project", "keyed"): "read model by keys, from the first event on",
    ("project", "keyed-2-workers"): "the same, two workers",
    ("project", "rebuild"): "the same, built again beside the one that serves",
    ("project", "sql"): "read model by SQL, a statement for each event",
    ("project", "slow"): "read model that computes for 0.1 ms an event",
    ("project", "slow-2-workers"): "the same, two workers",
    ("following", "1"): "append one by one, and 1 read model follows",
    ("processes", "inputs"): "events and outcomes taken in by a process, each event with a command",
    ("timers", "0-waiting"): "at rest, 1 process, no timer",
    ("timers", "100000-waiting"): "at rest, 100 000 timers wait",
    ("timers", "1000-due-beside-0"): "1 000 timers are due at one moment, until all have fired",
    ("timers", "1000-due-beside-100000"): "the same, 100 000 others wait",
    ("following", "50"): "append one by one, and 50 read models follow",
    ("consistency", "one-process"): "from a commit to a query that shows it",
    ("consistency", "two-processes"): "the same, the read model kept by another process",
    ("http", "post"): "HTTP: POST, projections in the same process",
    ("http", "get"): "HTTP: GET, projections in the same process",
    ("http", "post-apart"): "HTTP: POST, projections in another process",
    ("http", "get-apart"): "HTTP: GET, projections in another process",
    ("dispatch", "three-middlewares"): "a command through three middlewares, to a handler that does nothing",
    ("idle", "1"): "at rest, 1 read model",
    ("idle", "10"): "at rest, 10 read models",
    ("idle", "40"): "at rest, 40 read models",
    ("idle", "1000-followers"): "at rest, 1 000 live followers",
    ("idle", "seen"): "at rest, a commit of another process is seen",
    ("followers", "none"): "16 writers, no live follower",
    ("followers", "1000-idle"): "16 writers beside 1 000 idle followers",
    ("followers", "reach-1000"): "a change reaches 1 000 followers",
}
"""What each case is to a reader who has not seen the benchmarks."""
GROWN = {
    "append": "append", "decide": "decide on a customer's ten events, and append", "read": "read by tag",
    "get": "get a row", "page": "a page of rows", "start": "start", "memory": "the most memory that it used",
    "size": "size of an event in the log, with its indexes",
}  # fmt: skip


def render(run: Run) -> str:
    """Return the page of a run."""
    results = [each for each in run.results if each.ours is not None]
    beside = [each for each in results if each.benchmark != "growth"]
    grown = [each for each in results if each.benchmark == "growth"]
    return TEMPLATE.read_text("utf-8").format(
        machine=_machine(run), table=_table(beside), growth=_growth(grown) if grown else "", slower=_slower(beside)
    )


def write(run: Run) -> None:
    """Write the page and both charts."""
    PAGE.write_text(render(run), "utf-8")
    CHARTS.mkdir(exist_ok=True)
    for theme in chart.THEMES:
        (CHARTS / f"performance-{theme}.svg").write_text(chart.render(run, theme), "utf-8")


def _machine(run: Run) -> str:
    if not run.machine:
        return "none yet"
    told = "{processor}, {cores} cores, {system}, CPython {python}, on {date} at revision {revision}"
    if float(run.machine["load"]) >= BUSY:
        told += (
            ". **It was busy with other programs (load {load}): these numbers only show how the page looks; "
            "`make bench` on a machine at rest replaces them**"
        )
    return told.format(**run.machine)


def _table(results: list[Result]) -> str:
    shown = [name for name in COLUMNS if any(name in each.figures for each in results)]
    lines = ["| what | engine | unit | " + " | ".join(COLUMNS[name] for name in shown) + " |"]
    lines.append("|---|---|---|" + "---|" * len(shown))
    order = {key: place for place, key in enumerate(WORDS)}
    for each in sorted(results, key=lambda each: (order[each.benchmark, each.case], each.engine == "postgres")):
        cells = " | ".join(_cell(each, name) for name in shown)
        lines.append(f"| {WORDS[each.benchmark, each.case]} | {ENGINES[each.engine]} | {each.unit} | {cells} |")
    return "\n".join(lines) + "\n"


def _cell(result: Result, name: str) -> str:
    figure, ratio = result.figures.get(name), result.ratio(name)
    if figure is None:
        return "-"
    text = f"{number(figure.median)} ({spread(figure)})" if figure.low != figure.high else number(figure.median)
    if name == OURS:
        return f"**{number(figure.median)}**{text.removeprefix(number(figure.median))}"
    return text if ratio is None else f"{text} {times(ratio)}x"


def _growth(results: list[Result]) -> str:
    sizes = sorted({int(each.case.split("-")[0]) for each in results})
    lines = [
        "## As the log grows\n",
        "Two tags an event, a few customers with most of them, a read model of 200 000 rows. One request takes:\n",
        "| what | engine | " + " | ".join(f"{size:,} events" for size in sizes) + " |",
        "|---|---|" + "---|" * len(sizes),
    ]
    by_case = {(each.engine, each.case): each for each in results}
    for what, words in GROWN.items():
        for engine in ENGINES:
            found = [by_case.get((engine, f"{size}-{what}")) for size in sizes]
            cells = [f"{number(each.ours.median)} {each.unit}" if each and each.ours else "-" for each in found]
            if any(found):
                lines.append(f"| {words} | {ENGINES[engine]} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _slower(results: list[Result]) -> str:
    lines = []
    for each in results:
        for peer in PEERS:
            ratio = each.ratio(peer)
            if ratio is not None and ratio < 1 and each.ours is not None:
                ours, theirs = number(each.ours.median), number(each.figures[peer].median)
                what = WORDS[each.benchmark, each.case]
                lines.append(
                    f"- {what}, {ENGINES[each.engine]}: {ours} {each.unit} against {theirs} of {peer}, {times(ratio)}x."
                )
    return "\n".join(lines) or "Than a peer: in no case that was measured."


if __name__ == "__main__":
    write(stored())
