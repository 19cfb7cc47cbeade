"""No page of the dashboard shows a personal field; programs see it, unless they say otherwise."""

from __future__ import annotations

import html
from pathlib import Path

from tests.dashboard.test_guard import browser
from tests.privacy.guests import GUEST, check_in, hotel

from twofold.dashboard import dashboard
from twofold.inspection import masked, stream_state

STREAM = "Guest-g1"


async def test_no_page_shows_what_is_personal(url: str, tmp_path: Path) -> None:
    async with hotel(url, f"sqlite:///{tmp_path}/keys.db") as app:
        await check_in(app, "g1", **GUEST, wishes=3)
        async with browser(dashboard(app)) as asker:
            pages = {
                path: html.unescape((await asker.get(path)).text)
                for path in ("/", "/events", "/events/1", "/events/2", f"/stream?id={STREAM}")
            }
        assert [(path, word) for path, text in pages.items() for word in GUEST.values() if word in text] == []
        assert "(forgotten)" in pages[f"/stream?id={STREAM}"]
        assert (await stream_state(app.store, STREAM)).state.name == GUEST["name"]
        with masked():
            assert (await stream_state(app.store, STREAM)).state.name == "(forgotten)"
        assert (await stream_state(app.store, STREAM)).state.name == GUEST["name"]
