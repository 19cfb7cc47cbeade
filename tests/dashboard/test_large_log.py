"""A browser opens every page of a large application: each is made in a tenth of a second, and fits its window."""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path
from uuid import UUID

import httpx2
import pytest
from playwright.async_api import async_playwright
from starlette.applications import Starlette
from starlette.routing import Mount
from tests.dashboard.large import READ_MODELS, STRANGER, build_large, fill
from tests.dashboard.serving import served
from tests.dashboard.showing import BASE, everything
from tests.dashboard.test_browser import NARROW, WIDE, opened
from tests.debian import find_browser

from twofold import Application
from twofold.dashboard import dashboard

SAMPLE = Path(__file__).parents[3] / "shared" / "data" / "online_retail_sample.csv.gz"
EVENTS = 100_000
QUICK = 0.1
"""Seconds in which the server makes a page, by the median of `TIMES` looks."""
TIMES = 5
SHARED = 1.1
"""Seconds after which a look at all read models is made again, and no longer shared."""
CATCH_UP = 3600
ORDER = "2-570177"
"""One that was cancelled, and whose process is stuck."""
PAGES = (
    "/",
    "/events",
    "/events?before=50000",
    "/events?type=OrderCreated",
    "/events?stream_type=Order",
    f"/events?tag=customer:{STRANGER}",
    f"/events?stream=Order-{ORDER}",
    "/events?until=2020-01-01",
    "/events?correlation={correlation}",
    "/events/50000",
    "/events/{newest}",
    f"/stream?id=Order-{ORDER}",
    f"/stream?id=Order-{ORDER}&version=2&since=1",
    "/projections",
    "/projections/known_shipments",
    "/projections/countries_7",
    "/processes",
    "/processes/enquiry",
    "/processes/enquiry?status=stuck",
    f"/processes/enquiry/instance?id={ORDER}",
    "/flow",
)


@pytest.mark.soak
@pytest.mark.skipif(not SAMPLE.exists(), reason="the file of real orders is not here")
async def test_every_page_of_a_large_application_is_quick_and_fits(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/large.db"
    async with build_large(url, synchronize=False) as filling:
        await fill(filling, SAMPLE, EVENTS)
    app = build_large(url)
    async with app:
        head = await app.store.head()
        await app.projections.wait(head, timeout=CATCH_UP)
        assert len(await app.projections.status()) >= READ_MODELS
        pages = await addresses(app)
        site = Starlette(routes=[Mount(BASE, dashboard(app, grant=everything))])
        slow = {path: seconds for path, seconds in (await times(site, pages)).items() if seconds > QUICK}
        assert slow == {}
        async with served(site) as address:
            await look(address + BASE, pages)


async def addresses(app: Application) -> list[str]:
    """Return the pages, with the facts of this log."""
    newest = await app.store.head()
    (event,) = await app.store.log.read_stream(f"Order-{ORDER}", limit=1)
    return [path.format(newest=newest, correlation=UUID(bytes=event.event_id)) for path in PAGES]


async def times(site: Starlette, pages: list[str]) -> dict[str, float]:
    """Return the median of the seconds that the server takes for each page."""
    taken: dict[str, list[float]] = {path: [] for path in pages}
    transport = httpx2.ASGITransport(app=site)
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=60) as client:
        for _ in range(TIMES):
            await asyncio.sleep(SHARED)
            for path in pages:
                began = time.perf_counter()
                answer = await client.get(BASE + path)
                taken[path].append(time.perf_counter() - began)
                assert answer.status_code == 200, path
    return {path: statistics.median(seconds) for path, seconds in taken.items()}


async def look(root: str, pages: list[str]) -> None:
    """Open each page in a wide and a narrow window; `opened` fails on what the console says."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        for size in (WIDE, NARROW):
            for scheme in ("light", "dark"):
                async with opened(browser, viewport=size, color_scheme=scheme) as page:
                    for path in pages:
                        await page.goto(root + path)
                        fits = await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
                        assert fits, f"{path} is too wide for {size}"
