"""Unique user names: a name belongs to one account, and stays reserved for three days after the account is closed.

After <https://dcb.events/examples/unique-username/>. The reservation needs the time of an event, which the handler
takes from the command, so that a command that runs again decides the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated

from twofold import Application, AwareDatetime, Command, DecisionModel, Event, EventQuery, Tag

RESERVED = timedelta(days=3)
"""How long no other account may have the name of one that was closed, or that has another name now."""


class NameTakenError(Exception):
    """The name belongs to an account, or did so until a moment ago."""


@dataclass(frozen=True, kw_only=True)
class AccountRegistered(Event):
    """An account exists, and has a name."""

    account: Annotated[str, Tag("account")]
    name: Annotated[str, Tag("name")]


@dataclass(frozen=True, kw_only=True)
class NameChanged(Event):
    """An account has another name."""

    account: Annotated[str, Tag("account")]
    name: Annotated[str, Tag("name")]
    old_name: Annotated[str, Tag("name")]
    changed_at: AwareDatetime


@dataclass(frozen=True, kw_only=True)
class AccountClosed(Event):
    """An account exists no more."""

    account: Annotated[str, Tag("account")]
    name: Annotated[str, Tag("name")]
    closed_at: AwareDatetime


@dataclass(frozen=True, kw_only=True)
class Register(Command[None]):
    """Open an account under a name."""

    account: str
    name: str


@dataclass(frozen=True, kw_only=True)
class ChangeName(Command[None]):
    """Give an account another name."""

    account: str
    name: str


@dataclass(frozen=True, kw_only=True)
class CloseAccount(Command[None]):
    """Give an account up."""

    account: str


def is_taken(name: str, at: datetime) -> DecisionModel[bool]:
    """Return the model of whether a name may not be taken at a moment."""

    def evolve(taken: bool, event: AccountRegistered | NameChanged | AccountClosed) -> bool:
        match event:
            case NameChanged(old_name=old, changed_at=released_at) if old == name:
                return at < released_at + RESERVED
            case AccountClosed(closed_at=released_at):
                return at < released_at + RESERVED
            case _:
                return True

    query = EventQuery.of(AccountRegistered, NameChanged, AccountClosed, tags=[f"name:{name}"])
    return DecisionModel(query=query, initial_state=False, evolve=evolve)


def name_of(account: str) -> DecisionModel[str | None]:
    """Return the model of the name that an account has; None if there is no such account."""

    def evolve(_: str | None, event: AccountRegistered | NameChanged | AccountClosed) -> str | None:
        return None if isinstance(event, AccountClosed) else event.name

    query = EventQuery.of(AccountRegistered, NameChanged, AccountClosed, tags=[f"account:{account}"])
    return DecisionModel(query=query, initial_state=None, evolve=evolve)


def wire(app: Application) -> None:
    """Register the events and the handlers."""
    app.store.events.register(AccountRegistered, NameChanged, AccountClosed)

    async def take(name: str, at: datetime) -> None:
        if (await app.store.decide(is_taken(name, at))).state:
            raise NameTakenError(name)

    async def present_name(account: str) -> str:
        name = (await app.store.decide(name_of(account))).state
        if name is None:
            raise LookupError(f"there is no account {account!r}")
        return name

    async def register(command: Register) -> None:
        await take(command.name, command.timestamp)
        await app.store.append([AccountRegistered(account=command.account, name=command.name)])

    async def change_name(command: ChangeName) -> None:
        old_name = await present_name(command.account)
        await take(command.name, command.timestamp)
        changed = NameChanged(
            account=command.account, name=command.name, old_name=old_name, changed_at=command.timestamp
        )
        await app.store.append([changed])

    async def close(command: CloseAccount) -> None:
        name = await present_name(command.account)
        await app.store.append([AccountClosed(account=command.account, name=name, closed_at=command.timestamp)])

    app.commands.register(Register, register)
    app.commands.register(ChangeName, change_name)
    app.commands.register(CloseAccount, close)
