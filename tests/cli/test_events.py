"""Events, streams and traces on the command line: what an operator types when something looks odd."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from tests.accounts import Deposit, Open, wire
from tests.cli.typed import Fails, Twofold
from tests.synchronizing import PATIENCE, deposited, engine_at, write

from twofold import Application, metadata

OPEN = Open(account="a")


def build(url: str) -> Application:
    """Return the application whose code the commands may name."""
    app = Application(url, synchronize=False)
    wire(app)
    return app


CODE = "tests.cli.test_events:build"


@pytest.fixture(scope="module")
def bank(shared_url: str) -> str:
    """Return the address of a database with four events, an account that is opened and gets money, and another one.

    All tests share it, as no command here changes anything.
    """

    async def work() -> None:
        async with build(shared_url) as app:
            await app.commands.execute(OPEN)
            with metadata(user="ben"):
                await app.commands.execute(Deposit(account="a", amount=Decimal(5)))
            await app.commands.execute(Deposit(account="a", amount=Decimal(7)))
            await app.store.append([deposited("b")])

    asyncio.run(work())
    return shared_url


def documents(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_an_event_is_shown_by_its_position_and_by_its_id(twofold: Twofold, bank: str) -> None:
    done = twofold("events", "show", bank, "2")
    assert done.returncode == 0, done.stderr
    for word in ("Deposited", "Account-a version 2", '"amount":"5"', '"user":"ben"', "account:a", "UTC"):
        assert word in done.stdout
    [found] = documents(twofold("events", "show", bank, "2", "--json").stdout)
    assert (found["position"], found["payload"]) == (2, {"account": "a", "amount": "5"})
    assert twofold("events", "show", bank, str(found["event_id"])).stdout == done.stdout


def test_an_event_that_is_not_there_is_told_in_one_line(fails: Fails, bank: str) -> None:
    assert fails("events", "show", bank, "99") == "there is no event at position 99; the log ends at position 4"
    assert "neither a position, such as 42, nor the id" in fails("events", "show", bank, "x")
    assert "there is no event with the id" in fails("trace", bank, "0b6f2b1e-9d3c-4c55-9a39-1d1d7a9f0f11")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], [1, 2, 3, 4]),
        (["--stream", "Account-a", "--type", "Deposited"], [2, 3]),
        (["--stream-type", "Account", "--newest-first", "--limit", "2"], [3, 2]),
        (["--tag", "account:b"], [4]),
        (["--user", "ben"], [2]),
        (["--correlation", str(OPEN.command_id)], [1]),
        (["--since", "1h", "--until", "2200-01-01"], [1, 2, 3, 4]),
        (["--since", "2200-01-01T00:00:00+02:00"], []),
        (["--after", "1", "--before", "3"], [2]),
    ],
)
def test_events_are_searched_and_where_there_is_none_the_exit_code_is_1(
    twofold: Twofold, bank: str, arguments: list[str], expected: list[int]
) -> None:
    done = twofold("events", "search", bank, "--json", *arguments)
    assert [each["position"] for each in documents(done.stdout)] == expected
    assert done.returncode == (0 if expected else 1)
    shown = twofold("events", "search", bank, *arguments)
    assert shown.returncode == done.returncode
    assert ("Deposited" in shown.stdout or "Opened" in shown.stdout) == bool(expected)


def test_a_search_says_where_to_go_on(twofold: Twofold, bank: str) -> None:
    assert "go on with `--after 2`" in twofold("events", "search", bank, "--limit", "2").stdout
    assert "go on with `--before 3`" in twofold("events", "search", bank, "--limit", "2", "--newest-first").stdout
    assert "go on" not in twofold("events", "search", bank).stdout


def test_times_that_cannot_be_are_told(fails: Fails, bank: str) -> None:
    assert "--since 'yesterday' is no time; write 2026-05-31" in fails("events", "search", bank, "--since", "yesterday")


async def test_the_log_is_followed_by_another_process_until_ctrl_c(bank: str) -> None:
    command = [sys.executable, "-m", "twofold", "events", "tail", bank, "--tag", "account:a", "--last", "1", "--json"]
    tail = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert tail.stdout is not None
    async with asyncio.timeout(PATIENCE):
        assert json.loads(await tail.stdout.readline())["position"] == 3
        async with engine_at(bank) as (_, store):
            await write(store, deposited("b"))
            await write(store, deposited("a"))
        assert json.loads(await tail.stdout.readline())["position"] == 6
        tail.send_signal(signal.SIGINT)
        rest, complaint = await tail.communicate()
    assert (tail.returncode, rest, complaint) == (0, b"", b"")


def test_a_tail_ends_after_as_many_events_as_are_asked_for(twofold: Twofold, bank: str) -> None:
    done = twofold("events", "tail", bank, "--last", "10", "--limit", "2")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["1", "2"]


def test_a_stream_is_shown_with_its_events_and_its_state_at_any_version(
    twofold: Twofold, fails: Fails, bank: str
) -> None:
    done = twofold("stream", "show", bank, "Account-a", "--version", "2", "--json")
    assert [each["type"] for each in documents(done.stdout)] == ["Opened", "Deposited"]
    assert "Deposited" in twofold("stream", "show", bank, "Account-a").stdout
    state = ("stream", "show", CODE, "Account-a", "--url", bank, "--state")
    assert 'balance: "12"' in twofold(*state).stdout
    [found] = documents(twofold(*state, "--version", "2", "--json").stdout)
    assert found["state"] == {"id": "a", "version": 2, "owner": "ann", "balance": "5"}
    assert "no version 9" in fails(*state, "--version", "9")
    assert "name the application" in fails("stream", "show", bank, "Account-a", "--state")
    assert "twofold events search" in fails("stream", "show", bank, "Account-x")


def test_a_trace_is_drawn_and_told_as_json(twofold: Twofold, bank: str) -> None:
    done = twofold("trace", bank, str(OPEN.command_id))
    lines = done.stdout.splitlines()
    assert lines[0] == f"correlation {OPEN.command_id}"
    assert lines[1].endswith("command Open")
    assert "Opened" in lines[2]
    [found] = documents(twofold("trace", bank, "1", "--json").stdout)
    nodes = found["nodes"]
    assert isinstance(nodes, list)
    assert [each["depth"] for each in nodes] == [0, 1]
    assert nodes[1]["event"]["position"] == 1


def test_a_database_that_is_not_there_is_told_and_not_made(fails: Fails, tmp_path: Path) -> None:
    missing = f"sqlite:///{tmp_path}/typo.db"
    for command in (["events", "search", missing], ["events", "tail", missing], ["trace", missing, "1"],
                    ["stream", "show", missing, "a"], ["parked", "list", missing]):  # fmt: skip
        assert "there is no such file" in fails(*command)
    assert list(tmp_path.iterdir()) == []
