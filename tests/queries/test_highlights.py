"""Marking the words of a search costs the event loop nothing, and a page only so much."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import pytest

from twofold import Application, Command, Event, FullText, Key, Projection, on
from twofold.options import QueryOptions
from twofold.ports.full_text import MAX_FOUND, Range, find_words
from twofold.queries import highlights


@dataclass(frozen=True, kw_only=True)
class Written(Event):
    page: str
    text: str


@dataclass(frozen=True)
class Page:
    page: Annotated[str, Key()]
    text: Annotated[str, FullText()]


class Pages(Projection[Page]):
    name = "pages"

    @on(Written)
    def written(self, event: Written) -> Page:
        return Page(event.page, event.text)


@dataclass(frozen=True, kw_only=True)
class Write(Command):
    pages: int
    text: str


async def test_words_are_marked_in_a_thread_and_in_a_bounded_part_of_a_page(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at, threads = list[int](), set[int]()

    def spy(text: str, search: str) -> Sequence[Range]:
        looked_at.append(len(text))
        threads.add(threading.get_ident())
        return find_words(text, search)

    monkeypatch.setattr(highlights, "find_words", spy)
    app = Application(url)
    pages = app.projections.add(Pages())

    async def write(command: Write) -> None:
        await app.store.append([Written(page=f"{n:02}", text=command.text) for n in range(command.pages)])

    app.commands.register(Write, write)
    async with app:
        receipt = await app.commands.execute(Write(pages=30, text="très " * 5_000))
        await app.projections.wait(receipt.position, 60)
        page = await pages.page(search="tres", highlight=True, page_size=30, sort="page")
    assert (len(page.items), len(page.highlights)) == (30, 30)
    assert len(page.highlights[0]["text"]) == MAX_FOUND
    assert page.highlights[29] == {}
    assert sum(looked_at) == QueryOptions().marked
    assert threading.get_ident() not in threads
