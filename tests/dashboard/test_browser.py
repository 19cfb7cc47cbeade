"""A real browser clicks through every page: no error in its console, usable by keyboard, by phone, and by all."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]
from playwright.async_api import Browser, Page, async_playwright
from tests.dashboard.serving import served
from tests.dashboard.showing import BASE, showing
from tests.debian import ProgramMissingError, find_browser
from tests.synchronizing import until

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one browser for all

WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 360, "height": 740}
PAGES = {
    "Overview": "/", "Events": "/events", "Event": "/events/3", "Projections": "/projections",
    "Projection": "/projections/parcels", "Processes": "/processes", "Process": "/processes/enquiry",
    "Flow": "/flow",
}  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    try:
        path = find_browser()
    except ProgramMissingError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    async with async_playwright() as playwright:
        yield await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def root() -> AsyncIterator[str]:
    """Return where an application with trouble is shown that no test changes."""
    async with showing("memory://") as (_, site), served(site) as address:
        yield address + BASE


@pytest_asyncio.fixture(loop_scope="module")
async def own_root() -> AsyncIterator[str]:
    """Return the same, for a test that changes something."""
    async with showing("memory://") as (_, site), served(site) as address:
        yield address + BASE


@asynccontextmanager
async def opened(browser: Browser, **options: Any) -> AsyncIterator[Page]:
    """Open a page that fails the test on anything in the console and on any answer of the server's 500s."""
    context = await browser.new_context(**options)
    page = await context.new_page()
    troubles: list[str] = []
    page.on("console", lambda message: troubles.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("dialog", lambda dialog: dialog.accept())
    yield page
    await context.close()
    assert troubles == []


async def test_a_browser_clicks_through_every_page(browser: Browser, own_root: str) -> None:
    async with opened(browser, viewport=WIDE) as page:
        await page.goto(own_root + "/")
        await page.get_by_role("region", name="Parked events by cause").get_by_role("link", name="parcels").click()
        await page.wait_for_url("**/projections/parcels")
        await page.get_by_role("link", name="Events").click()
        await page.get_by_label("Type", exact=True).fill("OrderCancelled")
        await page.get_by_role("button", name="Find").click()
        await page.wait_for_url("**type=OrderCancelled**")  # by htmx, without loading the page
        await until(lambda: page.evaluate("document.querySelectorAll('#found tbody tr').length === 1"))
        await page.locator("#found").get_by_role("link").first.click()
        await page.wait_for_url("**/events/*")
        await page.locator("svg.tree a", has_text="OrderCancelled").first.focus()
        await page.get_by_role("link", name="Order-").first.click()
        await page.get_by_role("heading", name="State after version 2").wait_for()
        await page.get_by_role("link", name="Processes").click()
        await page.get_by_role("link", name="enquiry").first.click()
        await page.get_by_role("link", name="stuck").click()
        await page.locator("tbody a").first.click()
        await page.get_by_role("heading", name="Time-line").wait_for()
        await page.get_by_label("Reason to cancel").fill("nobody asks")
        await page.get_by_role("button", name="Cancel").click()
        await page.get_by_text("cancelled: nobody asks").first.wait_for()
        await page.get_by_role("link", name="Flow").click()
        await page.locator("svg.columns .box", has_text="CancelOrder").hover()
        assert await page.locator("svg.columns.lit .box.on").count() > 1


async def test_charts_move_while_the_page_is_open(browser: Browser, root: str) -> None:
    async with opened(browser, viewport=WIDE) as page:
        await page.goto(root + "/")
        await until(lambda: page.evaluate("document.querySelectorAll('.uplot').length === 3"))
        await until(lambda: page.evaluate("charts[1].times.length >= 2"))


async def test_it_is_used_by_keyboard_alone(browser: Browser, root: str) -> None:
    async with opened(browser, viewport=WIDE) as page:
        await page.goto(root + "/")
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.textContent") == "Skip to the content"
        await page.keyboard.press("g")
        await page.keyboard.press("p")
        await page.wait_for_url("**/projections")
        await page.keyboard.press("/")
        await page.wait_for_url("**/events")
        await page.wait_for_load_state()
        await page.keyboard.press("?")
        assert await page.locator("dialog[open]").count() == 1
        await page.keyboard.press("Escape")
        await until(lambda: page.evaluate("!document.querySelector('dialog[open]')"))
        await page.keyboard.press("/")
        await until(lambda: page.evaluate("document.activeElement.name === 'stream'"))
        await page.keyboard.type("gp/?")  # typed, not obeyed
        assert await page.locator("dialog[open]").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_nothing_shuts_people_out_and_a_phone_shows_all(browser: Browser, root: str, scheme: str) -> None:
    axe = Axe()
    async with opened(browser, viewport=NARROW, color_scheme=scheme) as page:
        for name, path in PAGES.items():
            await page.goto(root + path)
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} is too wide"
            found = await axe.run(page)
            serious = [each for each in found.response["violations"] if each["impact"] in ("serious", "critical")]
            assert [(name, each["id"], each["nodes"][0]["html"]) for each in serious] == []


async def test_the_theme_is_kept(browser: Browser, root: str) -> None:
    async with opened(browser, viewport=WIDE, color_scheme="light") as page:
        await page.goto(root + "/flow")
        await page.get_by_role("button", name="Change between light and dark").click()
        await page.goto(root + "/events")
        assert await page.evaluate("document.documentElement.dataset.theme") == "dark"
