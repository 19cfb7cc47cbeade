"""Read models that are folded when somebody asks."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest
import pytest_asyncio
from tests.accounts import Balance, Balances, Deposit, Deposited, GetBalance, Open, Withdrawn, wire
from tests.kinds import fresh, rows
from tests.recording_log import RecordingLog
from tests.synchronizing import PATIENCE, deposited, opened, running, write

from twofold import Application, EventStore, ProjectionState, Reaction, ReadModelSynchronizer, on
from twofold.engines.engine import Engine, connect, scratch_database
from twofold.errors import InvalidProjectionError, ProjectionFailedError, StaleReadError


@pytest.fixture(autouse=True)
def scratch_folder(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where temporary files are; the server, if there is one, has started elsewhere."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest_asyncio.fixture
async def synchronizer(engine: Engine, store: EventStore) -> AsyncIterator[ReadModelSynchronizer]:
    synchronizer = ReadModelSynchronizer(store, engine.read_database, batch_size=7, scratch=scratch_database)
    yield synchronizer
    await synchronizer.close()


class Fussy(Balances):
    @on(Deposited)
    def deposited(self, row: Balance, event: Deposited) -> Balance:
        if event.amount == 13:
            raise ArithmeticError("unlucky")
        return super().deposited(row, event)

    @on(Withdrawn)
    def withdrawn(self, row: Balance, event: Withdrawn) -> None:
        """Close the account."""


async def test_who_waits_for_a_live_projection_waits_for_the_log(
    synchronizer: ReadModelSynchronizer, store: EventStore
) -> None:
    synchronizer.add(Balances(), kind="on_demand")
    with pytest.raises(StaleReadError, match="balances at 0"):
        await synchronizer.wait(1, 0.01, ["balances"])
    waiting = asyncio.create_task(synchronizer.wait(1, PATIENCE, ["balances"]))
    await write(store, opened("a"))
    await waiting
    assert synchronizer.progress["balances"].reached == 1


async def test_each_answer_is_as_of_the_moment_of_the_question(
    synchronizer: ReadModelSynchronizer, store: EventStore
) -> None:
    balances = synchronizer.add(Balances(), kind="on_demand")
    assert await balances.get("a") is None
    for count in range(1, 20):
        await write(store, opened(f"a{count}"), *(deposited(f"a{count}") for _ in range(count)))
        assert await balances.get(f"a{count}") == Balance(f"a{count}", "ann", Decimal(count), count)
        assert await rows(balances) == await fresh(store)
        [total] = await balances.totals(by=["owner"], of="amount")
        assert (total.count, total.sum) == (count, Decimal(count * (count + 1) // 2))


async def test_many_questions_at_once_are_all_answered_up_to_date(
    synchronizer: ReadModelSynchronizer, store: EventStore
) -> None:
    balances = synchronizer.add(Balances(), kind="on_demand")
    await write(store, *(opened(f"a{number}") for number in range(20)))

    async def deposit_and_ask(number: int) -> None:
        for count in range(1, 6):
            await write(store, deposited(f"a{number}"))
            assert await balances.get(f"a{number}") == Balance(f"a{number}", "ann", Decimal(count), count)

    await asyncio.gather(*map(deposit_and_ask, range(20)))


async def test_a_question_that_is_cancelled_harms_no_later_one(
    synchronizer: ReadModelSynchronizer, store: EventStore
) -> None:
    balances = synchronizer.add(Balances(), kind="on_demand")
    await write(store, opened("a"))
    for count in range(1, 30):
        await write(store, *(deposited("a") for _ in range(10)))
        asking = asyncio.create_task(balances.get("a"))
        for _ in range(count):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert await balances.get("a") == Balance("a", "ann", Decimal(10 * count), 10 * count)


async def test_an_event_that_fails_concerns_those_who_ask_for_its_row_or_for_several(
    synchronizer: ReadModelSynchronizer, store: EventStore
) -> None:
    balances = synchronizer.add(Fussy(), kind="on_demand")
    await write(store, opened("a"), opened("b"), deposited("a", 13), deposited("a"), deposited("b"))
    for _ in range(2):
        with pytest.raises(ProjectionFailedError, match=r"failed on event 3 \(Deposited\): ArithmeticError: unlucky"):
            await balances.get("a")
        assert await balances.get("b") == Balance("b", "ann", Decimal(1), 1)
        with pytest.raises(ProjectionFailedError, match="event 3"):
            await balances.page()
        with pytest.raises(ProjectionFailedError, match="event 3"):
            await balances.totals(by=[], of="amount")


async def test_one_that_is_to_stop_at_a_failure_answers_nobody(
    synchronizer: ReadModelSynchronizer, store: EventStore
) -> None:
    class Strict(Fussy):
        on_failure = "stop"

    balances = synchronizer.add(Strict(), kind="on_demand")
    await write(store, opened("a"), opened("b"), deposited("a", 13))
    for _ in range(2):
        with pytest.raises(ProjectionFailedError, match="event 3"):
            await balances.get("b")


async def test_it_costs_nothing_when_nobody_asks_and_leaves_nothing_behind(
    engine: Engine, scratch_folder: Path
) -> None:
    log = RecordingLog(engine.log)
    store = EventStore(log)
    synchronizer = ReadModelSynchronizer(store, engine.read_database, scratch=scratch_database)
    balances = synchronizer.add(Balances(), kind="on_demand")
    await write(store, opened("a"))
    async with running(synchronizer):
        await synchronizer.wait(1, 0)
        assert (log.reads, list(scratch_folder.iterdir())) == (0, [])
        assert await balances.get("a") == Balance("a", "ann")
        assert log.reads == 1
        for _ in range(3):
            await balances.get("a")
        assert log.reads == 1, "only what is new is read"
        [folder] = scratch_folder.iterdir()
        assert folder.stat().st_mode & 0o777 == 0o700
    await synchronizer.close()
    assert list(scratch_folder.iterdir()) == []
    assert await balances.get("a") == Balance("a", "ann"), "it begins anew"
    await synchronizer.close()


async def test_it_works_beside_read_models_in_another_database(url: str, tmp_path: Path) -> None:
    app = Application(url, read_url=f"sqlite:///{tmp_path}/apart.db")
    balances = app.projections.add(Balances(), kind="on_demand")
    wire(app)

    async def get_balance(query: GetBalance) -> Balance | None:
        return await balances.get(query.account)

    app.queries.register(GetBalance, get_balance)
    async with app:
        await app.commands.execute(Open(account="a"))
        receipt = await app.commands.execute(Deposit(account="a"))
        assert await app.queries.dispatch(GetBalance("a"), after=receipt, timeout=0) == Balance(
            "a", "ann", Decimal(1), 1
        )
        [status] = await app.projections.status()
    assert (status.kind, status.state, status.position, status.problems) == ("on_demand", ProjectionState.LIVE, 2, [])


async def test_there_is_nothing_to_be_operated(synchronizer: ReadModelSynchronizer, store: EventStore) -> None:
    synchronizer.add(Balances(), kind="on_demand")
    with pytest.raises(InvalidProjectionError, match="balances is folded on demand"):
        await synchronizer.control("balances").pause()


async def test_what_cannot_be_live_is_refused_when_it_is_added(
    synchronizer: ReadModelSynchronizer, engine: Engine, store: EventStore, tmp_path: Path
) -> None:
    class Mails(Reaction):
        name = "mails"

    class Later(Balances):
        name = "later"
        follows = ("balances",)

    with pytest.raises(InvalidProjectionError, match="mails can be asynchronous only"):
        synchronizer.add(Mails(), kind="on_demand")  # type: ignore[call-overload]
    with pytest.raises(InvalidProjectionError, match="folded from all events, and stored nowhere"):
        synchronizer.add(Balances(), kind="on_demand", start="now")
    apart = connect(f"sqlite:///{tmp_path}/apart.db").read_database
    with pytest.raises(InvalidProjectionError, match="folded from all events, and stored nowhere"):
        synchronizer.add(Balances(), kind="on_demand", database=apart)
    with pytest.raises(InvalidProjectionError, match="give the synchronizer `scratch="):
        ReadModelSynchronizer(store, engine.read_database).add(Balances(), kind="on_demand")
    synchronizer.add(Balances(), kind="on_demand")
    with pytest.raises(InvalidProjectionError, match="named 'balances' already"):
        synchronizer.add(Balances())
    with pytest.raises(InvalidProjectionError, match=r"later follows 'balances'; add that one before it"):
        synchronizer.add(Later())
