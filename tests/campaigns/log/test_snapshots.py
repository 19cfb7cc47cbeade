"""Programs race for the money of one account and are killed at random points: their snapshots never decide anything."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import pytest
from tests.accounts import Account, Deposited, Opened, Withdrawn
from tests.campaigns.killing import kill_many
from tests.campaigns.log.withdrawing import OPTIONS, balance, withdraw_until_killed
from tests.campaigns.planted import assert_finds
from tests.child_processes import CONTEXT

from twofold import ANY, Application, Repository
from twofold.log.integrity.snapshots import compare_snapshots
from twofold.ports.snapshots import SnapshotLog, is_intact

PROCESSES = 3
LONGEST_LIFE = 0.3
"""Seconds after which a program is killed, at the latest."""


async def campaign(
    url: str, seed: int, rounds: int, *, account: str = "a", money: int = 20, is_broken: bool = False
) -> int:
    """Let programs withdraw until the money is gone and beyond; return how many snapshots there are in the end.

    Args:
        url: the database.
        seed: of the points at which programs are killed.
        rounds: how often some are started.
        account: from which they withdraw; a new one.
        money: what there is to withdraw, for each round.
        is_broken: whether the programs have the bug.

    Raises:
        AssertionError: an account was overdrawn, or what was acknowledged is not there.
    """
    stream = Account.stream_id(account)
    async with Application(url, synchronize=False, options=OPTIONS) as app:
        deposits = [Deposited(account=account, amount=1) for _ in range(money * rounds)]  # type: ignore[arg-type]
        await app.store.append_events(stream, "Account", [Opened(account=account), *deposits], expected_version=ANY)
    acknowledged = await asyncio.to_thread(_kill_many, url, account, random.Random(seed), rounds, is_broken)
    app = Application(url, synchronize=False, options=OPTIONS)
    accounts: Repository[Account] = app.repository(Account)
    async with app:
        stored = [each async for each in app.store.read_stream(stream)]
        _compare(stored, acknowledged, seed)
        loaded = await accounts.load(account)
        assert vars(loaded) == vars(Account.from_history(account, [each.event for each in stored])), f"seed {seed}"
        assert (await app.store.decide(balance(account))).state == len(
            [e for e in stored if isinstance(e.event, Withdrawn)]
        )
        verified = await compare_snapshots(app.store)
        assert (verified.intact, verified.of_other_history, verified.compared) == (2, 0, 1)
        log: SnapshotLog = app.store.log  # type: ignore[assignment]
        found = await log.read_snapshots(limit=10)
        assert all(map(is_intact, found)), f"seed {seed}"
    return len(found)


def _kill_many(url: str, account: str, chance: random.Random, rounds: int, is_broken: bool) -> set[bytes]:
    def program(there: Connection) -> BaseProcess:
        return CONTEXT.Process(target=withdraw_until_killed, args=(url, account, there, is_broken), daemon=True)

    return set(kill_many(program, chance, rounds, at_once=PROCESSES, longest_life=LONGEST_LIFE)) - {b"alive"}


def _compare(stored: Sequence[Any], acknowledged: set[bytes], seed: int) -> None:
    left, commands = 0, set[bytes]()
    for each in stored:
        if isinstance(each.event, Withdrawn):
            left -= 1
            commands.add(each.metadata.command_id.bytes)
        elif isinstance(each.event, Deposited):
            left += 1
        assert left >= 0, f"seed {seed}: the account is overdrawn at version {each.version}"
    assert acknowledged <= commands, f"seed {seed}: what was acknowledged is lost"


@pytest.mark.parametrize("rounds", [3, pytest.param(200, marks=pytest.mark.soak)], ids=["short", "long"])
async def test_no_account_is_overdrawn_whatever_is_kept_and_whoever_is_killed(url: str, rounds: int) -> None:
    assert await campaign(url, seed=rounds, rounds=rounds) == 2


async def test_the_campaign_finds_a_state_that_is_taken_for_the_newest_one(url: str) -> None:
    async def attempt(seed: int) -> None:
        # With so little that a busy machine takes it all, too, and from an account that no earlier bug has closed.
        await campaign(url, seed, 3, account=f"a{seed}", money=4, is_broken=True)

    await assert_finds(attempt, "overdrawn")
