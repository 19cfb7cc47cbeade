"""Whatever an await of the synchronizer raises: it is told, shown and tried again, and all read models arrive."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.accounts import Balances, Deposited
from tests.campaigns.read_models.trails import Tallies
from tests.postgres_servers import PostgresServer
from tests.synchronizer.failing import Failing, FailingReadDatabase, Fault, failing_log
from tests.synchronizing import PATIENCE, deposited, engine_at, opened, quick, running, until, write

from twofold import Application, EventStore, Reaction, ReadModelSynchronizer
from twofold.engines.engine import Engine
from twofold.errors import CheckpointMovedError, StaleReadError, StorageUnavailableError
from twofold.options import Backoff, Options, SynchronizerOptions
from twofold.projections.keyed_runner import KeyedRunner
from twofold.synchronizer.takeover import Takeover

FAST = quick(lease=2.0, turn_while_building=0.01, idle_save=0.01, look=0.005)
ERRORS: tuple[Callable[[], BaseException], ...] = (
    lambda: StorageUnavailableError("terminating connection due to administrator command"),
    lambda: asyncio.CancelledError("of a task of the driver's own"),
    lambda: RuntimeError("an error that was not foreseen"),
)


class Mails(Reaction):
    name = "mails"

    def __init__(self) -> None:
        self.sent: list[str] = []

    def handles(self) -> tuple[type, ...]:
        return (Deposited,)

    async def apply(self, event: Deposited) -> None:
        self.sent.append(event.account)


@dataclass
class Crew:
    """A synchronizer upon a database that fails at one point, and an onlooker upon the same database that does not."""

    synchronizer: ReadModelSynchronizer
    onlooker: ReadModelSynchronizer
    mails: Mails

    @staticmethod
    def of(engine: Engine, fault: Fault, projections: Callable[[], list[Any]]) -> Crew:
        log, database, mails = failing_log(engine.log, fault), FailingReadDatabase(engine.read_database, fault), Mails()
        synchronizer = ReadModelSynchronizer(EventStore(log), database, [*projections(), mails], options=FAST)
        onlooker = ReadModelSynchronizer(EventStore(engine.log), engine.read_database, [*projections(), Mails()])
        return Crew(synchronizer, onlooker, mails)


async def arrive(engine: Engine, store: EventStore, fault: Fault, *, rebuild: bool) -> None:
    """Run a synchronizer through a fault, and demand that all its read models arrive."""
    crew = Crew.of(engine, fault, lambda: [Balances(), Tallies()])
    await crew.onlooker.prepare()
    if rebuild:
        await crew.onlooker.control("balances").scale(2)
    async with running(crew.synchronizer) as synchronizer:
        await write(store, opened("a"), deposited("a"))
        if rebuild:
            await crew.onlooker.rebuild_projection("balances")
        head = await write(store, deposited("a"), opened("b"))
        await crew.onlooker.wait(head, PATIENCE)

        async def healthy() -> bool:
            statuses = await crew.onlooker.status()
            return not synchronizer.faults and all(not each.problems and each.position == head for each in statuses)

        try:
            await until(healthy)
        except TimeoutError as late:
            shown = {each.name: (each.position, each.problems) for each in await crew.onlooker.status()}
            raise AssertionError(f"of {head} events: {shown}; faults here: {dict(synchronizer.faults)}") from late


async def faults_everywhere(
    url: Callable[[int], str], errors: Sequence[Callable[[], BaseException]] = ERRORS, *, rebuild: bool, step: int
) -> int:
    """Let each await of the synchronizer fail, one in each run; return how many there are."""
    at = random.randrange(step) + 1
    while True:
        fault = Fault(at, errors[at % len(errors)])
        async with engine_at(url(at)) as (engine, store):
            try:
                await arrive(engine, store, fault, rebuild=rebuild)
            except (AssertionError, StaleReadError, TimeoutError) as error:
                raise AssertionError(f"after {fault}: {error!r}") from error
        if not fault.has_struck:
            return at
        at += step


@pytest.mark.parametrize("rebuild", [False, True], ids=["following", "rebuilding"])
async def test_no_await_of_the_synchronizer_that_fails_ends_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, rebuild: bool
) -> None:
    caplog.set_level("CRITICAL", "twofold")
    steps = 17 if rebuild else 4
    assert await faults_everywhere(lambda at: f"sqlite:///{tmp_path}/{at}.db", rebuild=rebuild, step=steps) > 80


@pytest.mark.soak
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error()).__name__)
@pytest.mark.parametrize("rebuild", [False, True], ids=["following", "rebuilding"])
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_no_await_at_all_that_fails_ends_it(
    kind: str,
    rebuild: bool,
    error: Callable[[], BaseException],
    tmp_path: Path,
    postgres_server: Callable[[int], PostgresServer],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("CRITICAL", "twofold")
    with ExitStack() as stack:

        def url(at: int) -> str:
            stack.close()  # the database of the point before is emptied, and taken again
            if kind == "sqlite":
                return f"sqlite:///{tmp_path}/{at}.db"
            return stack.enter_context(postgres_server(18).database())

        assert await faults_everywhere(url, [error], rebuild=rebuild, step=1) > 80


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error()).__name__)
async def test_a_step_whose_answer_got_lost_is_no_fault_once_it_is_found_done(
    engine: Engine, store: EventStore, caplog: pytest.LogCaptureFixture, error: Callable[[], BaseException]
) -> None:
    caplog.set_level("CRITICAL", "twofold")
    fault = Fault(2, error)  # the points of the first commit are before it and after it
    database: Any = Failing(engine.read_database, fault, ("commit",))
    synchronizer = ReadModelSynchronizer(store, database, [Balances()], options=FAST)

    async def no_fault() -> bool:
        return not synchronizer.faults

    async with running(synchronizer):
        await synchronizer.wait(await write(store, opened("a")), PATIENCE)
        assert fault.has_struck
        await until(no_fault)


@pytest.mark.parametrize("url", ["postgres"], indirect=True)
async def test_connections_that_are_cut_at_random_end_nothing(
    url: str, store: EventStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL")
    app = Application(url, options=Options(synchronizer=FAST))
    balances = app.projections.add(Balances())
    await app.start()
    chance, deposits = random.Random(), 0
    await store.append([opened("a")])
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as operator:
        for _ in range(25):
            await operator.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid() AND random() < 0.5"
            )
            try:
                await store.append([deposited("a")])
                deposits += 1
            except StorageUnavailableError:
                pass
            await asyncio.sleep(chance.uniform(0, 0.05))
    head = await store.head()

    async def arrived() -> bool:
        return all(each.position == head and not each.problems for each in await app.projections.status())

    await until(arrived)
    row = await balances.get("a")
    await app.stop()
    assert row is not None
    assert row.changes >= deposits


async def test_a_database_that_fails_ends_only_its_own_workers(
    engine: Engine, store: EventStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL", "twofold")

    class Elsewhere(Balances):
        name = "elsewhere"

    async with engine_at(f"sqlite:///{tmp_path}/reports.db") as (reports, _):
        broken = FailingReadDatabase(reports.read_database, Always())
        synchronizer = ReadModelSynchronizer(store, engine.read_database, [Balances()], options=FAST)
        synchronizer.add(Elsewhere(), database=reports.read_database)
        await synchronizer.prepare()
        synchronizer = ReadModelSynchronizer(store, engine.read_database, [Balances()], options=FAST)
        synchronizer.add(Elsewhere(), database=broken)
        synchronizer._is_prepared = True
        async with running(synchronizer):
            head = await write(store, opened("a"))
            await synchronizer.wait(head, PATIENCE, ["balances"])

            async def shown() -> bool:
                return "is away, says the test" in synchronizer.faults.get("elsewhere", "")

            await until(shown)
            assert "balances" not in synchronizer.faults
            by_name = {each.name: each for each in await synchronizer.status()}
            assert by_name["balances"].problems == []
            assert any("is away, says the test" in problem for problem in by_name["elsewhere"].problems)


class Always(Fault):
    """Fails at every point."""

    def __init__(self) -> None:
        super().__init__(1, lambda: StorageUnavailableError("it is away, says the test"))

    def point(self) -> None:
        self.points = 0
        super().point()


async def test_who_waits_is_told_what_fails(
    engine: Engine, store: EventStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL", "twofold")

    class Broken(Balances):
        on_failure = "stop"

        def key(self, event: Any) -> Any:
            raise ArithmeticError("no key today")

    synchronizer = ReadModelSynchronizer(store, engine.read_database, [Broken()], options=FAST)
    async with running(synchronizer):
        head = await write(store, opened("a"))

        async def failing() -> bool:
            return bool(synchronizer.faults)

        await until(failing)
        with pytest.raises(StaleReadError, match=r"balances at 0 \(.*no key today"):
            await synchronizer.wait(head, 0.2)


async def test_who_waits_in_another_process_is_told_what_the_checkpoint_says(
    engine: Engine, store: EventStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL", "twofold")

    class Broken(Balances):
        on_failure = "stop"

        def key(self, event: Any) -> Any:
            raise ArithmeticError("no key today")

    onlooker = ReadModelSynchronizer(store, engine.read_database, [Balances()])
    async with running(ReadModelSynchronizer(store, engine.read_database, [Broken()], options=FAST)):
        head = await write(store, opened("a"))

        async def stored() -> bool:
            rows = await engine.read_database.query("SELECT error FROM twofold_checkpoints")
            return any("no key today" in error for (error,) in rows)

        await until(stored)
        assert onlooker.faults == {}, "nothing fails in the process that waits"
        with pytest.raises(StaleReadError, match=r"balances at 0 \(.*no key today") as late:
            await onlooker.wait(head, 0.2)
        assert "no key today" in late.value.faults["balances"]


async def test_an_application_whose_synchronizer_was_cancelled_is_not_healthy(url: str) -> None:
    app = Application(url)
    app.projections.add(Balances())
    async with app:
        [task] = [each for each in asyncio.all_tasks() if each.get_name() == "twofold-synchronizer"]
        task.cancel()
        await asyncio.wait([task])
        [status] = await app.projections.status()
        assert status.problems == [
            "this process does not keep it in step: the synchronizer was cancelled; start the application again"
        ]


async def test_a_worker_task_that_is_cancelled_by_others_begins_again(engine: Engine, store: EventStore) -> None:
    synchronizer = ReadModelSynchronizer(store, engine.read_database, [Balances()], options=FAST)
    async with running(synchronizer):
        await synchronizer.wait(await write(store, opened("a")), PATIENCE)
        for task in asyncio.all_tasks():
            if task.get_name().startswith(("twofold-worker", "twofold-projection")):
                task.cancel()
        await synchronizer.wait(await write(store, deposited("a")), PATIENCE)


PATIENT = SynchronizerOptions(lease=1.0, backoff=Backoff(first=0.05, last=10.0), turn_while_building=0.01)


async def test_a_segment_that_is_told_in_vain_that_its_checkpoint_has_moved_does_not_spin(
    engine: Engine, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    times: list[float] = []

    async def moved(*_: Any) -> Any:
        times.append(asyncio.get_running_loop().time())
        raise CheckpointMovedError("balances")

    synchronizer = ReadModelSynchronizer(store, engine.read_database, [Balances()], options=PATIENT)
    async with running(synchronizer):
        await synchronizer.wait(await write(store, opened("a")), PATIENCE)
        with monkeypatch.context() as patched:
            patched.setattr(KeyedRunner, "project", moved)
            head = await write(store, deposited("a"))

            async def has_tried_often() -> bool:
                return len(times) > 6

            await until(has_tried_often)
            assert times[6] - times[2] > 0.05 + 0.1 + 0.2 + 0.4
            assert "balances" in synchronizer.faults
        await synchronizer.wait(head, PATIENCE)
        assert not synchronizer.faults


async def test_a_takeover_that_always_fails_rests_longer_each_time_and_its_cause_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    times: list[float] = []

    async def failing(*_: Any) -> Any:
        times.append(asyncio.get_running_loop().time())
        raise RuntimeError("it was not foreseen")

    async with engine_at(f"sqlite:///{tmp_path}/log.db") as (engine, store):
        synchronizer = ReadModelSynchronizer(store, engine.read_database, [Balances()], options=PATIENT)
        async with running(synchronizer):
            await synchronizer.wait(await write(store, opened("a")), PATIENCE)
            with monkeypatch.context() as patched:
                patched.setattr(Takeover, "finish", failing)
                rebuilding = asyncio.create_task(synchronizer.rebuild_projection("balances"))

                async def has_tried_often() -> bool:
                    return len(times) > 6

                await until(has_tried_often)
            assert times[6] - times[0] > 0.5 * sum(0.05 * 2**n for n in range(6)), "longer than a third of the lease"
            told = [each for each in caplog.records if "the takeover of balances" in each.getMessage()]
            assert [bool(each.exc_info) for each in told] == [True] + [False] * (len(told) - 1)
            assert not (await rebuilding).reason
            assert not synchronizer.faults
