"""The page and the charts of performance follow from the results that are kept, and say where Twofold is slower."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from bench import chart, page
from bench.benchmarks import BENCHMARKS, Settings
from bench.contenders import FLOOR, OURS
from bench.results import Figure, Result, Run, stored

MACHINE = {
    "processor": "a",
    "cores": "2",
    "system": "b",
    "python": "3",
    "date": "today",
    "revision": "c",
    "load": "0.2",
}


def result(case: str = "1x1", unit: str = "events/s", benchmark: str = "append", **figures: float) -> Result:
    return Result(benchmark, "sqlite", case, unit, {name: Figure.of([value]) for name, value in figures.items()})


def test_the_page_is_what_the_kept_results_make() -> None:
    assert page.PAGE.read_text("utf-8") == page.render(stored())


@pytest.mark.parametrize("theme", chart.THEMES)
def test_a_chart_is_what_the_kept_results_make(theme: str) -> None:
    assert (page.CHARTS / f"performance-{theme}.svg").read_text("utf-8") == chart.render(stored(), theme)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_case_has_words_for_a_stranger(name: str) -> None:
    cases = [each.case for each in BENCHMARKS[name](Settings(1, 1.0, 1000))]
    if name == "growth":
        assert {case.split("-")[1] for case in cases} == set(page.GROWN)
    else:
        assert [case for case in cases if (name, case) not in page.WORDS] == []


def test_the_page_says_where_a_peer_is_faster_or_smaller() -> None:
    faster = result(twofold=100.0, umadb=200.0, eventsourcing=50.0)
    slower = result("all", "bytes/event", "size", twofold=100.0, umadb=50.0, eventsourcing=200.0)
    text = page.render(Run(MACHINE, [faster, slower])).split("## Where Twofold is slower")[1]
    assert "append: 1 writer, 1 event each, SQLite: 100 events/s against 200 of umadb, 0.5x" in text
    assert "size of an event, with its indexes, SQLite: 100 bytes/event against 50 of umadb, 0.5x" in text
    assert "eventsourcing" not in text


def test_a_figure_shows_its_spread() -> None:
    spread = Result("append", "sqlite", "1x1", "events/s", {OURS: Figure.of([90.0, 100.0, 120.0])})
    assert "**100** (90-120)" in page.render(Run(MACHINE, [spread]))


def test_a_run_of_some_benchmarks_leaves_the_others_as_they_were() -> None:
    old = Run(MACHINE, [result(twofold=1.0), result("all", benchmark="read", twofold=2.0)])
    new = old.with_new([result(twofold=3.0)], ("append", "read"), 0.2)
    assert [(each.benchmark, each.figures[OURS].median) for each in new.results] == [("append", 3.0), ("read", 2.0)]
    assert Run.from_json(new.to_json()) == new


def test_a_chart_is_svg_whose_longest_bar_is_the_fastest() -> None:
    drawn = ElementTree.fromstring(chart.render(Run(MACHINE, [result(twofold=100.0, floor=200.0)]), "light"))
    widths = {each.get("fill"): int(each.get("width", "0")) for each in drawn.iter("{http://www.w3.org/2000/svg}rect")}
    colours = chart.THEMES["light"]
    assert widths[colours[FLOOR]] == chart.LONGEST == 2 * widths[colours[OURS]]


def test_the_page_warns_of_numbers_from_a_busy_machine() -> None:
    at_rest, busy = (page.render(Run(MACHINE | {"load": load}, [result(twofold=1.0)])) for load in ("0.4", "7.9"))
    assert "busy" not in at_rest
    assert "It was busy with other programs (load 7.9)" in busy
