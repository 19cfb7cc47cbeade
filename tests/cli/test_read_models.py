"""Looking after read models from the command line, without the code that builds them."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.accounts import Balance, Balances, Deposited, Opened
from tests.cli.failing_projections import balance, project
from tests.cli.typed import Fails, Twofold
from tests.synchronizing import PATIENCE, QUICK, deposited, engine_at, opened, running, until, write

from twofold import Application, Reaction, ReadModelSynchronizer, SqlProjection


class Totals(SqlProjection):
    name = "totals"
    tables = ("totals",)

    def handles(self) -> tuple[type, ...]:
        return (Opened,)

    def create(self, connection: Any) -> Any:
        return connection.execute(f"CREATE TABLE {self.table('totals')} (number bigint)")

    def apply(self, event: Opened, connection: Any) -> Any:
        return connection.execute(f"INSERT INTO {self.table('totals')} VALUES (1)")


def cells(text: str) -> list[list[str]]:
    return [line.replace("│", " ").replace("┃", " ").split() for line in text.splitlines()]


@pytest.mark.parametrize(
    "command",
    [
        "pause", "resume", "scale", "set-position", "rewind", "drop-previous",
    ],
)  # fmt: skip
def test_each_command_explains_itself(twofold: Twofold, command: str) -> None:
    done = twofold("projections", command, "--help")
    assert done.returncode == 0
    assert "sqlite:///orders.db" in done.stdout
    assert command in twofold("projections", "--help").stdout


def test_the_status_shows_where_each_read_model_stands(twofold: Twofold, url: str) -> None:
    project(url, Balances(), opened("a"), deposited("a"))

    async def append() -> None:
        async with engine_at(url) as (_, store):
            await write(store, deposited("a"))

    asyncio.run(append())
    done = twofold("projections", url)
    assert done.returncode == 0, done.stderr
    [row] = [each for each in cells(done.stdout) if each[:2] == ["balances", "detached"]]
    assert (row[:5], row[6:]) == (["balances", "detached", "1", "2", "1"], ["s", "0"])
    assert float(row[5]) >= 0
    assert ["balances", "1", "0-255", "2", "none"] in cells(done.stdout)


def test_the_status_of_a_database_without_read_models_says_so(twofold: Twofold, url: str) -> None:
    twofold("migrate", url)
    done = twofold("projections", url)
    assert (done.returncode, done.stdout) == (0, f"there are no read models in {url}\n")


def test_an_inline_read_model_that_no_worker_has_is_red_only_if_appends_did_not_bring_it_up(
    twofold: Twofold, url: str
) -> None:
    async def append_and_wait_an_hour(*, inline: bool) -> None:
        app = Application(url, synchronize=False)
        if inline:
            app.projections.add(Balances(), kind="inline")
        async with app:
            await write(app.store, opened("a") if inline else deposited("a"))
        async with engine_at(url) as (engine, _), engine.read_database.transaction() as transaction:
            hour = {"hour": 3600 * 10**6}
            await transaction.run(
                "UPDATE twofold_checkpoints SET moved_at = moved_at - :hour, leased_until = leased_until - :hour",
                **hour,
            )
            await transaction.run("UPDATE twofold_projections SET made_at = made_at - :hour", **hour)

    asyncio.run(append_and_wait_an_hour(inline=True))
    done = twofold("projections", url)
    assert done.returncode == 0, done.stdout
    assert any(each[:4] == ["balances", "live", "1", "1"] for each in cells(done.stdout))
    asyncio.run(append_and_wait_an_hour(inline=False))
    done = twofold("projections", url)
    assert done.returncode == 1
    assert "balances: no worker has worked on it for" in done.stdout


def test_who_drives_a_read_model_is_what_its_code_says_now(twofold: Twofold, url: str) -> None:
    async def kind_of(kind: Any) -> str:
        app = Application(url, synchronize=False)
        app.projections.add(Balances(), kind=kind)
        async with app:
            pass
        async with engine_at(url) as (engine, store):
            [status] = await ReadModelSynchronizer(store, engine.read_database).status()
        return status.kind

    for kind in ("asynchronous", "inline", "asynchronous"):
        assert asyncio.run(kind_of(kind)) == kind


class Mails(Reaction):
    name = "mails"

    def handles(self) -> tuple[type, ...]:
        return (Deposited,)

    async def apply(self, event: Deposited) -> None:
        pass


def test_a_reaction_is_set_back_and_a_keyed_read_model_is_not(twofold: Twofold, fails: Fails, url: str) -> None:
    project(url, Mails(), opened("a"), *(deposited("a") for _ in range(3)))
    done = twofold("projections", "rewind", url, "mails", "--to", "2", "--yes")
    assert (done.returncode, done.stdout) == (0, "mails goes on behind 2\n")
    assert any(each[:1] == ["mails"] and each[3:5] == ["2", "2"] for each in cells(twofold("projections", url).stdout))
    assert "the log ends at 4, before position 9" in fails("projections", "rewind", url, "mails", "--to", "9", "--yes")
    project(url, Balances())
    assert "`twofold rebuild` builds them again" in fails(
        "projections", "rewind", url, "balances", "--to", "0", "--yes"
    )


async def test_the_status_names_who_works_on_it(twofold: Twofold, url: str) -> None:
    async with engine_at(url) as (engine, store):
        synchronizer = ReadModelSynchronizer(store, engine.read_database, [Balances()], options=QUICK)
        position = await write(store, opened("a"))
        async with running(synchronizer):
            await synchronizer.wait(position, PATIENCE)
            [segment] = (await synchronizer.status())[0].segments
            done = await asyncio.to_thread(twofold, "projections", url)
    assert segment.worker in done.stdout
    assert "live" in done.stdout


def test_what_is_wrong_is_told_with_exit_code_1(twofold: Twofold, fussy: str) -> None:
    done = twofold("projections", fussy)
    assert done.returncode == 1
    assert "balances: 2 events are parked\n" in done.stdout


def test_a_read_model_is_paused_divided_set_elsewhere_and_resumed(twofold: Twofold, url: str) -> None:
    project(url, Balances(), opened("a"), deposited("a"))
    for command in (["pause"], ["scale"], ["set-position"], ["resume"]):
        number = {"scale": ["4"], "set-position": ["1", "--yes"]}.get(command[0], [])
        done = twofold("projections", *command, url, "balances", *number)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("balances ")

    async def divided(synchronizer: ReadModelSynchronizer) -> None:
        async def four() -> bool:
            return len((await synchronizer.status())[0].segments) == 4

        await until(four)

    project(url, Balances(), then=divided)
    assert balance(url, "a") == Balance("a", "ann", Decimal(2), 2), (
        "the second event was folded twice, as was asked for"
    )


def test_the_read_model_that_a_rebuild_replaced_is_dropped(twofold: Twofold, url: str) -> None:
    async def rebuild(synchronizer: ReadModelSynchronizer) -> None:
        await synchronizer.rebuild_projection("balances")

    project(url, Balances(), opened("a"), then=rebuild)
    assert (
        twofold("projections", "drop-previous", url, "balances", "--yes").stdout
        == "the earlier read model balances is dropped\n"
    )
    assert (
        twofold("projections", "drop-previous", url, "balances", "--yes").stdout
        == "no earlier read model balances is kept\n"
    )
    assert balance(url, "a") == Balance("a", "ann")

    async def tables() -> list[str]:
        async with engine_at(url) as (engine, _), engine.read_database.transaction() as transaction:
            return [name for name in await transaction.names() if name.startswith("balances")]

    assert "balances__1" not in asyncio.run(tables())


def test_the_tables_of_a_projection_by_sql_are_dropped_by_its_code_only(fails: Fails, url: str) -> None:
    async def rebuild(synchronizer: ReadModelSynchronizer) -> None:
        await synchronizer.rebuild_projection("totals")

    project(url, Totals(), opened("a"), then=rebuild)
    assert "call control('totals').drop_previous()" in fails("projections", "drop-previous", url, "totals", "--yes")


@pytest.mark.parametrize(
    "arguments",
    [["pause"], ["resume"], ["scale", "2"], ["set-position", "0", "--yes"], ["drop-previous", "--yes"]],
)  # fmt: skip
def test_a_projection_that_is_not_there_is_told_in_one_line(fails: Fails, fussy: str, arguments: list[str]) -> None:
    complaint = fails("projections", arguments[0], fussy, "balance", *arguments[1:])
    assert complaint == "there is no projection 'balance'; there are: balances"


def test_numbers_and_reasons_that_cannot_be_are_told_in_one_line(fails: Fails, fussy: str) -> None:
    assert "1 to 256 segments, got 0" in fails("projections", "scale", fussy, "balances", "0")
    assert "positions begin at 1" in fails("projections", "set-position", fussy, "balances", "--yes", "--", "-1")


def test_a_database_that_is_not_there_is_told_and_not_made(fails: Fails, tmp_path: Path) -> None:
    for arguments in ([], ["pause", "x"]):
        command, name = arguments[:1], arguments[1:]
        complaint = fails("projections", *command, f"sqlite:///{tmp_path}/typo.db", *name)
        assert "there is no such file" in complaint
    assert list(tmp_path.iterdir()) == []
