"""What is so on DuckDB only: one owner, decimals of 38 digits, SQL of one's own, no savepoints."""

from __future__ import annotations

import sqlite3
import sys
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from subprocess import run
from typing import Annotated, Any, ClassVar

import duckdb
import pytest
import pytest_asyncio
from tests.accounts import Balance, Balances, Deposited
from tests.synchronizing import PATIENCE, deposited, opened, running, until, write

from twofold import Application, EventStore, Index, Key, ProjectionState, ReadModelSynchronizer, SqlProjection
from twofold.engines.duckdb import DuckDbReadDatabase, ParquetSnapshots
from twofold.engines.engine import Engine
from twofold.errors import (
    InvalidProjectionError,
    LimitExceededError,
    MissingTableError,
    ReadOnlyStorageError,
    StorageError,
    StorageUnavailableError,
)
from twofold.projections.projection import OnFailure
from twofold.projections.rows.row_type import RowType
from twofold.testing.read_samples import Model, Sample


@pytest_asyncio.fixture
async def database(engine: Engine) -> DuckDbReadDatabase:
    assert isinstance(engine.read_database, DuckDbReadDatabase)
    return engine.read_database


@pytest_asyncio.fixture
async def samples(database: DuckDbReadDatabase) -> Model:
    model = Model(database)
    await model.prepare()
    return model


async def test_an_application_opens_and_closes_the_databases_of_its_projections(tmp_path: Path) -> None:
    for deposits in (1, 2):
        app = Application(f"sqlite:///{tmp_path}/log.db")
        balances = app.projections.add(Balances(), database=DuckDbReadDatabase(tmp_path / "reports.duckdb"))
        async with app:
            events = [opened("a"), deposited("a")] if deposits == 1 else [deposited("a")]
            await app.projections.wait(await write(app.store, *events), PATIENCE)
            assert await balances.get("a") == Balance("a", "ann", Decimal(deposits), deposits)


def open_in_another_process(path: Path) -> str:
    code = f"""if True:
        import asyncio
        from twofold.engines.duckdb import DuckDbReadDatabase
        from twofold.errors import StorageError
        try:
            asyncio.run(DuckDbReadDatabase({str(path)!r}).open())
        except StorageError as error:
            print(type(error).__name__, error)
    """
    return run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


async def test_a_second_process_is_told_that_a_file_has_one_owner_and_what_to_do(
    database: DuckDbReadDatabase, samples: Model, tmp_path: Path
) -> None:
    for _ in range(2):  # the question whether it is locked must not take the lock away
        said = open_in_another_process(tmp_path / "rows.duckdb")
        assert said.startswith("StorageUnavailableError")
        assert "ParquetSnapshots" in said
    await samples.write(Sample(id="a"))
    await database.close()
    assert open_in_another_process(tmp_path / "rows.duckdb") == ""


async def test_all_outlives_the_object(tmp_path: Path) -> None:
    for turn in range(3):
        database = DuckDbReadDatabase(tmp_path / "rows.duckdb")
        await database.open()
        model = Model(database)
        await model.prepare()
        assert (await model.checkpoint(), await model.ids(search="word")) == (turn, "abc"[:turn])
        await model.write(Sample(id="abc"[turn], title="words"))
        await database.close()
        await database.close()


@pytest.mark.parametrize("kind", ["damaged", "folder", "read-only"])
async def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "folder" / "rows.duckdb"
    if kind == "folder":
        path.mkdir(parents=True)
    else:
        path.parent.mkdir()
        path.write_bytes(b"no database" * 1000)
    expected: dict[str, tuple[type[StorageError], str]] = {
        "damaged": (StorageError, "not an intact DuckDB database"),
        "folder": (StorageUnavailableError, "name a file"),
        "read-only": (ReadOnlyStorageError, "read-only"),
    }
    if kind == "read-only":
        path.chmod(0o400)
        try:
            path.open("ab").close()
            pytest.skip("this user may write everywhere")
        except PermissionError:
            pass
    error, text = expected[kind]
    with pytest.raises(error, match=text):
        await DuckDbReadDatabase(path).open()


