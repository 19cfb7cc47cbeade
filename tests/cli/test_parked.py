"""Parked events on the command line, without the code that failed on them: grouped, tried again, skipped."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal

import pytest
from tests.accounts import Balance, Balances
from tests.cli.failing_projections import Fussy, balance, project
from tests.cli.typed import Fails, Twofold
from tests.synchronizing import PATIENCE, engine_at, opened, quick, running, until

from twofold import ReadModelSynchronizer


@pytest.mark.parametrize("command", ["list", "show", "retry", "skip", "skip-row", "skipped"])
def test_each_command_explains_itself(twofold: Twofold, command: str) -> None:
    done = twofold("parked", command, "--help")
    assert done.returncode == 0
    assert "sqlite:///orders.db" in done.stdout
    assert command in twofold("parked", "--help").stdout


def test_parked_events_are_grouped_by_their_cause_with_exit_code_1(twofold: Twofold, fussy: str) -> None:
    done = twofold("parked", "list", fussy)
    assert done.returncode == 1
    line = next(each for each in done.stdout.splitlines() if "ArithmeticError" in each)
    cells = [each.strip() for each in line.strip("│").split("│")]
    assert cells[:4] == ["balances", "1", "1", "ArithmeticError"]
    assert cells[4].startswith("failing_projections.py:")
    assert cells[4].endswith(" in deposited")
    assert cells[5:7] == ["3", "3"]
    [document] = map(json.loads, twofold("parked", "list", fussy, "--json").stdout.splitlines())
    assert (document["projection"], document["group"]["failed"], document["group"]["waiting"]) == ("balances", 1, 1)


def test_where_nothing_is_parked_the_exit_code_is_0(twofold: Twofold, url: str) -> None:
    project(url, Balances(), opened("a"))
    done = twofold("parked", "list", url)
    assert (done.returncode, done.stdout) == (0, "nothing is parked\n")
    assert twofold("parked", "list", url, "--json").stdout == ""


async def test_a_retry_waits_until_a_worker_has_tried_and_says_what_came_of_it(twofold: Twofold, fussy: str) -> None:
    for projection, code, left in ((Fussy(), 1, 2), (Balances(), 0, 0)):
        async with engine_at(fussy) as (engine, store):
            synchronizer = ReadModelSynchronizer(store, engine.read_database, options=quick(lease=1.0))
            synchronizer.add(projection)
            async with running(synchronizer):
                retry = ("parked", "retry", fussy, "balances", "--wait", str(PATIENCE), "--json")
                done = await asyncio.to_thread(twofold, *retry)
        assert done.returncode == code, done
        assert json.loads(done.stdout) == {"projection": "balances", "asked": 2, "untried": 0, "parked": left}


def test_a_retry_that_no_worker_takes_says_so(twofold: Twofold, fussy: str) -> None:
    done = twofold("parked", "retry", fussy, "balances", "--wait", "0.1")
    assert done.returncode == 1
    assert done.stdout == "2 events were not tried within 0.1 s; run a worker that has the code of balances\n"


def test_what_cannot_be_undone_is_confirmed_first(fails: Fails, twofold: Twofold, fussy: str) -> None:
    for arguments in (["skip", fussy, "balances", "3"], ["skip-row", fussy, "balances", "a"]):
        assert "add --yes" in fails("parked", *arguments, "--reason", "x")
    assert twofold("parked", "skipped", fussy, "balances").stdout == "nothing of balances is skipped\n"


def test_parked_events_are_shown_with_their_cause_and_on_demand_their_traceback(twofold: Twofold, fussy: str) -> None:
    short, long = (
        twofold("parked", "show", fussy, "balances"),
        twofold("parked", "show", fussy, "balances", "--traceback"),
    )
    assert short.returncode == 0
    for word in ('["a"]', "ArithmeticError", "unlucky", "waits"):
        assert word in short.stdout
    assert "Traceback" not in short.stdout
    assert "event 3:\nTraceback (most recent call last):" in long.stdout


@pytest.mark.parametrize("key", [[], ["--key", "a"], ["--key", '["a"]']])
def test_parked_events_are_tried_again_once_the_code_is_mended(twofold: Twofold, fussy: str, key: list[str]) -> None:
    done = twofold("parked", "retry", fussy, "balances", *key)
    assert done.stdout == "2 events are tried again, as soon as a worker has the code\n"

    async def none_parked(synchronizer: ReadModelSynchronizer) -> None:
        async def gone() -> bool:
            return not await synchronizer.control("balances").parked()

        await until(gone)

    project(fussy, Balances(), then=none_parked)
    assert balance(fussy, "a") == Balance("a", "ann", Decimal(18), 2)


def test_an_event_that_is_skipped_lets_the_later_ones_in_and_the_reason_is_kept(twofold: Twofold, fussy: str) -> None:
    done = twofold("parked", "skip", fussy, "balances", "3", "--reason", "booked twice", "--yes")
    assert done.stdout == "balances skips event 3\n"

    async def none_parked(synchronizer: ReadModelSynchronizer) -> None:
        async def gone() -> bool:
            return not await synchronizer.control("balances").parked()

        await until(gone)

    project(fussy, Fussy(), then=none_parked)
    assert balance(fussy, "a") == Balance("a", "ann", Decimal(5), 1)
    assert "booked twice" in twofold("parked", "skipped", fussy, "balances").stdout


def test_the_parked_events_of_a_row_are_skipped(twofold: Twofold, fails: Fails, fussy: str) -> None:
    done = twofold("parked", "skip-row", fussy, "balances", "a", "--reason", "a test account", "--yes")
    assert done.stdout == 'balances skips 2 events of ["a"]\n'
    assert twofold("parked", "show", fussy, "balances").stdout == "nothing of balances is parked\n"
    again = fails("parked", "skip-row", fussy, "balances", "a", "--reason", "a test account", "--yes")
    assert again == 'nothing of balances is parked under ["a"]'
    assert fails("parked", "retry", fussy, "balances") == "nothing of balances is parked"


@pytest.mark.parametrize(
    "arguments",
    [["show"], ["retry"], ["skip", "1", "--reason", "x", "--yes"], ["skip-row", "a", "--reason", "x", "--yes"]],
)
def test_a_projection_that_is_not_there_is_told_in_one_line(fails: Fails, fussy: str, arguments: list[str]) -> None:
    complaint = fails("parked", arguments[0], fussy, "balance", *arguments[1:])
    assert complaint == "there is no projection 'balance'; there are: balances"


def test_reasons_are_needed(fails: Fails, fussy: str) -> None:
    assert "say why" in fails("parked", "skip", fussy, "balances", "3", "--reason", " ", "--yes")
    assert "--reason" in fails("parked", "skip", fussy, "balances", "3", "--yes", code=2)
