"""Folds, as an application writes them: the event, and its record behind it or instead of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, assert_type

import sqlalchemy

from twofold import (
    DecisionModel,
    Event,
    EventQuery,
    GroupedProjection,
    Key,
    Projection,
    Reaction,
    RecordedEvent,
    SqlProjection,
    on,
)


@dataclass(frozen=True)
class Opened(Event):
    account: str


@dataclass(frozen=True)
class Closed(Event):
    account: str


@dataclass(frozen=True)
class Account:
    account: Annotated[str, Key()]
    version: int = 0


class Accounts(Projection[Account]):
    name = "accounts"

    @on(Opened)
    def opened(self, event: Opened) -> Account:
        return Account(event.account)

    @on(Closed)
    def closed(self, row: Account, event: Closed, recorded: RecordedEvent[Closed]) -> Account | None:
        assert_type(recorded.event, Closed)
        return None


class AccountsByRecord(Projection[Account]):
    name = "accounts_by_record"

    @on(Opened)
    def opened(self, it: RecordedEvent[Opened]) -> Account:
        return Account(it.event.account, it.version)


class AccountsAtOnce(Projection[Account]):
    name = "accounts_at_once"

    def apply(self, row: Account | None, recorded: RecordedEvent[Any]) -> Account | None:
        return row


class Lines(GroupedProjection[Account]):
    name = "lines"

    @on(Opened)
    def opened(self, rows: tuple[Account, ...] | None, event: Opened, *, it: RecordedEvent[Opened]) -> list[Account]:
        return [*(rows or ()), Account(event.account, it.version)]


class Plain(SqlProjection):
    name = "plain"

    async def apply(self, event: Opened | Closed, connection: Any) -> None: ...


class Recorded(SqlProjection):
    name = "recorded"
    connection = "sqlalchemy"

    def apply(self, event: Opened, connection: sqlalchemy.Connection, recorded: RecordedEvent[Any]) -> None: ...


class Instead(SqlProjection):
    name = "instead"

    async def apply(self, it: RecordedEvent[Opened], connection: Any) -> None: ...


class Mails(Reaction):
    name = "mails"

    async def apply(self, event: Opened) -> None: ...


class MailsOnce(Reaction):
    name = "mails_once"

    async def apply(self, event: Opened, recorded: RecordedEvent[Opened]) -> None: ...


class MailsByRecord(Reaction):
    name = "mails_by_record"

    async def apply(self, it: RecordedEvent[Opened]) -> None: ...


class MailsAtOnce(Reaction):
    name = "mails_at_once"

    def apply(self, event: Opened) -> None: ...  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]


def version_of(version: int, it: RecordedEvent[Opened]) -> int:
    return it.version


assert_type(
    DecisionModel(query=EventQuery.of(Opened), initial_state=0, evolve=version_of),
    DecisionModel[int],
)