OTHER_THAN_SELECT = [
    "COPY (SELECT 42) TO '{path}'",
    "EXPORT DATABASE '{path}'",
    "ATTACH '{path}'",
    "CREATE TABLE own (name VARCHAR)",
    "DELETE FROM samples",
    "SET threads = 1",
    "PRAGMA database_size",
    "CALL pragma_version()",
    "INSTALL httpfs",
    "CHECKPOINT",
]


@pytest.mark.parametrize("sql", OTHER_THAN_SELECT)
async def test_sql_of_ones_own_is_a_select_and_writes_nothing_not_even_a_file(
    database: DuckDbReadDatabase, samples: Model, tmp_path: Path, sql: str
) -> None:
    await samples.write(Sample(id="a"))
    written = tmp_path / "written"
    await database.snapshot(tmp_path / "snapshots")
    for ask in (database.sql, ParquetSnapshots(tmp_path / "snapshots").sql):
        with pytest.raises(StorageError, match="give a SELECT"):
            await ask(sql.format(path=written))
    assert not written.exists()
    for select in ("SELECT id FROM samples", "FROM samples SELECT id", "WITH s AS (SELECT id FROM samples) FROM s"):
        assert await database.sql(select) == [{"id": "a"}]


BY_FUNCTIONS_AND_NAMES = [
    "SELECT * FROM read_text('{path}')",
    "SELECT * FROM read_csv('{path}')",
    "FROM '{path}.csv'",
    'FROM "{path}.parquet"',
    "SELECT * FROM glob('/*')",
    "SELECT * FROM enable_logging('QueryLog', storage='file', storage_path='{path}')",
    "SELECT * FROM system.main.enable_profiling()",
    "SELECT * FROM checkpoint()",
    "SELECT * FROM query('SELECT 1')",
    "SELECT * FROM query_table('samples')",
    "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "SELECT write_log('{path}')",
    "SELECT list_transform([1], lambda x : write_log('{path}'))",
    "SELECT sleep_ms(100000)",
    "SELECT 1 LIMIT (SELECT count(*) FROM read_csv('{path}'))",
    "SELECT id FROM samples ORDER BY (SELECT count(*) FROM Read_Blob('{path}'))",
    "WITH x AS (SELECT * FROM sniff_csv('{path}')) SELECT * FROM x",
    "SELECT * FROM samples POSITIONAL JOIN (FROM read_text('{path}'))",
    "SELECT 1 UNION ALL SELECT 2 FROM parquet_schema('{path}')",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM which_secret('{path}', 's3')",
]


@pytest.mark.parametrize("sql", BY_FUNCTIONS_AND_NAMES)
async def test_a_select_of_ones_own_touches_no_file_by_a_function_or_a_name(
    database: DuckDbReadDatabase, samples: Model, tmp_path: Path, sql: str
) -> None:
    await samples.write(Sample(id="a"))
    path = tmp_path / "own"
    await database.snapshot(tmp_path / "snapshots")
    for ask in (database.sql, ParquetSnapshots(tmp_path / "snapshots").sql):
        with pytest.raises(StorageError, match=r"not allowed here|would be read as a file"):
            await ask(sql.format(path=path))
    assert not path.exists()


async def test_a_select_of_ones_own_changes_nothing(database: DuckDbReadDatabase, samples: Model) -> None:
    await samples.write(Sample(id="a"))
    with pytest.raises(StorageError):
        await database.sql("WITH x AS (DELETE FROM samples RETURNING *) FROM x")
    with pytest.raises(MissingTableError):  # DuckDB would look for it among the variables of the functions that call it
        await database.sql("SELECT * FROM spelled")
    assert await database.sql("SELECT id FROM samples") == [{"id": "a"}]
    assert await database.sql(f"SELECT {'+'.join(['1'] * 100)} AS sum FROM range(2)") == [{"sum": 100}] * 2
    with pytest.raises(StorageError, match="less deeply"):
        await database.sql(f"SELECT {'+'.join(['1'] * 900)}")


