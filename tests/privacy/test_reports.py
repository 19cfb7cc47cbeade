"""Reports in DuckDB, and their Parquet snapshots, forget as all other read models do."""

from __future__ import annotations

from pathlib import Path

import duckdb
from tests.privacy.guests import GUEST, MASTER_KEY, OPTIONS, Guests, check_in
from tests.synchronizing import PATIENCE

from twofold import Application
from twofold.engines.duckdb import DuckDbReadDatabase, ParquetSnapshots
from twofold.engines.duckdb.snapshots import numbers


class Reported(Guests):
    name = "reported"


async def test_the_rows_of_reports_and_all_parquet_snapshots_hold_placeholders(tmp_path: Path) -> None:
    app = Application(
        f"sqlite:///{tmp_path}/log.db", keys_url=f"sqlite:///{tmp_path}/keys.db", master_key=MASTER_KEY, options=OPTIONS
    )
    folder = tmp_path / "snapshots"
    reports = DuckDbReadDatabase(tmp_path / "reports.duckdb", snapshots=folder)
    model = app.projections.add(Reported(), database=reports)
    async with app:
        await check_in(app, "g1", GUEST["name"], GUEST["email"], GUEST["wish"], wishes=2)
        await app.projections.wait(await app.store.head(), PATIENCE)
        for _ in range(2):
            await reports.snapshot(folder)
        before = await ParquetSnapshots(folder).sql("SELECT name FROM reported")
        assert [each["name"] for each in before] == [GUEST["name"]]
        await app.privacy.forget("g1", reason="asked", by="desk")
        row = await model.get("g1")
        assert row is not None
        assert row.name == "(forgotten)"
        assert len(numbers(folder)) == 1
        found = await ParquetSnapshots(folder).sql("SELECT name FROM reported")
        assert [each["name"] for each in found] == ["(forgotten)"]


async def test_the_file_of_reports_holds_the_text_until_it_is_copied(tmp_path: Path) -> None:
    app = Application(
        f"sqlite:///{tmp_path}/log.db", keys_url=f"sqlite:///{tmp_path}/keys.db", master_key=MASTER_KEY, options=OPTIONS
    )
    file, copy = tmp_path / "reports.duckdb", tmp_path / "copy.duckdb"
    app.projections.add(Reported(), database=DuckDbReadDatabase(file))
    async with app:
        await check_in(app, "g1", GUEST["name"], GUEST["email"], GUEST["wish"], wishes=2)
        await app.projections.wait(await app.store.head(), PATIENCE)
    assert GUEST["name"].encode() in file.read_bytes()
    async with app:
        await app.privacy.forget("g1", reason="asked", by="desk")
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{file}' AS old (READ_ONLY)")
        connection.execute(f"ATTACH '{copy}' AS new")
        connection.execute("COPY FROM DATABASE old TO new")
    assert [word for word in GUEST.values() if word.encode() in copy.read_bytes()] == []
    assert b"(forgotten)" in copy.read_bytes()
