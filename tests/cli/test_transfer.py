"""`twofold export | import`: what an operator types, and processes that are killed in between."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.typed import Fails, Twofold
from tests.log.transfer.logs import contents, fill

from twofold.engines.engine import connect
from twofold.engines.sqlite import SqliteDatabase, SqliteEventLog

EVENTS = 300
PATIENCE = 120


@pytest.fixture
def source(tmp_path: Path) -> str:
    async def write() -> None:
        log = SqliteEventLog(SqliteDatabase(tmp_path / "source.db"))
        await log.open()
        await fill(log, EVENTS)
        await log.close()

    asyncio.run(write())
    return f"sqlite:///{tmp_path}/source.db"


def held(url: str) -> object:
    """Return all that a database holds."""

    async def read() -> object:
        log = connect(url).log
        await log.open()
        try:
            return await contents(log)
        finally:
            await log.close()

    return asyncio.run(read())


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_log_goes_to_a_file_and_into_another_database(
    twofold: Twofold, fails: Fails, source: str, tmp_path: Path, suffix: str
) -> None:
    file, target = f"{tmp_path}/log.{suffix}", f"sqlite:///{tmp_path}/target.db"
    assert "holds 300 events up to position 300; " in twofold("export", source, file).stdout
    assert "it exists already" in fails("export", source, file)
    assert "imported 300 events, 0 were there already; " in twofold("import", file, target).stdout
    assert "imported 0 events, 300 were there already; " in twofold("import", file, target).stdout
    assert held(target) == held(source)
    assert "all 300 events are intact" in twofold("verify", target).stdout


def test_what_was_done_is_told_to_programs(twofold: Twofold, source: str, tmp_path: Path) -> None:
    file, target = f"{tmp_path}/log.jsonl", f"sqlite:///{tmp_path}/target.db"
    told = json.loads(twofold("export", source, file, "--from", "101", "--to", "200", "--json").stdout)
    assert told == {"events": 100, "commands": told["commands"], "already": 0, "end": 200}
    told = json.loads(twofold("import", file, target, "--json").stdout)
    assert told == {"events": 100, "commands": told["commands"], "already": 0, "last": 100}


def test_filters_are_types_and_tags(twofold: Twofold, source: str, tmp_path: Path) -> None:
    wanted = ["--type", "Noted", "--type", "Revised", "--tag", "topic:t1", "--tag", "topic:é"]
    assert "holds 60 events" in twofold("export", source, f"{tmp_path}/a.jsonl", *wanted).stdout
    assert "holds 0 events" in twofold("export", source, f"{tmp_path}/b.jsonl", "--type", "Unheard").stdout


def test_what_cannot_be_is_refused_in_one_line(fails: Fails, source: str, tmp_path: Path) -> None:
    (tmp_path / "orders.jsonl").write_text('{"id": 1}\n')
    (tmp_path / "orders.parquet").write_bytes(b"PAR1")
    target = f"sqlite:///{tmp_path}/target.db"
    assert "it is no export of a log" in fails("import", f"{tmp_path}/orders.jsonl", target)
    assert "is a folder, and this is none" in fails("import", f"{tmp_path}/orders.parquet", target)
    assert "No such file" in fails("import", f"{tmp_path}/nothing.jsonl", target)
    assert "let it end in .jsonl or .parquet" in fails("export", source, f"{tmp_path}/log.csv")
    assert "the log ends at position 300" in fails("export", source, f"{tmp_path}/log.jsonl", "--to", "301")
    assert "`--from` is a position" in fails("export", source, f"{tmp_path}/log.jsonl", "--from", "0")
    assert "there is no such file" in fails("export", f"sqlite:///{tmp_path}/none.db", f"{tmp_path}/log.jsonl")
    assert not (tmp_path / "log.jsonl.part").exists()


def test_without_duckdb_parquet_says_what_to_install(source: str, tmp_path: Path) -> None:
    program = "import sys; sys.modules['duckdb'] = None; from twofold.__main__ import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "export", source, f"{tmp_path}/log.parquet"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (1, "twofold: Parquet needs DuckDB: pip install 'twofold[duckdb]'\n")


DIE = """
import asyncio, os, signal, sys
from pathlib import Path
from twofold import EventStore, export_log, import_log
from twofold.engines.engine import connect
from tests.log.transfer.logs import SMALL

what, url, file, last = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])

def die(stage, position, end):
    if position >= last:
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    log = connect(url).log
    await log.open()
    await {"export": export_log, "import": import_log}[what](EventStore(log, options=SMALL), file, progress=die)

asyncio.run(main())
"""


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_an_export_and_an_import_that_are_killed_go_on_when_they_are_run_again(
    twofold: Twofold, source: str, tmp_path: Path, suffix: str
) -> None:
    file, target = f"{tmp_path}/log.{suffix}", f"sqlite:///{tmp_path}/target.db"
    for what, url, position in (("export", source, 100), ("import", target, 40), ("import", target, 200)):
        if what == "import" and not Path(file).exists():
            assert "of them were there already" in twofold("export", source, file).stdout
        command = [sys.executable, "-c", DIE, what, url, file, str(position)]
        killed = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert Path(file).exists() == (what == "import")
    assert "were there already" in twofold("import", file, target).stdout
    assert held(target) == held(source)
    assert sorted(each.name for each in tmp_path.glob("log.*")) == [f"log.{suffix}"]
