"""The command line for operators, as they type it."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from tests.accounts import Balances, Open, wire
from tests.cli.typed import Fails, Twofold

from twofold import Application
from twofold.engines.sqlite import SqliteDatabase, SqliteEventLog
from twofold.testing.samples import Revised, append_of, new_command, new_event


async def write(path: Path, events: int = 30) -> None:
    log = SqliteEventLog(SqliteDatabase(path))
    await log.open()
    for n in range(0, events, 3):
        new = (new_event(f"Note-{n % 4}", "x"), new_event("", "x", "y", kind=Revised), new_event("Note-9"))
        await log.append(append_of(*new, command=new_command()))
    await log.close()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.db"
    asyncio.run(write(path))
    return path


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help_names_every_command(twofold: Twofold, arguments: list[str]) -> None:
    done = twofold(*arguments)
    assert done.returncode == 0
    for word in (
        "status",
        "migrate",
        "verify",
        "copy",
        "export",
        "import",
        "projections",
        "rebuild",
        "roll-back",
        "sqlite:///relative/path.db",
        "exit code",
    ):
        assert word in done.stdout


@pytest.mark.parametrize("command", ["status", "migrate", "verify", "copy", "export", "import"])
def test_each_command_explains_itself(twofold: Twofold, command: str) -> None:
    done = twofold(command, "--help")
    assert done.returncode == 0
    assert "sqlite:///orders.db" in done.stdout


@pytest.mark.parametrize("arguments", [["stats"], ["status"], ["copy", "sqlite:///a.db"], ["verify", "a", "b"]])
def test_a_command_that_is_not_understood_is_one_line_with_exit_code_2(fails: Fails, arguments: list[str]) -> None:
    assert fails(*arguments, code=2)


@pytest.mark.parametrize("command", ["status", "verify", "migrate"])
def test_a_url_that_names_no_engine_is_told(fails: Fails, command: str) -> None:
    assert "no engine for 'mysql://there'" in fails(command, "mysql://there")


@pytest.mark.parametrize("command", ["status", "verify"])
def test_a_database_that_is_not_there_is_told_and_not_made(fails: Fails, command: str, tmp_path: Path) -> None:
    assert "there is no such file" in fails(command, f"sqlite:///{tmp_path}/typo.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["status", "verify", "migrate"])
def test_a_file_that_is_no_database_is_told(fails: Fails, command: str, tmp_path: Path) -> None:
    (tmp_path / "file.db").write_text("no database " * 100)
    assert "is not an intact SQLite database" in fails(command, f"sqlite:///{tmp_path}/file.db")


@pytest.mark.parametrize("command", ["status", "verify"])
def test_a_database_that_is_not_up_to_date_is_left_for_migrate(
    fails: Fails, twofold: Twofold, command: str, source: Path
) -> None:
    with sqlite3.connect(source) as connection:
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            connection.execute(f"DROP TABLE {table}")
    connection.close()
    url = f"sqlite:///{source}"
    assert "is at migration 0 of 1; run `twofold migrate`" in fails(command, url)
    assert "is at migration 1, up to date" in twofold("migrate", url).stdout
    assert twofold(command, url).returncode == 0


def test_migrate_makes_a_new_database(twofold: Twofold, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/new/orders.db"
    assert twofold("migrate", url).returncode == 0
    assert "all 0 events are intact" in twofold("verify", url).stdout


def test_a_database_of_a_newer_release_is_refused(fails: Fails, source: Path) -> None:
    with sqlite3.connect(source) as connection:
        connection.execute("INSERT INTO twofold_migrations VALUES (99, 'later')")
    connection.close()
    for command in ("status", "verify", "migrate"):
        assert "upgrade twofold" in fails(command, f"sqlite:///{source}")


def test_status_shows_the_head_the_types_and_the_size(twofold: Twofold, source: Path) -> None:
    done = twofold("status", f"sqlite:///{source}")
    assert done.returncode == 0
    lines = [line.replace("│", " ").split() for line in done.stdout.splitlines()]
    for expected in (["head", "30"], ["commands", "10"], ["migration", "1"], ["Noted", "20"], ["Revised", "10"]):
        assert expected in lines
    assert any(line[0] == "size" and line[2] == "kB" for line in lines if len(line) == 3)


async def test_status_shows_how_far_each_projection_has_come(twofold: Twofold, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/accounts.db"
    async with Application(url) as app:
        wire(app)
        app.projections.add(Balances())
    async with Application(url) as app:
        wire(app)
        app.projections.add(Balances())
        for n in range(3):
            await app.commands.dispatch(Open(account=f"a{n}"))
    done = await asyncio.to_thread(twofold, "status", url)
    assert done.returncode == 0, done.stderr
    assert "Opened" in done.stdout
    assert ["projection", "version", "checkpoint", "behind"] in [
        line.replace("┃", " ").split() for line in done.stdout.splitlines()
    ]
    assert "balances" in done.stdout


def test_verify_says_that_all_is_well(twofold: Twofold, source: Path) -> None:
    done = twofold("verify", f"sqlite:///{source}")
    assert (done.returncode, done.stdout) == (0, "all 30 events are intact\n")


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        ("UPDATE twofold_events SET payload = replace(payload, '0', '5') WHERE position = 7", "event 7 does not match"),
        ("DELETE FROM twofold_events WHERE position = 7", "event 7 is missing"),
        ("DELETE FROM twofold_event_tags WHERE position = 7", "event 7 lacks an entry in the index of tags"),
        ("INSERT INTO twofold_event_tags VALUES ('forged', 7)", "the index of tags has 31 entries"),
        ("DELETE FROM twofold_events WHERE position = 30", "beyond the end of the log"),
    ],
)
def test_verify_tells_each_damage_with_exit_code_1(twofold: Twofold, source: Path, damage: str, complaint: str) -> None:
    with sqlite3.connect(source) as connection:
        connection.execute("DROP TRIGGER twofold_events_refuse_update")
        connection.execute("DROP TRIGGER twofold_events_refuse_delete")
        connection.execute(damage)
    connection.close()
    done = twofold("verify", f"sqlite:///{source}")
    assert (done.returncode, done.stdout) == (1, "")
    assert all(line.startswith("twofold: ") for line in done.stderr.splitlines())
    assert complaint in done.stderr


def test_copy_makes_a_copy_and_a_second_one_finds_it(twofold: Twofold, source: Path, tmp_path: Path) -> None:
    urls = f"sqlite:///{source}", f"sqlite:///{tmp_path}/target.db"
    done = twofold("copy", *urls)
    assert done.returncode == 0, done.stderr
    assert "copied 30 events, 0 were there already; 10 commands" in done.stdout
    again = twofold("copy", *urls)
    assert "copied 0 events, 30 were there already" in again.stdout
    assert done.stdout.splitlines()[1] == again.stdout.splitlines()[1], "the digests are alike"
    assert "all 30 events are intact" in twofold("verify", urls[1]).stdout


def test_copy_refuses_a_target_with_other_events(fails: Fails, source: Path, tmp_path: Path) -> None:
    asyncio.run(write(tmp_path / "target.db", 3))
    complaint = fails("copy", f"sqlite:///{source}", f"sqlite:///{tmp_path}/target.db")
    assert "the logs differ at position 1" in complaint


def test_copy_refuses_to_copy_onto_itself(fails: Fails, source: Path) -> None:
    assert "the same database" in fails("copy", f"sqlite:///{source}", f"sqlite:///{source}")


def test_copy_does_not_make_a_source_that_is_not_there(fails: Fails, tmp_path: Path) -> None:
    assert "there is no such file" in fails("copy", f"sqlite:///{tmp_path}/a.db", f"sqlite:///{tmp_path}/b.db")
    assert list(tmp_path.iterdir()) == []


COPY_AND_DIE = """
import asyncio, os, signal, sys
from twofold.log.copy import copy_log
from twofold.engines.engine import connect

def die(stage, position, end):
    if stage == "copying" and position >= 4_000:
        print(position, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    source, target = connect(sys.argv[1]).log, connect(sys.argv[2]).log
    await source.open()
    await target.open()
    await copy_log(source, target, progress=die)

asyncio.run(main())
"""


def test_a_copy_that_is_killed_goes_on_when_it_is_run_again(twofold: Twofold, tmp_path: Path) -> None:
    asyncio.run(write(tmp_path / "source.db", 9_000))
    urls = f"sqlite:///{tmp_path}/source.db", f"sqlite:///{tmp_path}/target.db"
    killed = subprocess.run([sys.executable, "-c", COPY_AND_DIE, *urls], stdout=subprocess.PIPE, text=True, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    done = twofold("copy", *urls)
    there = int(killed.stdout)
    assert f"copied {9_000 - there:,} events, {there:,} were there already; 3,000 commands" in done.stdout
    assert "all 9,000 events are intact" in twofold("verify", urls[1]).stdout


def test_without_its_packages_the_command_says_what_to_install() -> None:
    program = "import sys; sys.modules['cyclopts'] = None; from twofold.__main__ import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == "twofold: the command line needs its extra: pip install 'twofold[cli]'\n"
