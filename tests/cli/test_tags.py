"""`twofold tags add`, as an operator types it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from tests.cli.typed import Fails, Twofold

from twofold import EventStore, open_event_store

APPLICATION = """
from dataclasses import dataclass
from typing import Annotated
from twofold import Application, Event, Tag, event_type

@event_type("TestGuestRegistered")
@dataclass(frozen=True)
class GuestRegistered(Event):
    email: {email}

def build(url):
    app = Application(url)
    app.store.events.register(GuestRegistered)
    return app
"""


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return where the application is, whose events have got a tag since the first two were stored."""
    monkeypatch.chdir(tmp_path)
    for name, email in (("guests_before", "str"), ("guests_after", "Annotated[str, Tag('email')]")):
        (tmp_path / f"{name}.py").write_text(APPLICATION.format(email=email))
        sys.modules.pop(name, None)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "guests_after:build"


async def write(url: str) -> None:
    from guests_before import GuestRegistered  # type: ignore[import-not-found]

    async with open_event_store(url) as store:
        await store.append([GuestRegistered("a@x"), GuestRegistered("b@x")])


async def tags(url: str) -> list[tuple[str, ...]]:
    from guests_after import GuestRegistered  # type: ignore[import-not-found]

    async with open_event_store(url) as store:
        return [each.tags async for each in known(store, GuestRegistered).read()]


def known(store: EventStore, cls: type) -> EventStore:
    store.events.register(cls)
    return store


def test_tags_are_added_once_the_operator_says_yes(twofold: Twofold, code: str, url: str) -> None:
    asyncio.run(write(url))
    arguments = ("tags", "add", code, "TestGuestRegistered", "--url", url)
    done = twofold(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "2 of 2 events of the type TestGuestRegistered lack tags: event 1 would get email:a@x; `--yes` adds them\n"
    )
    assert asyncio.run(tags(url)) == [(), ()]
    assert "got tags: event 1 got email:a@x" in twofold(*arguments, "--yes").stdout
    assert asyncio.run(tags(url)) == [("email:a@x",), ("email:b@x",)]
    assert "all 2 events of the type TestGuestRegistered carry their tags" in twofold(*arguments, "--yes").stdout
    assert twofold("verify", url).returncode == 0


def test_a_type_that_is_unknown_is_told(fails: Fails, code: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/guests.db"
    asyncio.run(write(url))
    assert "it has TestGuestRegistered" in fails("tags", "add", code, "Guest", "--url", url)
