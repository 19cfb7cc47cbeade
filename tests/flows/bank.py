"""A bank with accounts: the smallest domain in which all four flows can be seen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Annotated

from twofold import (
    Aggregate,
    Application,
    Command,
    Event,
    Key,
    Projection,
    Query,
    ReadModel,
    ReadPolicy,
    Repository,
    Tag,
    on,
)

AccountId = Annotated[str, Tag("account")]


# -- facts ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Opened(Event):
    account: AccountId


@dataclass(frozen=True, kw_only=True)
class Deposited(Event):
    account: AccountId
    amount: Decimal


# -- the write side: commands, and the aggregate that guards the rules ------------------------------------------


class RefusedError(Exception):
    """A rule of the bank forbids it."""


class Account(Aggregate):
    """One account. Its stream is `Account-<id>`."""

    is_open = False

    @classmethod
    def open(cls, id: str) -> Account:
        account = cls(id)
        account.record(Opened(account=id))
        return account

    def deposit(self, amount: Decimal) -> None:
        if amount <= 0:
            raise RefusedError("a deposit is positive")
        self.record(Deposited(account=self.id, amount=amount))

    @on(Opened)
    def _opened(self, event: Opened) -> None:
        self.is_open = True

    @on(Deposited)
    def _deposited(self, event: Deposited) -> None:
        """A deposit changes nothing that a rule asks for."""


@dataclass(frozen=True, kw_only=True)
class Open(Command):
    account: str


@dataclass(frozen=True, kw_only=True)
class Deposit(Command):
    account: str
    amount: Decimal


class OpenHandler:
    def __init__(self, accounts: Repository[Account]) -> None:
        self.accounts = accounts

    async def handle(self, command: Open) -> str:
        account = Account.open(command.account)
        await self.accounts.save(account)
        return account.id


class DepositHandler:
    def __init__(self, accounts: Repository[Account]) -> None:
        self.accounts = accounts

    async def handle(self, command: Deposit) -> str:
        account = await self.accounts.load(command.account)
        account.deposit(command.amount)
        await self.accounts.save(account)
        return account.id


# -- the read side: rows that follow from the facts, and questions to them ---------------------------------------


@dataclass(frozen=True)
class Balance:
    account: Annotated[str, Key()]
    amount: Decimal = Decimal(0)
    deposits: int = 0


class Balances(Projection[Balance]):
    name = "balances"

    @on(Opened)
    def opened(self, event: Opened) -> Balance:
        return Balance(event.account)

    @on(Deposited)
    def deposited(self, row: Balance, event: Deposited) -> Balance:
        return replace(row, amount=row.amount + event.amount, deposits=row.deposits + 1)


@dataclass(frozen=True)
class GetBalance(Query[Balance | None]):
    account: str


# -- the application: wiring in ordinary Python -------------------------------------------------------------------


@dataclass(frozen=True)
class Bank:
    app: Application
    balances: ReadModel[Balance]


def build(
    url: str,
    *,
    synchronize: bool = True,
    projection: Projection[Balance] | None = None,
    policy: ReadPolicy | None = None,
) -> Bank:
    app = Application(url, synchronize=synchronize)
    accounts = app.repository(Account)
    app.commands.register(Open, OpenHandler(accounts))
    app.commands.register(Deposit, DepositHandler(accounts))
    balances = app.projections.add(projection or Balances())

    async def get_balance(query: GetBalance) -> Balance | None:
        return await balances.get(query.account)

    app.queries.register(GetBalance, get_balance, policy=policy)
    return Bank(app, balances)