async def test_new_files_can_be_read_by_their_own_user_only(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    database = DuckDbReadDatabase(folder / "rows.duckdb", settings={"wal_autocheckpoint": "1GB"})
    await database.open()
    samples = Model(database)
    await samples.prepare()
    for turn in range(3):
        await samples.write(Sample(id=str(turn)))
        await database.snapshot(folder / "snapshots")
        modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
        assert modes == {"rows.duckdb": 0o600, "rows.duckdb.wal": 0o600, "snapshots": 0o700}
    await database.close()


LOG_TABLES = (
    "twofold_log", "twofold_events", "twofold_event_tags", "twofold_tagged_types", "twofold_tag_changes",
    "twofold_snapshots", "twofold_commands", "twofold_archives",
)  # fmt: skip


def test_the_shared_tables_are_alike_on_all_engines() -> None:
    source = Path(sys.modules["twofold"].__file__ or "").parent
    files = ["engines/sqlite/migrations/0001_schema.sql", "engines/duckdb/migrations/0001_schema.sql"]
    sqlite, columnar = ((source / file).read_text() for file in files)
    with sqlite3.connect(":memory:") as connection:
        connection.executescript(sqlite)
        wanted = {
            table: [(name, bool(notnull), default, key) for _, name, _, notnull, default, key in rows]
            for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            if table not in LOG_TABLES
            if (rows := connection.execute(f"PRAGMA table_info({table})").fetchall())
        }
    connection.close()
    with duckdb.connect() as memory:
        memory.execute(columnar)
        there = {
            table: [
                (name, notnull, default, place)
                for name, notnull, default, place in memory.execute(
                    "SELECT c.column_name, NOT c.is_nullable, c.column_default,"
                    " coalesce(list_position(k.constraint_column_names, c.column_name), 0)"
                    " FROM duckdb_columns() c JOIN duckdb_constraints() k USING (table_name)"
                    " WHERE c.table_name = ? AND k.constraint_type = 'PRIMARY KEY' ORDER BY c.column_index",
                    [table],
                ).fetchall()
            ]
            for (table,) in memory.execute("SELECT table_name FROM duckdb_tables()").fetchall()
        }
    assert there == wanted
    assert len(there) == 6


@pytest.mark.parametrize("amount", ["NaN", "Infinity"])
async def test_a_decimal_that_no_engine_stores_is_refused_with_its_field(samples: Model, amount: str) -> None:
    with pytest.raises(ValueError, match=r"Sample\.amount is Decimal"):
        await samples.write(Sample(id="a", amount=Decimal(amount)))
    assert (await samples.ids(), await samples.checkpoint()) == ("", 0)


@pytest.mark.parametrize("amount", ["1e29", "0.1234567891", "-100000000000000000000000000000.5"])
async def test_a_decimal_that_does_not_fit_is_refused_and_not_rounded(samples: Model, amount: str) -> None:
    with pytest.raises(LimitExceededError):
        await samples.write(Sample(id="a", amount=Decimal(amount)))
    assert (await samples.ids(), await samples.checkpoint()) == ("", 0)


@pytest.mark.parametrize(
    "amount", ["0", "-0.00", "1E+2", "0E+40", "0.123456789", "99999999999999999999999999999", "1.0000000000000"]
)
async def test_a_decimal_comes_back_with_its_digits(samples: Model, amount: str) -> None:
    await samples.write(Sample(id="a", amount=Decimal(amount)))
    [row] = await samples.load(("a",))
    assert row.amount == Decimal(amount)
    if "E+40" not in amount and amount != "-0.00":
        assert str(row.amount) == amount


@pytest.mark.parametrize(
    ("operator", "value", "expected"),
    [("=", "0.33333333333", ""), ("!=", "0.33333333333", "ab"), ("<", "0.33333333333", "a"), (">", "1e40", ""),
     ("<", "1e40", "ab"), ("in", ("0.33333333333", "0.5"), "b")],
)  # fmt: skip
async def test_filters_may_name_decimals_that_no_row_can_hold(
    samples: Model, operator: Any, value: Any, expected: str
) -> None:
    await samples.write(Sample(id="a", amount=Decimal("0.25")), Sample(id="b", amount=Decimal("0.5")))
    wanted = tuple(map(Decimal, value)) if operator == "in" else Decimal(value)
    assert await samples.ids(where=(("amount", operator, wanted),)) == expected


async def test_sql_of_ones_own_sees_rows_as_they_were_declared(samples: Model, database: DuckDbReadDatabase) -> None:
    await samples.write(Sample(id="a", amount=Decimal("1.50"), title="red"), Sample(id="b", amount=Decimal("2.25")))
    assert await database.sql("SELECT sum(amount) AS total FROM samples WHERE id <= :last", last="b") == [
        {"total": Decimal("3.75")}
    ]
    [row] = await database.sql("SELECT * FROM samples WHERE id = 'a'")
    assert list(row) == [column.name for column in samples.table.columns]


@pytest.mark.parametrize(
    "statement",
    ["DELETE FROM samples__1", "CREATE TABLE x (y INTEGER)", "SELEC 1", "COMMIT", "COMMIT; DELETE FROM samples__1", ""],
)
async def test_sql_of_ones_own_only_reads(samples: Model, database: DuckDbReadDatabase, statement: str) -> None:
    await samples.write(Sample(id="a"))
    with pytest.raises(StorageError):
        await database.sql(statement)
    assert await database.sql("SELECT id FROM samples") == [{"id": "a"}]
    assert await samples.ids() == "a"


async def test_sql_on_what_is_not_there_says_so(database: DuckDbReadDatabase) -> None:
    with pytest.raises(MissingTableError):
        await database.sql("SELECT * FROM nothing")


@dataclass(frozen=True)
class Many:
    """A row with more of a kind that needs a column of the engine's own."""

    id: Annotated[int, Key()]
    first: Annotated[Decimal, Index()]
    second: Decimal | None


async def test_several_decimals_keep_their_own_digits(database: DuckDbReadDatabase) -> None:
    model = Model(database, RowType(Many), "many")
    await model.prepare()
    await model.prepare()
    rows = [Many(1, Decimal("1.00"), None), Many(2, Decimal("2"), Decimal("2.123"))]
    await model.write(*rows)
    assert list(map(repr, await model.select())) == list(map(repr, rows))
    [total] = await database.totals(model.table, [], ["first", "second"])
    assert list(map(str, total.sums)) == ["3.00", "2.123"]


class Deposits(SqlProjection):
    """Counts, in SQL of its own."""

    name = "deposits"
    tables = ("deposits",)
    on_failure: ClassVar[OnFailure] = "stop"

    def handles(self) -> tuple[type, ...]:
        return (Deposited,)

    def create(self, connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute(f"CREATE TABLE {self.table('deposits')} (account VARCHAR, amount DECIMAL(18, 2))")

    def apply(self, event: Deposited, connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute(f"INSERT INTO {self.table('deposits')} VALUES (?, ?)", [event.account, event.amount])


class ParkingDeposits(Deposits):
    """Wants what needs savepoints."""

    on_failure = "park"

    def apply(self, event: Deposited, connection: duckdb.DuckDBPyConnection) -> None:
        raise ArithmeticError("no")


class AlchemyDeposits(Deposits):
    """Wants a connection that there is none of."""

    connection = "sqlalchemy"


async def test_sql_projections_write_with_the_drivers_connection(
    engine: Engine, store: EventStore, database: DuckDbReadDatabase
) -> None:
    synchronizer = ReadModelSynchronizer(store, database, [Deposits()])
    await write(store, opened("a"), *(deposited("a", amount) for amount in range(5)))
    await synchronizer.run_once(PATIENCE)
    assert await database.sql("SELECT account, sum(amount) AS amount FROM deposits GROUP BY ALL") == [
        {"account": "a", "amount": Decimal("10.00")}
    ]


async def test_sql_projections_cannot_park_and_are_told_what_to_declare(
    engine: Engine, store: EventStore, database: DuckDbReadDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    synchronizer = ReadModelSynchronizer(store, database, [ParkingDeposits()])
    await write(store, opened("a"), deposited("a"))

    async def faulted() -> bool:
        [status] = await synchronizer.status()
        return status.state is ProjectionState.FAULTED and 'on_failure = "stop"' in (status.error or "")

    async with running(synchronizer):
        await until(faulted)


async def test_sqlalchemys_connection_is_refused(store: EventStore, database: DuckDbReadDatabase) -> None:
    with pytest.raises(InvalidProjectionError, match="driver"):
        await ReadModelSynchronizer(store, database, [AlchemyDeposits()]).prepare()


async def test_a_database_that_is_not_open_says_so(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="open"):
        await DuckDbReadDatabase(tmp_path / "other.duckdb").query("SELECT 1")
