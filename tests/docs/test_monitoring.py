"""What the documentation gives to Prometheus and Grafana asks for metrics that a real scrape tells."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import promql_parser
import yaml  # type: ignore[import-untyped]
from prometheus_client.parser import text_string_to_metric_families
from tests.docs.metrics import FILE, page
from tests.docs.pages import ROOT
from tests.monitoring.test_prometheus import scrape

from twofold import Application
from twofold.monitoring.figures import FIGURES
from twofold.processes.instance import ProcessState
from twofold.prometheus import name_of
from twofold.synchronizer.status import ProjectionState

BOARD = json.loads((ROOT / "docs/assets/grafana.json").read_text("utf-8"))
RULES = yaml.safe_load((ROOT / "docs/assets/alerts.yml").read_text("utf-8"))
PANELS = [each for each in BOARD["panels"] if each["type"] != "row"]
ALERTS = [each for group in RULES["groups"] for each in group["rules"]]
OF_PROMETHEUS = {"job", "instance"}
"""Labels that Prometheus itself adds."""
LABELS = {name_of(each.name, each.unit): {*each.labels, *OF_PROMETHEUS} for each in FIGURES}


def queries() -> Iterator[tuple[str, str]]:
    for panel in PANELS:
        yield from ((panel["title"], each["expr"].replace("$__rate_interval", "5m")) for each in panel["targets"])
    yield from ((each["alert"], each["expr"]) for each in ALERTS)


def asked(text: str) -> list[Any]:
    """Return the parts of a query."""
    found: list[Any] = []
    promql_parser.walk(promql_parser.parse(text), found.append)
    return found


async def test_each_query_asks_for_metrics_and_labels_that_there_are() -> None:
    async with Application("memory://") as app:
        families = list(text_string_to_metric_families(await scrape(app)))
    told = {family.name for family in families} | {each.name for family in families for each in family.samples}
    for title, query in queries():
        parts = asked(query)
        selectors = [each for each in parts if isinstance(each, promql_parser.VectorSelector)]
        names = {str(each.name) for each in selectors}
        assert names, title
        assert names <= told, title
        for each in selectors:
            labels = LABELS.get(str(each.name), OF_PROMETHEUS)
            assert {matcher.name for matcher in each.matchers.matchers} <= labels, title
        for each in parts:
            if isinstance(each, promql_parser.AggregateExpr) and each.modifier is not None:
                assert set(each.modifier.labels) <= set().union(*(LABELS.get(name, OF_PROMETHEUS) for name in names))


def test_a_state_that_is_asked_for_is_one() -> None:
    states = {each.value for each in (*ProjectionState, *ProcessState)}
    asked_for = set(re.findall(r'state="([^"]+)"', "".join(query for _, query in queries())))
    assert asked_for
    assert asked_for <= states


def test_the_board_can_be_imported() -> None:
    assert BOARD["title"] == "Twofold"
    assert BOARD["schemaVersion"] >= 39
    assert "id" not in BOARD  # else an import would replace a board of this number
    assert len({each["id"] for each in BOARD["panels"]}) == len(BOARD["panels"])
    variables = {each["name"] for each in BOARD["templating"]["list"]}
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(PANELS))) <= {*variables, "__rate_interval"}
    for panel in PANELS:
        assert panel["description"].endswith(".")
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["fieldConfig"]["defaults"]["unit"]
    places = {
        (x, y)
        for each in BOARD["panels"]
        for x in range(each["gridPos"]["x"], each["gridPos"]["x"] + each["gridPos"]["w"])
        for y in range(each["gridPos"]["y"], each["gridPos"]["y"] + each["gridPos"]["h"])
    }
    assert len(places) == sum(each["gridPos"]["w"] * each["gridPos"]["h"] for each in BOARD["panels"])
    assert max(x for x, _ in places) < 24


def test_an_alert_says_how_bad_it_is_and_what_has_happened() -> None:
    assert len({each["alert"] for each in ALERTS}) == len(ALERTS)
    for each in ALERTS:
        assert each["labels"]["severity"] in ("critical", "warning")
        labels = set(re.findall(r"\$labels\.(\w+)", each["annotations"]["summary"]))
        grouped = [part for part in asked(each["expr"]) if isinstance(part, promql_parser.AggregateExpr)]
        assert labels <= set().union(*(part.modifier.labels for part in grouped if part.modifier))


def test_the_reference_is_what_the_code_makes() -> None:
    assert FILE.read_text("utf-8") == page(), "run `make surface`"
