"""A fork is the beginning of a log, and what an application does on it stays there: it sends nothing to the outside."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio
from tests.accounts import Balances, Deposited, Opened
from tests.cli.typed import Done
from tests.fulfilment import OrderPlaced
from tests.log.transfer.logs import EVENTS, SMALL, contents, fill, store_of
from tests.synchronizing import PATIENCE, until

from twofold import (
    Application,
    BatchReaction,
    EventStore,
    LogFileError,
    LogsDifferError,
    Reaction,
    export_log,
    fork_log,
    import_log,
    open_event_store,
    transform_log,
)
from twofold.cli import run
from twofold.engines.engine import Engine
from twofold.engines.memory import MemoryEventLog
from twofold.errors import StorageUnavailableError
from twofold.log.copy import copy_log
from twofold.log.verify import verify_log
from twofold.messages.stored_event import StoredEvent
from twofold.ports.maintenance import Fork, StoredCommand, fork_of
from twofold.processes import Process, after, due, starts
from twofold.synchronizer.status import ProjectionState


@pytest.fixture
async def source() -> MemoryEventLog:
    log = MemoryEventLog()
    await fill(log)
    return log


async def test_a_fork_is_the_beginning_of_a_log_with_an_id_of_its_own(engine: Engine, source: MemoryEventLog) -> None:
    forked = await fork_log(store_of(source), EventStore(engine.log, options=SMALL), at=60)
    rows, commands, _ = await contents(source)
    known = [each for each in commands if each.last_position <= 60]
    assert (await contents(engine.log))[:2] == (rows[:60], known)
    assert (forked.events, forked.commands, forked.already) == (60, len(known), 0)
    beginning = await source.mark(0)
    assert beginning is not None
    assert await fork_of(engine.log) == Fork(beginning.event_id, 60)
    assert await engine.log.mark(0) != beginning
    assert await fork_of(source) is None
    assert await verify_log(engine.log) == 60  # type: ignore[arg-type]


class Interrupted(MemoryEventLog):
    """Fails after a number of chunks that it stores."""

    remaining = 1000

    async def restore(self, rows: Sequence[StoredEvent], commands: Sequence[StoredCommand] = ()) -> None:
        if not self.remaining:
            raise StorageUnavailableError("unplugged")
        self.remaining -= 1
        await super().restore(rows, commands)


@pytest.mark.parametrize("chunks", [0, 1, 5, 9])
async def test_an_interrupted_fork_goes_on_up_to_where_it_was_to_end(source: MemoryEventLog, chunks: int) -> None:
    target = Interrupted()
    target.remaining = chunks
    with pytest.raises(StorageUnavailableError):
        await fork_log(store_of(source), store_of(target), at=60)
    target.remaining = 1000
    if await target.head():
        with pytest.raises(LogsDifferError, match=r"the target is a fork of the log .* up to position 60"):
            await fork_log(store_of(source), store_of(target), at=61)
    await fork_log(store_of(source), store_of(target))
    assert (await contents(target))[0] == (await contents(source))[0][:60]


async def test_what_is_no_fork_does_not_become_one_and_a_fork_gets_nothing_of_its_source(
    source: MemoryEventLog,
) -> None:
    copied, fork = MemoryEventLog(), MemoryEventLog()
    await copy_log(source, copied)
    with pytest.raises(LogsDifferError, match="the target is no fork"):
        await fork_log(store_of(source), store_of(copied), at=EVENTS)
    await fork_log(store_of(source), store_of(fork), at=60)
    with pytest.raises(LogsDifferError, match="the target is a fork of the log"):
        await copy_log(source, fork)
    assert await fork.head() == 60
    with pytest.raises(ValueError, match="the log ends at position 100; `at` is 101"):
        await fork_log(store_of(source), store_of(MemoryEventLog()), at=EVENTS + 1)
    await fill(fork, 70)
    with pytest.raises(LogsDifferError, match="the target goes on where the source ends"):
        await fork_log(store_of(source), store_of(fork))


@pytest.mark.parametrize("way", ["copy", "file", "part", "transform"])
async def test_what_is_made_of_a_fork_is_a_fork(source: MemoryEventLog, tmp_path: Path, way: str) -> None:
    fork, other = MemoryEventLog(), MemoryEventLog()
    await fork_log(store_of(source), store_of(fork), at=60)
    if way == "copy":
        await copy_log(fork, other)
    elif way == "transform":
        await transform_log(store_of(fork), store_of(other), lambda source: [source.event])
    else:
        await export_log(store_of(fork), tmp_path / "fork.jsonl", after=50 if way == "part" else 0)
        await import_log(store_of(other), tmp_path / "fork.jsonl")
    assert await fork_of(other) == await fork_of(fork)


async def test_a_file_of_the_source_does_not_go_on_a_fork(source: MemoryEventLog, tmp_path: Path) -> None:
    fork = MemoryEventLog()
    await fork_log(store_of(source), store_of(fork), at=60)
    await export_log(store_of(source), tmp_path / "log.jsonl")
    with pytest.raises(LogFileError, match="it is of another log than the target holds"):
        await import_log(store_of(fork), tmp_path / "log.jsonl")


class Mails(Reaction):
    """Sends nothing but notes what it would."""

    name = "mails"

    def __init__(self) -> None:
        self.sent: list[str] = []

    def handles(self) -> tuple[type, ...]:
        return (Opened,)

    async def apply(self, event: Opened) -> None:
        self.sent.append(event.account)


class Feed(BatchReaction):
    name = "feed"

    def __init__(self) -> None:
        self.sent: list[str] = []

    def handles(self) -> tuple[type, ...]:
        return (Opened,)

    async def apply(self, batch: Any) -> None:
        self.sent += [recorded.event.account for recorded in batch]


@dataclass(frozen=True)
class Waiting:
    order: str = ""


class Patience(Process[Waiting]):
    """Waits for what never comes."""

    name, initial = "patience", Waiting()

    @starts(OrderPlaced, key="order")
    def placed(self, state: Waiting, event: OrderPlaced) -> Iterator[object]:
        yield after(timedelta(hours=1), "payment")

    @due("payment")
    def overdue(self, state: Waiting) -> tuple[()]:
        return ()

    def is_completed(self, state: Waiting) -> bool:
        return False


class Shop:
    """An application with all that could do something elsewhere."""

    def __init__(self, url: str) -> None:
        self.app = Application(url)
        self.mails, self.feed = Mails(), Feed()
        self.balances = self.app.projections.add(Balances())
        self.app.projections.add(self.mails)
        self.app.projections.add(self.feed)
        self.app.processes.add(Patience())

    async def open(self, account: str) -> None:
        await self.app.store.append([Opened(account=account), Deposited(account=account, amount=Decimal(1))])
        await self.app.store.append([OrderPlaced(order=account)])


@pytest_asyncio.fixture
async def forked(url: str, tmp_path: Path) -> AsyncIterator[str]:
    """Return the address of a fork of a log that an application has worked on."""
    original = f"sqlite:///{tmp_path}/original.db"
    shop = Shop(original)
    async with shop.app:
        await shop.open("a")
        await until(lambda: _is_sent(shop, "a"))
    async with open_event_store(original) as source, open_event_store(url) as target:
        await fork_log(source, target)
    yield url


async def _is_sent(shop: Shop, account: str) -> bool:
    return account in shop.mails.sent and account in shop.feed.sent


async def test_an_application_on_a_fork_keeps_its_read_models_and_sends_nothing(forked: str) -> None:
    shop = Shop(forked)
    async with shop.app as app:
        before = await app.store.head()
        await shop.open("b")
        await app.projections.wait(await app.store.head(), PATIENCE, projections=["balances"])
        assert [(await shop.balances.get(each)) is not None for each in ("a", "b")] == [True, True]
        states = {each.name: each.state for each in await app.projections.status()}
        paused = {name for name, state in states.items() if state is ProjectionState.PAUSED}
        assert paused == {"mails", "feed", Patience.name}
        assert await app.store.head() == before + 3, "no process has done anything"
        assert (shop.mails.sent, shop.feed.sent) == ([], [])
        await app.projections.control("mails").resume()
        await until(lambda: _mailed(shop, "b"))
        assert shop.mails.sent == ["b"], "what the original has sent is not sent again"
    again = Shop(forked)
    async with again.app:
        await again.open("c")
        await until(lambda: _mailed(again, "c"))
        assert again.feed.sent == []


async def _mailed(shop: Shop, account: str) -> bool:
    return account in shop.mails.sent


async def test_an_operator_forks_a_log_and_its_reactions_stand_still_where_they_stood(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    original, fork = f"sqlite:///{tmp_path}/original.db", f"sqlite:///{tmp_path}/fork.db"
    shop = Shop(original)
    async with shop.app:
        for account in ("a", "b"):
            await shop.open(account)
        await until(lambda: _is_sent(shop, "b"))
        head = await shop.app.store.head()
        await shop.app.projections.wait(head, PATIENCE)

    async def typed(*arguments: str) -> Done:
        code = await asyncio.to_thread(run, arguments)
        return Done(code, *capsys.readouterr())

    told = json.loads((await typed("fork", original, fork, "--at", "4", "--json")).stdout)
    assert (told["events"], sorted(told["paused"])) == (4, ["feed", "mails"])
    assert "a fork of the log" in (await typed("status", fork)).stdout
    assert "a fork of the log" not in (await typed("status", original)).stdout
    assert (await typed("fork", original, fork, "--at", str(head + 1))).returncode == 1
    assert "are the same database" in (await typed("fork", fork, fork)).stderr
    there = Shop(fork)
    async with there.app as app:
        states = {each.name: (each.state, each.position) for each in await app.projections.status()}
        assert states["mails"] == states["feed"] == (ProjectionState.PAUSED, 4)
        assert (await typed("projections", "resume", fork, "mails")).returncode == 0
        await there.open("c")
        await until(lambda: _mailed(there, "c"))
    assert (there.mails.sent, there.feed.sent) == (["c"], [])


async def test_a_log_of_an_engine_that_has_no_forks_is_none() -> None:
    assert await fork_of(cast(Any, object())) is None
