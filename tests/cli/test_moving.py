"""`twofold copy --transform`: what an operator types, and a process that is killed in between."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.accounts import Opened
from tests.cli.typed import Fails, Twofold
from tests.log.transfer.logs import contents, fill

from twofold import Application, Reaction
from twofold.engines.engine import connect
from twofold.engines.sqlite import SqliteDatabase, SqliteEventLog

EVENTS = 300
PATIENCE = 120
TRANSFORM = """
from dataclasses import replace

def transform(source):
    event = source.event
    if "topic:t0" in event.tags:
        return
    if event.type == "Revised":
        yield replace(event, type="Approved", data={})
    yield replace(event, tags=(*event.tags, "shelf:1"))
"""


@pytest.fixture
def source(tmp_path: Path) -> str:
    async def write() -> None:
        log = SqliteEventLog(SqliteDatabase(tmp_path / "source.db"))
        await log.open()
        await fill(log, EVENTS)
        await log.close()

    asyncio.run(write())
    return f"sqlite:///{tmp_path}/source.db"


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "change.py"
    path.write_text(TRANSFORM)
    return str(path)


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


def test_a_preview_shows_what_a_copy_then_does(twofold: Twofold, source: str, file: str, tmp_path: Path) -> None:
    target = f"sqlite:///{tmp_path}/target.db"
    said = twofold("copy", source, target, "--transform", file, "--dry-run").stdout
    assert "300 events would become 274; nothing was written" in said
    assert "  is dropped" in said
    assert "  is   Approved of Note-" in said
    assert not (tmp_path / "target.db").exists()
    said = twofold("copy", source, target, "--transform", file).stdout
    assert "300 events became 274, 0 of them were there already" in said
    assert "stay behind with all their events" in said
    assert "what was written was read again and is alike, with digest" in said
    assert "all 274 events are intact" in twofold("verify", target).stdout


def test_what_was_done_is_told_to_programs(twofold: Twofold, source: str, file: str, tmp_path: Path) -> None:
    target = f"sqlite:///{tmp_path}/target.db"
    preview = json.loads(twofold("copy", source, target, "--transform", file, "--dry-run", "--json").stdout)
    told = json.loads(twofold("copy", source, target, "--transform", file, "--json").stdout)
    assert (told["read"], told["written"], told["already"], len(told["digest"])) == (300, 274, 0, 32)
    assert preview == told | {"digest": ""}
    assert told["types"]["Revised"]["into"]["Approved"] == told["types"]["Revised"]["split"] > 0
    told = json.loads(twofold("copy", source, f"sqlite:///{tmp_path}/same.db", "--json").stdout)
    assert (told["events"], told["already"], told["reactions"]) == (300, 0, [])


def test_what_cannot_be_is_refused_in_one_line(fails: Fails, source: str, tmp_path: Path) -> None:
    target, path = f"sqlite:///{tmp_path}/target.db", tmp_path / "change.py"
    assert "name its file with `--transform`" in fails("copy", source, target, "--dry-run")
    assert "No such file" in fails("copy", source, target, "--transform", str(path))
    for text, said in (
        ("", "has no function transform"),
        ("import nothing_such", "cannot be run: ModuleNotFoundError"),
        ("def transform(:", "cannot be run: SyntaxError"),
        ("transform = 5", "has no function transform"),
        ("def transform(source): return source.event.data['price']", "the transform failed on event 1 ("),
    ):
        path.write_text(text)
        assert said in fails("copy", source, target, "--transform", str(path))


class Mails(Reaction):
    name = "mails"

    def __init__(self) -> None:
        self.sent: list[str] = []

    def handles(self) -> tuple[type, ...]:
        return (Opened,)

    async def apply(self, event: Opened) -> None:
        self.sent.append(event.account)


def test_a_reaction_that_has_not_done_all_is_named(twofold: Twofold, file: str, tmp_path: Path) -> None:
    source = f"sqlite:///{tmp_path}/shop.db"

    async def work(accounts: str, *, resume: bool) -> None:
        app, mails = Application(source), Mails()
        app.projections.add(mails)
        async with app:
            if resume:
                await app.projections.control("mails").resume()
            for account in accounts:
                await app.store.append([Opened(account=account)])
            await app.projections.wait(await app.store.head(), PATIENCE)
            if not resume:
                await app.projections.control("mails").pause()
                await app.store.append([Opened(account="z")])

    asyncio.run(work("ab", resume=False))
    said = twofold("copy", source, f"sqlite:///{tmp_path}/a.db", "--transform", file).stdout
    assert "the reaction mails stands at position 2 of 3: on the target it begins behind what was copied" in said
    told = json.loads(twofold("copy", source, f"sqlite:///{tmp_path}/a.db", "--transform", file, "--json").stdout)
    assert [each[:18] for each in told["late_reactions"]] == ["the reaction mails"]
    asyncio.run(work("", resume=True))
    assert "the reaction" not in twofold("copy", source, f"sqlite:///{tmp_path}/a.db", "--transform", file).stdout


KILLED = """
import asyncio, os, signal, sys
from twofold import EventStore, transform_log
from twofold.engines.engine import connect
from twofold.log.moving.loading import load_transform
from tests.log.transfer.logs import SMALL

source, target, file, last = sys.argv[1:4] + [int(sys.argv[4])]

def die(stage, position, end):
    if position >= last:
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    logs = connect(source).log, connect(target).log
    for log in logs:
        await log.open()
    stores = [EventStore(log, options=SMALL) for log in logs]
    await transform_log(*stores, load_transform(file), progress=die)

asyncio.run(main())
"""


def test_a_copy_that_is_killed_goes_on_when_it_is_run_again(
    twofold: Twofold, source: str, file: str, tmp_path: Path
) -> None:
    target, whole = f"sqlite:///{tmp_path}/target.db", f"sqlite:///{tmp_path}/whole.db"
    for position in (60, 200):
        command = [sys.executable, "-c", KILLED, source, target, file, str(position)]
        killed = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    told = json.loads(twofold("copy", source, target, "--transform", file, "--json").stdout)
    assert 0 < told["already"] < told["written"] == 274
    twofold("copy", source, whole, "--transform", file)
    assert held(target) == held(whole)
