"""What is declared and never used, or asked for and never there, is found with a code that stays what it is."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from tests.checks.hotel.app import build
from tests.checks.hotel.domain import Booked
from tests.docs import checks as page

from twofold import Application, Event
from twofold.checks.findings import CODES
from twofold.cli import run
from twofold.engines.engine import Engine

Check = Callable[..., tuple[int, str]]
HOTEL = ["tests.checks.hotel"]
EXPECTED = [
    ("TF001", "Forget", "error"),
    ("TF002", "GetNothing", "error"),
    ("TF003", "Printed", "warning"),
    ("TF004", "tests.checks.hotel.domain.stays", "error"),
    ("TF005", "ignored", "warning"),
    ("TF006", "GetRoom", "error"),
]


def facts(found: list[Any]) -> list[tuple[str, str, str]]:
    return [(each.code, each.subject, each.level) for each in found]


def test_each_mistake_in_the_code_is_found_once() -> None:
    found = build().check()
    assert facts(found) == EXPECTED
    assert found[3].text == "tests.checks.hotel.domain.stays asks for the tag guest of Booked, which has the tags room."
    assert "Mark the event's field with `Tag(…)`" in str(found[3])


def test_what_is_ignored_is_not_found_again() -> None:
    found = build().check(ignore=["TF001", "TF005:ignored", "TF003:Booked"])
    assert facts(found) == [each for each in EXPECTED if each[0] not in ("TF001", "TF005")]
    with pytest.raises(ValueError, match="there is no check TF999"):
        build().check(ignore=["TF999"])
    with pytest.raises(TypeError, match="ignore"):
        build().check(ignore="TF001")


def test_packages_say_where_to_look() -> None:
    assert facts(Application("memory://").check(packages=HOTEL)) == [
        ("TF001", "Book", "error"), *EXPECTED[:1], *EXPECTED[1:2], ("TF002", "GetRoom", "error"),
        ("TF003", "Booked", "warning"), *EXPECTED[2:4],
    ]  # fmt: skip
    assert Application("memory://").check() == []


def test_the_example_has_no_mistakes_but_what_is_only_there_with_reports_or_for_history() -> None:
    from orders.app import build as orders
    from orders.fulfilment import Fulfilling

    found = orders("memory://", fulfilment=Fulfilling()).check(ignore=["TF002:GetRevenue"])
    assert [each for each in found if each.level == "error"] == []


@dataclass(frozen=True, kw_only=True)
class Forgotten(Event):
    room: str


async def test_what_the_log_holds_and_the_code_does_not_know_is_found(url: str) -> None:
    before = Application(url)
    before.projections.add(next(iter(_rooms("gone"))))
    async with before:
        await before.store.append([Forgotten(room="1"), Booked(room="1", guest="ann")])
    app = build(url)
    app.queries._routes.clear()
    async with app:
        found = await app.check_log()
    assert facts(found) == [("TF101", "Forgotten", "error"), ("TF103", "gone", "warning")]
    assert found[0].text == "The log holds 1 events of the type Forgotten."


def _rooms(name: str) -> Any:
    from tests.checks.hotel.domain import Rooms

    yield type("Gone", (Rooms,), {"name": name})()


async def test_tags_that_stored_events_lack_are_found(engine: Engine, url: str) -> None:
    app = build(url)
    app.queries._routes.clear()
    async with app:
        await app.store.append([Booked(room="1", guest="ann")])
    changes = {"Booked": "[]"}
    await engine.log.record_tagged_types(changes)  # type: ignore[attr-defined]
    app = build(url)
    await app.store.log.open()
    for database in app.projections.databases:
        await database.open()
    try:
        assert facts(await app.check_log()) == [("TF102", "Booked", "error")]
    finally:
        await app.stop()


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Check:
    """Run the command in this process."""

    def run_it(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        code = run(["check", "tests.checks.hotel.app:build", *arguments])
        return code, capsys.readouterr().out

    return run_it


def test_the_command_line_says_what_why_and_what_to_do_and_exits_for_ci(check: Check) -> None:
    code, told = check("--json")
    assert code == 1
    found = [json.loads(line) for line in told.splitlines()]
    assert [(each["code"], each["subject"], each["level"]) for each in found] == EXPECTED
    assert set(found[0]) == {"code", "level", "subject", "text", "why", "fix"}
    errors = [f"{code}:{subject}" for code, subject, level in EXPECTED if level == "error"]
    ignored = [part for each in errors for part in ("--ignore", each)]
    code, told = check(*ignored)
    assert (code, told.splitlines()[-1]) == (0, "0 errors, 2 warnings")
    assert "Fix: Add a method for it to a projection" in told
    assert check(*ignored, "--strict")[0] == 1
    assert check("--ignore", "TF9")[0] == 1


def test_a_process_that_checks_ends_with_the_same_code() -> None:
    command = [sys.executable, "-m", "twofold", "check", "tests.checks.hotel.app:build"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (1, "4 errors, 2 warnings"), done.stderr


async def test_the_command_line_compares_with_a_log(url: str, check: Check) -> None:
    async with Application(url) as before:
        await before.store.append([Forgotten(room="1")])
    _, told = await asyncio.to_thread(check, "--url", url, "--log", "--json")
    assert "TF101" in {json.loads(line)["code"] for line in told.splitlines()}


def test_the_page_of_the_checks_is_that_of_the_code() -> None:
    assert page.FILE.read_text("utf-8") == page.page(), "run `make surface`"
    assert list(CODES) == sorted(CODES)
