"""Parquet snapshots are complete, of one moment, and can be read while the next ones are written."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.accounts import Balance, Balances
from tests.child_processes import CONTEXT
from tests.engines.duckdb import snapshot_processes
from tests.synchronizing import PATIENCE, deposited, opened, until, write

from twofold import EventStore, ReadModel, ReadModelSynchronizer
from twofold.engines.duckdb import DuckDbReadDatabase, ParquetSnapshots
from twofold.engines.duckdb.snapshots import numbers
from twofold.engines.engine import Engine
from twofold.errors import (
    MissingTableError,
    ReadOnlyStorageError,
    StorageError,
    StorageUnavailableError,
)
from twofold.options import DuckDbOptions
from twofold.testing.read_samples import Model, Sample


@pytest_asyncio.fixture
async def database(engine: Engine) -> DuckDbReadDatabase:
    assert isinstance(engine.read_database, DuckDbReadDatabase)
    return engine.read_database


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "it's a folder" / "snapshots"


@contextmanager
def process(target: Any, folder: Path) -> Iterator[Connection]:
    """Run a function in another process, for as long as the block lasts at most."""
    ours, theirs = CONTEXT.Pipe()
    child = CONTEXT.Process(target=target, args=(str(folder), theirs))
    child.start()
    theirs.close()
    try:
        yield ours
        child.join(PATIENCE)
    finally:
        child.kill()
        child.join()


def test_three_processes_read_whole_snapshots_while_one_writes_all_the_while(tmp_path: Path) -> None:
    with process(snapshot_processes.own, tmp_path) as owner:
        assert owner.recv() == 1
        with (
            process(snapshot_processes.read, tmp_path) as one,
            process(snapshot_processes.read, tmp_path) as two,
            process(snapshot_processes.read, tmp_path) as three,
        ):
            for _ in range(10):
                owner.recv()
            for reader in (one, two, three):
                reader.send("end")
            answers = [reader.recv() for reader in (one, two, three)]
        owner.send("end")
    assert all(isinstance(answer, int) for answer in answers), answers
    assert max(answers) > 3, "hardly anything was read"


@pytest.mark.parametrize("kept_for", [0.0, 10.0])
def test_every_question_is_answered_while_an_eager_process_replaces_the_snapshots(
    tmp_path: Path, kept_for: float
) -> None:
    (tmp_path / "kept_for").write_text(str(kept_for))
    with process(snapshot_processes.own_eagerly, tmp_path) as owner:
        first = owner.recv()
        with (
            process(snapshot_processes.ask_eagerly, tmp_path) as one,
            process(snapshot_processes.ask_eagerly, tmp_path) as two,
        ):
            answers = [reader.recv() for reader in (one, two)]
        owner.send("end")
        written = owner.recv() - first
    print(f"{written} snapshots; questions, snapshots that answered, and what went wrong: {answers}")
    assert written > 20
    for asked, seen, wrong in answers:
        assert kept_for == 0 or wrong == []
        assert all(text.startswith("StorageUnavailableError: ") for text in wrong), "a slow process gives up by name"
        assert asked == snapshot_processes.QUESTIONS
        assert seen > 3


async def test_a_snapshot_stays_for_a_while_after_the_next_one_came_however_many_come(
    tmp_path: Path, folder: Path
) -> None:
    options = DuckDbOptions(snapshots_kept_for=1.0)
    database = DuckDbReadDatabase(tmp_path / "kept.duckdb", options=options)
    await database.open()
    for _ in range(4):
        await database.snapshot(folder)
    first, _, third, _ = (folder / f"snapshot-{number:09}" for number in range(1, 5))
    assert first.is_dir()
    for manifest in folder.glob("*/manifest.json"):
        os.utime(manifest, (time.time() - 2, time.time() - 2))
    await database.snapshot(folder)
    assert not first.exists()
    assert not third.exists(), "the fourth had been there for longer than the third has to stay"
    assert numbers(folder) == [4, 5]
    await database.close()


async def test_snapshots_that_begin_again_at_the_same_number_are_not_taken_for_the_earlier_ones(
    database: DuckDbReadDatabase, folder: Path
) -> None:
    model = Model(database)
    await model.prepare()
    await database.snapshot(folder)
    snapshots = ParquetSnapshots(folder)
    assert await snapshots.sql("SELECT count(*) AS n FROM samples") == [{"n": 0}]
    shutil.rmtree(folder)
    await model.write(Sample(id="a"))
    assert (await database.snapshot(folder)).number == 1
    assert await snapshots.sql("SELECT count(*) AS n FROM samples") == [{"n": 1}]


async def test_a_snapshot_says_how_far_it_goes_and_how_old_it_is(
    database: DuckDbReadDatabase, store: EventStore, folder: Path
) -> None:
    synchronizer = ReadModelSynchronizer(store, database, [Balances()])
    position = await write(store, opened("a"), deposited("a", 5))
    await synchronizer.run_once(PATIENCE)
    written = await database.snapshot(folder)
    snapshots = ParquetSnapshots(folder)
    latest = await snapshots.latest()
    assert (latest.number, latest.position("balances"), latest.taken_at) == (1, position, written.taken_at)
    assert timedelta(0) <= latest.age < timedelta(minutes=1)
    balances = ReadModel(snapshots, Balances())
    assert await balances.get("a") == Balance("a", "ann", Decimal(5), 1)
    assert (await balances.page(where=[("owner", "=", "ann")])).total == 1
    await write(store, deposited("a"))
    await synchronizer.run_once(PATIENCE)
    assert await balances.get("a") == Balance("a", "ann", Decimal(5), 1)
    await database.snapshot(folder)
    assert await balances.get("a") == Balance("a", "ann", Decimal(6), 2)
    assert await latest.sql("SELECT amount FROM balances") == [{"amount": Decimal(5)}]


async def test_the_last_two_snapshots_stay_and_an_older_one_says_that_it_is_gone(tmp_path: Path, folder: Path) -> None:
    database = DuckDbReadDatabase(tmp_path / "two.duckdb", options=DuckDbOptions(snapshots_kept_for=0))
    await database.open()
    model = Model(database)
    await model.prepare()
    await model.write(Sample(id="a"))
    await database.snapshot(folder)
    first = await ParquetSnapshots(folder).latest()
    await database.snapshot(folder)
    assert await first.sql("SELECT id FROM samples") == [{"id": "a"}]
    await database.snapshot(folder)
    assert numbers(folder) == [2, 3]
    with pytest.raises(StorageUnavailableError, match="take the latest"):
        await first.sql("SELECT id FROM samples")
    await database.close()


async def test_rows_are_those_of_the_database_of_every_kind(database: DuckDbReadDatabase, folder: Path) -> None:
    model = Model(database)
    await model.prepare()
    await model.write(
        Sample(id="a", title="red lamp", amount=Decimal("1.50"), words=("x",), flag=True),
        Sample(id="b", title="red chair"),
    )
    await database.snapshot(folder)
    snapshots = ParquetSnapshots(folder)
    there = Model(snapshots)
    assert list(map(repr, await there.select())) == list(map(repr, await model.select()))
    assert await there.ids(search="lamp") == "a"
    [row] = await snapshots.sql("SELECT * FROM samples WHERE id = :id", id="a")
    assert list(row) == [column.name for column in model.table.columns]


async def test_snapshots_are_written_by_themselves_and_once_more_at_the_end(tmp_path: Path, folder: Path) -> None:
    database = DuckDbReadDatabase(tmp_path / "r.duckdb", snapshots=folder, every=timedelta(milliseconds=1))
    await database.open()

    async def there_are_two() -> bool:
        return numbers(folder)[-1:] >= [2]

    await until(there_are_two)
    model = Model(database)
    await model.prepare()
    await model.write(Sample(id="a"))
    await database.close()
    assert await ParquetSnapshots(folder).sql("SELECT id FROM samples") == [{"id": "a"}]


async def test_a_snapshot_that_cannot_be_written_leaves_the_earlier_ones(
    database: DuckDbReadDatabase, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await database.snapshot(folder)

    def fail(path: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(StorageError):
        patch.setattr("twofold.engines.duckdb.snapshots._sync", fail)
        await database.snapshot(folder)
    assert [each.name for each in folder.iterdir()] == ["snapshot-000000001"]
    assert (await database.snapshot(folder)).number == 2


async def test_snapshots_go_on_after_one_that_failed_for_a_reason_that_was_not_foreseen(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL", "twofold")
    failed = asyncio.Event()

    def fail(path: Path) -> None:
        failed.set()
        raise RuntimeError("an error that was not foreseen")

    database = DuckDbReadDatabase(tmp_path / "r.duckdb", snapshots=folder, every=timedelta(milliseconds=1))
    with monkeypatch.context() as patch:
        patch.setattr("twofold.engines.duckdb.snapshots._sync", fail)
        await database.open()
        await asyncio.wait_for(failed.wait(), PATIENCE)

    async def there_is_one() -> bool:
        return folder.exists() and numbers(folder) != []

    await until(there_is_one)
    await database.close()


async def test_without_a_snapshot_readers_are_told_what_to_do(folder: Path) -> None:
    with pytest.raises(StorageUnavailableError, match="snapshots="):
        await ParquetSnapshots(folder).sql("SELECT 1")


async def test_what_a_snapshot_does_not_hold_says_so_and_nothing_can_be_written(
    database: DuckDbReadDatabase, folder: Path
) -> None:
    await database.snapshot(folder)
    snapshots = ParquetSnapshots(folder)
    with pytest.raises(MissingTableError):
        await ReadModel(snapshots, Balances()).get("a")
    with pytest.raises(ReadOnlyStorageError):
        snapshots.transaction()
    with pytest.raises(ReadOnlyStorageError):
        await Model(snapshots).commit(Model(snapshots).step(0, 1))
    with pytest.raises(StorageError):
        await snapshots.sql("CREATE TABLE x (y INTEGER)")


async def test_many_questions_at_once_are_answered(database: DuckDbReadDatabase, folder: Path) -> None:
    model = Model(database)
    await model.prepare()
    await model.write(Sample(id="a", number=1))
    await database.snapshot(folder)
    snapshots = ParquetSnapshots(folder)
    answers = await asyncio.gather(*(snapshots.sql("SELECT sum(number) AS n FROM samples") for _ in range(50)))
    assert answers == [[{"n": 1}]] * 50
