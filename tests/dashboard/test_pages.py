"""What the pages show is true, and what an operator does on them happens, on each engine."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator

import httpx2
import pytest
import pytest_asyncio
from tests.dashboard.showing import BASE, ORDERS, showing
from tests.dashboard.test_guard import OWN, browser
from tests.synchronizing import until

from twofold import Application
from twofold.telemetry import count, tallies

Shown = tuple[Application, httpx2.AsyncClient]
TOGETHER = pytest.mark.asyncio(loop_scope="module")
"""Of tests that only read: they share one application."""
FIGURE = r"([\d\N{NARROW NO-BREAK SPACE}]+)"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shown(shared_url: str) -> AsyncIterator[Shown]:
    """Return an application with trouble that no test changes, and who looks at its pages."""
    async with showing(shared_url) as (app, site), browser(site) as asker:
        yield app, asker


@pytest_asyncio.fixture
async def own(url: str) -> AsyncIterator[Shown]:
    """Return the same, for a test that changes something."""
    async with showing(url) as (app, site), browser(site) as asker:
        yield app, asker


async def page(asker: httpx2.AsyncClient, path: str, status: int = 200) -> str:
    answer = await asker.get(path if path.startswith(BASE) else BASE + path)
    assert answer.status_code == status, (path, answer.text)
    return html.unescape(answer.text)


async def change(asker: httpx2.AsyncClient, path: str, **fields: str) -> httpx2.Response:
    word = asker.cookies["twofold_dashboard"]
    return await asker.post(BASE + path, data={"word": word, **fields}, headers=OWN)


@TOGETHER
async def test_trouble_comes_first_with_its_cause(shown: Shown) -> None:
    _, asker = shown
    text = await page(asker, "/")
    trouble = text[text.index("Trouble") : text.index("Events</dt>")]
    assert re.search(r"parcels</a>\s+1 events are parked", trouble)
    assert "LookupError" in trouble
    assert re.search(r"showing\.py:\d+ in created", trouble)
    assert re.search(r"enquiry</a> .*stuck", trouble)
    assert "<customer-1>" not in (await asker.get(f"{BASE}/")).text  # it is escaped


@TOGETHER
async def test_what_this_process_has_done_stands_on_the_first_page(shown: Shown) -> None:
    _, asker = shown
    count("conflicts_retried", 1_234)
    count("conflicts_lost", 5)
    before, text, after = tallies(), await page(asker, "/"), tallies()
    retried, lost = figures(text, f"Conflicts of this process</dt><dd>{FIGURE} retried, {FIGURE} lost<")
    assert before.conflicts_retried <= retried <= after.conflicts_retried
    assert before.conflicts_lost <= lost <= after.conflicts_lost
    [errors] = figures(text, f"Errors of this process</dt><dd>{FIGURE}<")
    assert before.errors + before.commands_failed <= errors <= after.errors + after.commands_failed
    assert errors >= 1  # a projection parked an event


def figures(text: str, pattern: str) -> list[int]:
    """Return the numbers that a page shows at one place, with their thousands apart."""
    found = re.search(pattern, text)
    assert found is not None, text
    return [int(each.replace("\N{NARROW NO-BREAK SPACE}", "")) for each in found.groups()]


@TOGETHER
async def test_every_link_of_every_page_leads_somewhere(shown: Shown) -> None:
    _, asker = shown
    waiting, seen = [f"{BASE}/"], set[str]()
    while waiting:
        path = waiting.pop()
        if path in seen or len(seen) > 250:
            continue
        seen.add(path)
        text = await page(asker, path)
        if "<html" in text:
            found = re.findall(r'(?:href|src)="([^"#]+)"', text)
            waiting += [each for each in found if each.startswith(BASE) and not each.endswith("/live")]
    kinds = {re.sub(r"[\d]+|\?.*", "", path.removeprefix(BASE)) for path in seen}
    assert {"/", "/events", "/events/", "/stream", "/projections", "/processes", "/flow"} <= kinds


@TOGETHER
async def test_events_are_found_by_what_is_known_of_them(shown: Shown) -> None:
    _, asker = shown
    for query, expected in (
        ("type=OrderCreated", ORDERS), ("stream_type=Order", ORDERS + 1), ("type=OrderCancelled", 1),
        ("since=2199-01-01", 0), ("until=2001-01-01", 0), ("tag=customer:customer-3", 1), ("type=None", 0),
    ):  # fmt: skip
        rows = re.findall(r"<td class=\"number\"><a href=\"[^\"]+/events/\d+", await page(asker, f"/events?{query}"))
        assert len(rows) == expected, query
    for query in ("since=yesterday", "correlation=x", "before=x"):
        assert 'role="alert"' in await page(asker, f"/events?{query}"), query
    part = await asker.get(f"{BASE}/events?type=OrderCreated", headers={"hx-request": "true"})
    assert "<html" not in part.text


@TOGETHER
async def test_an_event_shows_what_caused_it_and_what_followed(shown: Shown) -> None:
    _, asker = shown
    text = await page(asker, "/events?type=OrderCancelled")
    [position] = set(re.findall(r"/events/(\d+)", text))
    text = await page(asker, f"/events/{position}")
    assert "changed my mind" in text
    picture = text[text.index("<svg") : text.index("</svg>")]
    assert "AskWhy · ValueError: nobody answers for" in picture or "AskWhy" in picture
    assert picture.count("OrderCancelled ·") == 1
    assert "enquiry · step 1" in picture


@TOGETHER
async def test_a_stream_shows_its_state_at_any_version_and_what_changed(shown: Shown) -> None:
    _, asker = shown
    text = await page(asker, "/events?type=OrderCancelled")
    [stream] = set(re.findall(r"/stream\?(id=Order-[^\"]+)", text))
    text = await page(asker, f"/stream?{stream}")
    assert '"status": "cancelled"' in text
    assert re.search(r'<code>status</code></td><td class="old">"open"</td><td class="new">"cancelled"', text)
    assert '"status": "open"' in await page(asker, f"/stream?{stream}&version=1&since=0")
    assert "has 2 events" in await page(asker, f"/stream?{stream}&version=7")
    for wrong in ("x", "-1", "9" * 19):  # the last one is no number of a database
        await page(asker, f"/stream?{stream}&version={wrong}", 400)
    await page(asker, "/stream?id=Order-none", 404)


async def test_an_operator_skips_an_event_and_its_row_goes_on(own: Shown) -> None:
    app, asker = own
    text = await page(asker, "/projections/parcels")
    position = re.search(r'name="position" value="(\d+)"', text)[1]  # type: ignore[index]
    assert (await change(asker, "/projections/parcels/skip", position=position)).status_code == 400  # no reason
    answer = await change(asker, "/projections/parcels/skip", position=position, reason="no address")
    assert answer.headers["location"] == f"{BASE}/projections/parcels"
    text = await page(asker, "/projections/parcels")
    assert "no address" in text
    assert (await app.projections.control("parcels").status()).parked == 0


async def test_an_operator_pauses_rebuilds_and_rolls_back(own: Shown) -> None:
    app, asker = own
    await page(asker, "/")
    await change(asker, "/projections/sales/pause")
    assert 'aria-current="step">paused' in await page(asker, "/projections/sales")
    await change(asker, "/projections/sales/resume")
    before = (await app.projections.control("sales").status()).generation
    assert (await change(asker, "/projections/sales/rebuild")).status_code == 303

    async def serves(generation: int) -> bool:
        status = await app.projections.control("sales").status()
        return status.generation == generation and status.building is None

    await until(lambda: serves(before + 1))
    assert (await change(asker, "/projections/sales/roll-back")).status_code == 303
    await until(lambda: serves(before))
    refused = await change(asker, "/projections/parcels/roll-back")  # no previous one was kept
    assert refused.status_code == 409
    assert (await change(asker, "/projections/none/pause")).status_code == 404
    assert (await change(asker, "/projections/sales/dance")).status_code == 404


async def test_a_process_shows_the_life_of_each_instance(own: Shown) -> None:
    app, asker = own
    text = await page(asker, "/processes/enquiry?status=stuck")
    [href] = set(re.findall(r'href="([^"]+/processes/enquiry/instance\?id=[^"]+)"', text))
    text = await page(asker, href)
    picture = text[text.index("<svg") : text.index("</svg>")]
    for shown_kind in ("bar input event", "bar command open", "bar timer waiting"):
        assert shown_kind in picture
    assert "ValueError" in text
    asked = re.search(r'name="id" value="([^"]+)"', text)[1]  # type: ignore[index]
    assert (await change(asker, "/processes/enquiry/cancel", id=asked)).status_code == 400  # no reason
    await change(asker, "/processes/enquiry/cancel", id=asked, reason="nobody asks")
    assert "nobody asks" in await page(asker, href)
    assert (await app.processes.control("enquiry").counts()).cancelled == 1


@TOGETHER
async def test_the_flow_is_drawn_from_the_code(shown: Shown) -> None:
    _, asker = shown
    text = await page(asker, "/flow")
    for link in (
        "command <code>CreateOrder</code> → event <code>OrderCreated</code>",
        "event <code>OrderCreated</code> → read model <code>parcels</code>",
        "event <code>OrderCancelled</code> → process <code>enquiry</code>",
        "process <code>enquiry</code> → command <code>AskWhy</code>",
    ):
        assert link in text


@pytest.mark.parametrize("path", ["/events/0", "/events/x", "/events/999999", "/projections/x", "/processes/x"])
async def test_what_is_not_there_is_said(path: str) -> None:
    async with Application("memory://") as app:
        from twofold.dashboard import dashboard

        async with browser(dashboard(app)) as asker:
            answer = await asker.get(path)
            assert (answer.status_code, 'role="alert"' in answer.text) == (404, True)
