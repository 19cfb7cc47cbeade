"""Rebuilds from the command line, with the application's code; the one that is interrupted in a process of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.typed import Twofold
from tests.synchronizing import PATIENCE, until

from twofold.engines.engine import connect
from twofold.ports.checkpoints import SQL

SHOP = """
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from twofold import Application, Event, Key, Projection, on


@dataclass(frozen=True, kw_only=True)
class Sold(Event):
    product: str


@dataclass(frozen=True)
class Sales:
    product: Annotated[str, Key()]
    pieces: int = 0


class SalesByProduct(Projection[Sales]):
    name = "sales"
    on_failure = "stop"

    @on(Sold)
    def sold(self, row: Sales | None, event: Sold) -> Sales:
        if Path("broken").exists():
            raise ValueError("broken")
        row = row or Sales(event.product)
        return replace(row, pieces=row.pieces + (2 if Path("changed").exists() else 1))


def build(url):
    app = Application(url, changed_code="ignore")
    app.projections.add(SalesByProduct())
    return app


nothing = None
"""


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Go to a folder with an application, whose module this process has not loaded yet."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "shop.py").write_text(SHOP)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "shop", raising=False)
    return folder


async def sell(url: str) -> None:
    from shop import Sold, build  # type: ignore[import-not-found]

    async with build(url) as app:
        receipt = await app.store.append([Sold(product=each) for each in ("tea", "tea", "milk")])
        await app.projections.wait(receipt.position, timeout=PATIENCE)


@pytest.fixture
def place(code: Path, url: str) -> Path:
    """Return a folder with an application whose read model is complete."""
    asyncio.run(sell(url))
    return code


def started(place: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "twofold", *arguments],
        cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": ""},
    )  # fmt: skip


def roles(url: str) -> list[str]:
    """Return the roles of the generations that there are."""

    async def read() -> list[str]:
        database = connect(url).read_database
        await database.open()
        try:
            return [row[4] for row in await database.query(SQL["generations_of"], name="sales")]
        finally:
            await database.close()

    return asyncio.run(read())


@pytest.mark.usefixtures("place")
def test_a_read_model_is_built_anew_and_rolled_back(twofold: Twofold, url: str) -> None:
    done = twofold("rebuild", "shop:build", "sales", "--url", url, "--expect-same")
    assert (done.returncode, done.stdout) == (
        0, "the new read model sales serves: 2 rows, 2 compared with the log\n",
    ), done.stderr  # fmt: skip
    assert roles(url) == ["previous", "serving"]
    done = twofold("roll-back", "shop:build", "sales", "--url", url)
    assert done.stdout == "the earlier read model sales serves again\n", done.stderr
    assert roles(url) == ["serving", "previous"]


def test_a_difference_where_none_was_expected_is_one_line_and_the_earlier_one_serves_on(
    twofold: Twofold, place: Path, url: str
) -> None:
    (place / "changed").touch()
    done = twofold("rebuild", "shop:build", "sales", "--url", url, "--expect-same")
    assert (done.returncode, done.stdout) == (1, "")
    assert "the new read model sales does not serve: 2 rows of the one that serves are not so" in done.stderr
    assert roles(url) == ["serving", "refused"]
    done = twofold("cancel-rebuild", "shop:build", "sales", "--url", url, "--yes")
    assert done.stdout == "the rebuild of sales is cancelled\n", done.stderr
    assert roles(url) == ["serving"]
    assert (
        "no rebuild of sales is under way"
        in twofold("cancel-rebuild", "shop:build", "sales", "--url", url, "--yes").stdout
    )


def test_interrupted_it_says_that_it_goes_on_and_the_next_one_joins_it(twofold: Twofold, place: Path, url: str) -> None:
    (place / "broken").touch()
    process = started(place, "rebuild", "shop:build", "sales", "--url", url)

    async def begun() -> bool:
        return "building" in await asyncio.to_thread(roles, url)

    try:
        asyncio.run(until(begun))
    finally:
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=60)
    assert process.returncode == 130
    assert complaint.splitlines()[-1].startswith("twofold: interrupted; the rebuild of sales goes on wherever workers")
    (place / "broken").unlink()
    assert twofold("rebuild", "shop:build", "sales", "--url", url).returncode == 0
    assert roles(url) == ["previous", "serving"]


@pytest.mark.usefixtures("code")
@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["shop", "sales"], "write module:attribute, such as orders.app:build"),
        (["shopp:build", "sales"], "there is no module 'shopp' here; run this in the folder of the code"),
        (["shop:biuld", "sales"], "shop:biuld: the module has no 'biuld'"),
        (["shop:build", "sales"], "missing a required argument: 'url'; give it the database with --url"),
        (["shop:nothing", "sales"], "no Application and no function that returns one"),
        (["shop:build", "sale", "--url", "URL"], "there is no projection 'sale'; there are: sales"),
    ],
)
def test_what_cannot_be_rebuilt_is_told_in_one_line(
    twofold: Twofold, url: str, arguments: list[str], remedy: str
) -> None:
    done = twofold("rebuild", *(url if each == "URL" else each for each in arguments))
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("twofold: ")
    assert remedy in line
