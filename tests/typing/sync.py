"""What a type checker knows about the synchronous face; never run, checked by `make check`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, assert_type

from twofold import Application, Command, EventQuery, ReadModel, Receipt, RecordedEvent
from twofold.sync import SyncApplication


@dataclass(frozen=True, kw_only=True)
class Rename(Command[str]):
    name: str


@dataclass(frozen=True)
class Row:
    name: str


class Shop(Application):
    rows: ReadModel[Row]


def make() -> Shop:
    return Shop("memory://")


def calls(shop: SyncApplication[Shop]) -> None:
    assert_type(SyncApplication(make), SyncApplication[Shop])
    assert_type(shop.app, Shop)
    assert_type(shop.call(shop.app.commands.dispatch, Rename(name="a")), str)
    assert_type(shop.call(shop.app.commands.execute, Rename(name="a")), Receipt[str])
    assert_type(shop.call(shop.app.rows.get, "a"), Row | None)
    assert_type(shop.call(shop.app.store.head), int)
    assert_type(shop.iterate(shop.app.store.read(EventQuery.all())), Iterator[RecordedEvent[Any]])
    shop.call(shop.app.store.append)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    SyncApplication(lambda: 1)  # type: ignore[type-var]  # pyright: ignore
