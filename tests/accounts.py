"""A small domain for the tests of the machinery: accounts that hold money."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Annotated

from twofold import (
    Aggregate,
    Application,
    Command,
    CommandBus,
    Decider,
    Event,
    Index,
    Key,
    Projection,
    Query,
    Reaction,
    Repository,
    Tag,
    on,
)


class OverdrawnError(Exception):
    """An account holds less than is to be taken from it."""


@dataclass(frozen=True, kw_only=True)
class Opened(Event):
    account: Annotated[str, Tag("account")]
    owner: Annotated[str, Tag("owner")] = "ann"


@dataclass(frozen=True, kw_only=True)
class Deposited(Event):
    account: Annotated[str, Tag("account")]
    amount: Decimal


@dataclass(frozen=True, kw_only=True)
class Withdrawn(Event):
    account: Annotated[str, Tag("account")]
    amount: Decimal


@dataclass(frozen=True, kw_only=True)
class Open(Command):
    account: str
    owner: str = "ann"


@dataclass(frozen=True, kw_only=True)
class Deposit(Command):
    account: str
    amount: Decimal = Decimal(1)


@dataclass(frozen=True, kw_only=True)
class Withdraw(Command):
    account: str
    amount: Decimal = Decimal(1)


@dataclass(frozen=True, kw_only=True)
class Transfer(Command):
    source: str
    target: str
    amount: Decimal


class Account(Aggregate):
    balance = Decimal(0)

    @classmethod
    def open(cls, id: str, owner: str = "ann") -> Account:
        account = cls(id)
        account.record(Opened(account=id, owner=owner))
        return account

    def deposit(self, amount: Decimal) -> None:
        self.record(Deposited(account=self.id, amount=amount))

    def withdraw(self, amount: Decimal) -> None:
        if amount > self.balance:
            raise OverdrawnError(self.id)
        self.record(Withdrawn(account=self.id, amount=amount))

    @on(Opened)
    def _opened(self, event: Opened) -> None:
        self.owner = event.owner

    @on(Deposited)
    def _deposited(self, event: Deposited) -> None:
        self.balance += event.amount

    @on(Withdrawn)
    def _withdrawn(self, event: Withdrawn) -> None:
        self.balance -= event.amount


def decide(command: Open | Deposit | Withdraw, balance: Decimal) -> Sequence[Event]:
    match command:
        case Open():
            return [Opened(account=command.account, owner=command.owner)]
        case Deposit():
            return [Deposited(account=command.account, amount=command.amount)]
        case Withdraw():
            if command.amount > balance:
                raise OverdrawnError(command.account)
            return [Withdrawn(account=command.account, amount=command.amount)]


def evolve(balance: Decimal, event: Event) -> Decimal:
    match event:
        case Deposited():
            return balance + event.amount
        case Withdrawn():
            return balance - event.amount
        case _:
            return balance


ACCOUNT = Decider(
    initial_state=Decimal,
    decide=decide,
    evolve=evolve,
    stream_type="Account",
    events=(Opened, Deposited, Withdrawn),
)


@dataclass(frozen=True)
class Balance:
    account: Annotated[str, Key()]
    owner: Annotated[str, Index()]
    amount: Annotated[Decimal, Index()] = Decimal(0)
    changes: int = 0


class Balances(Projection[Balance]):
    name = "balances"

    @on(Opened)
    def opened(self, event: Opened) -> Balance:
        return Balance(event.account, event.owner)

    @on(Deposited)
    def deposited(self, row: Balance, event: Deposited) -> Balance:
        return replace(row, amount=row.amount + event.amount, changes=row.changes + 1)

    @on(Withdrawn)
    def withdrawn(self, row: Balance, event: Withdrawn) -> Balance:
        return replace(row, amount=row.amount - event.amount, changes=row.changes + 1)


class Mails(Reaction):
    """Remembers the amounts that it was told of."""

    name = "mails"

    def __init__(self) -> None:
        self.sent: list[Decimal] = []

    def handles(self) -> tuple[type, ...]:
        return (Deposited,)

    async def apply(self, event: Deposited) -> None:
        self.sent.append(event.amount)


@dataclass(frozen=True)
class GetBalance(Query[Balance | None]):
    account: str


def wire(app: Application) -> None:
    """Register the commands of accounts that live behind a repository."""
    wire_commands(app.commands, app.repository(Account))


def wire_commands(commands: CommandBus, accounts: Repository[Account]) -> None:
    """Register the same commands where there is no application."""

    async def open_account(command: Open) -> str:
        await accounts.save(Account.open(command.account, command.owner))
        return command.account

    async def deposit(command: Deposit) -> Decimal:
        account = await accounts.load(command.account)
        account.deposit(command.amount)
        await accounts.save(account)
        return account.balance

    async def withdraw(command: Withdraw) -> Decimal:
        account = await accounts.load(command.account)
        account.withdraw(command.amount)
        await accounts.save(account)
        return account.balance

    async def transfer(command: Transfer) -> None:
        source, target = await accounts.load(command.source), await accounts.load(command.target)
        target.deposit(command.amount)
        await accounts.save(target)
        source.withdraw(command.amount)
        await accounts.save(source)

    commands.register(Open, open_account)
    commands.register(Deposit, deposit)
    commands.register(Withdraw, withdraw)
    commands.register(Transfer, transfer)
