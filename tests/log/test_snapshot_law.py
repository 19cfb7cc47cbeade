"""The law of snapshots: a snapshot and what stands behind it is the fold of all, at each version."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import FlakyFailure
from tests.accounts import ACCOUNT, Account, Deposited, Opened, Withdrawn
from tests.synchronizing import engine_at

from twofold import ANY, Aggregate, DecisionModel, EventQuery, EventStore, LogOptions, on
from twofold.commands.folds import AggregateFold, DeciderFold
from twofold.engines.engine import Engine
from twofold.log.folding.kept_states import KeptState
from twofold.log.folding.snapshots import StoredState
from twofold.log.folding.streams import Streams


class Ledger(Aggregate):
    """Has parts of many kinds, which its methods change in place."""

    stream_type = "Account"
    ignores = (Opened,)

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.amounts: list[Decimal] = []
        self.by_amount: dict[Decimal, list[int]] = {}
        self.seen: set[int] = set()
        self.last: Deposited | None = None
        self.sums: dict[str, int] = {"in": 0}

    @on(Deposited)
    def _deposited(self, event: Deposited) -> None:
        self.amounts.append(event.amount)
        self.by_amount.setdefault(event.amount, []).append(self.version)
        self.seen.add(self.version)
        self.last = event

    @on(Withdrawn)
    def _withdrawn(self, event: Withdrawn) -> None:
        self.amounts = self.amounts[:-1]
        self.last = None


@dataclass(frozen=True)
class Step:
    """Some events that are appended at once, and what the process does afterwards."""

    events: tuple[tuple[type, Decimal], ...]
    is_new_process: bool
    does_harm: bool


amounts = st.decimals(min_value=0, max_value=99, places=2)
kinds = st.sampled_from([Opened, Deposited, Withdrawn])
steps = st.lists(
    st.builds(
        Step, st.lists(st.tuples(kinds, amounts), min_size=1, max_size=9).map(tuple), st.booleans(), st.booleans()
    ),
    max_size=12,
)
options = st.builds(
    LogOptions, short_stream=st.integers(0, 9), short_tail=st.integers(0, 5), first_chunk=st.integers(1, 9),
    snapshot_every=st.integers(0, 5), kept_states=st.sampled_from([0, 1 << 20]),
)  # fmt: skip


def total(account: str) -> DecisionModel[tuple[int, Decimal]]:
    return DecisionModel(
        query=EventQuery.of(Deposited, Withdrawn, tags=[f"account:{account}"]),
        initial_state=(0, Decimal(0)),
        evolve=lambda state, event: (state[0] + 1, state[1] + event.amount),
        state_type=tuple[int, Decimal],
    )


def event(kind: type, account: str, amount: Decimal) -> Any:
    return Opened(account=account) if kind is Opened else kind(account=account, amount=amount)


async def assert_the_law(engine: Engine, work: Sequence[Step], tuned: LogOptions) -> None:
    store, stored, account = process(engine, tuned), list[Any](), uuid4().hex
    stream = f"Account-{account}"
    for step in work:
        events = [event(kind, account, amount) for kind, amount in step.events]
        await store.append_events(stream, "Account", events, expected_version=ANY)
        stored += events
        if step.is_new_process:
            await store.snapshots.end()
            store = process(engine, tuned)
        for kind in (Account, Ledger, Account, Ledger):
            loaded, version = await store._fold(stream, AggregateFold(kind, account))
            assert vars(loaded) == vars(kind.from_history(account, stored)), kind
            assert loaded.version == version == len(stored)
            if step.does_harm:
                spoil(loaded)
        assert await store._fold(stream, DeciderFold(ACCOUNT)) == (ACCOUNT.fold(stored), len(stored))
        counted = [each.amount for each in stored if not isinstance(each, Opened)]
        assert (await store.decide(total(account))).state == (len(counted), sum(counted, Decimal(0)))
    await store.snapshots.end()
    assert store.snapshots.status().unstorable == {}


def process(engine: Engine, tuned: LogOptions) -> EventStore:
    store = EventStore(engine.log, options=tuned)
    store.events.register(Opened, Deposited, Withdrawn)
    return store


def spoil(loaded: Any) -> None:
    """Do to an aggregate what no handler should."""
    if isinstance(loaded, Ledger):
        loaded.amounts.append(Decimal(1000))
        loaded.by_amount.clear()
        loaded.seen.add(-1)
    else:
        loaded.balance = Decimal(1000)


def hold(url: str, examples: int) -> None:
    """Try the law with many histories in one database.

    What a background task has stored by then is up to time, so that a history may break the law only once.

    Raises:
        AssertionError: a history breaks the law.
    """

    @given(work=steps, tuned=options)
    @settings(max_examples=examples, deadline=None, phases=[Phase.generate])
    def law(work: list[Step], tuned: LogOptions) -> None:
        async def run() -> None:
            async with engine_at(url) as (engine, _):
                await assert_the_law(engine, work, tuned)

        asyncio.run(run())

    try:
        law()
    except FlakyFailure as once:
        raise once.exceptions[0] from once


@pytest.mark.parametrize("examples", [15, pytest.param(1000, marks=pytest.mark.soak)], ids=["short", "long"])
def test_a_state_is_the_fold_of_all_at_each_version(url: str, examples: int) -> None:
    hold(url, examples)


@pytest.mark.parametrize(("kind", "of"), [(KeptState, "pickled"), (StoredState, "snapshot")])
def test_the_law_finds_a_state_that_is_handed_out_itself(
    tmp_path: Path, kind: type, of: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is handed out is changed by those who get it, here and in a handler."""
    made: dict[Any, Any] = {}
    make = kind.__call__
    monkeypatch.setattr(kind, "__call__", lambda self: made.setdefault(getattr(self, of), make(self)))
    with pytest.raises(AssertionError):
        hold(f"sqlite:///{tmp_path}/log.db", 100)


def test_the_law_finds_a_tail_that_is_not_folded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tail = Streams._tail

    async def forgetful(*arguments: Any) -> Any:
        found = await tail(*arguments)
        return found and ([], found[1])

    monkeypatch.setattr(Streams, "_tail", forgetful)
    with pytest.raises(AssertionError):
        hold(f"sqlite:///{tmp_path}/log.db", 100)
