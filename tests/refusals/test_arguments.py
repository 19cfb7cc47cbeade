"""Every argument of a public function is checked before anything is queued or stored."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.accounts import Balances, GetBalance, wire
from tests.docs.surface import FILE
from tests.recording_log import RecordingLog
from tests.refusals.calls import CALLS, NOT_CHECKED, SAID, Call, World
from tests.synchronizing import PATIENCE

from twofold import Application, EventStore, TwofoldError
from twofold.engines.memory import MemoryEventLog

PARAMETERS = [
    pytest.param(call, parameter, id=f"{call.name}-{parameter}") for call in CALLS for parameter in call.wrong
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world() -> AsyncIterator[World]:
    """Return an application in memory, and a store whose log counts what it is asked for."""
    app = Application("memory://", synchronize=False)
    wire(app)
    balances = app.projections.add(Balances())

    async def answer(query: GetBalance) -> Any:
        return await balances.get(query.account)

    app.queries.register(GetBalance, answer)
    async with app:
        yield World(app, EventStore(RecordingLog(MemoryEventLog())), balances)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is written by a name alone, such as an export, not stay where the tests run."""
    monkeypatch.chdir(tmp_path)


async def made(call: Call, world: World, **other: Any) -> Any:
    """Call a function with arguments that work, but for the others."""
    arguments = {name: value(world) if _is_made(value) else value for name, value in call.good.items()} | other
    outcome = call.get(world)(**arguments)
    async with asyncio.timeout(PATIENCE):
        return await outcome if inspect.isawaitable(outcome) else outcome


def _is_made(value: Any) -> bool:
    return inspect.isfunction(value) and list(inspect.signature(value).parameters) == ["world"]


async def unrefused(call: Call, parameter: str, value: object, world: World) -> str:
    """Return what is wrong with how a value is refused; empty if nothing is."""
    try:
        await made(call, world, **{parameter: value})
    except (TypeError, ValueError, TwofoldError) as error:
        said = f"{parameter}|{SAID.get(parameter, parameter)}"
        return "" if re.search(said, str(error)) else f"{value!r}: {type(error).__name__}: {error}"
    except Exception as error:
        return f"{value!r}: {type(error).__name__}: {error}"
    return f"{value!r} is taken"


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("call", "parameter"), PARAMETERS)
async def test_an_argument_that_cannot_work_is_refused_by_name_and_nothing_is_asked_or_stored(
    call: Call, parameter: str, world: World
) -> None:
    log: Any = world.store.log
    log.calls.clear()
    before = await world.app.store.head()
    wrong = [await unrefused(call, parameter, value, world) for value in call.wrong[parameter]]
    assert list(filter(None, wrong)) == []
    assert not log.calls
    assert await world.app.store.head() == before


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("call", [call for call in CALLS if call.may_be_made], ids=lambda call: call.name)
async def test_the_arguments_that_were_changed_for_it_work(call: Call, world: World) -> None:
    await made(call, world)


def surface() -> dict[str, list[str]]:
    """Return the parameters of each public function by its name."""
    found = {}
    for line in FILE.read_text("utf-8").splitlines():
        if head := re.match(r" *(?:async )?(?:def|class) ([\w.]+)(?: \[.*?\])?\((.*)", line):
            found[head[1]] = re.findall(r"(?:^|, |\*)(\w+): ", _without_brackets(head[2]))
    return found


def _without_brackets(text: str) -> str:
    while text != (text := re.sub(r"\[[^\[\]]*\]", "", text)):
        pass
    return text.split(") -> ")[0]


def test_no_public_function_and_no_parameter_is_left_out() -> None:
    covered = {call.name: {*call.wrong, *call.free} for call in CALLS}
    left = {}
    for name, parameters in surface().items():
        if any(re.fullmatch(pattern, name) for pattern in NOT_CHECKED):
            continue
        known = covered.get(name, set()) | covered.get(f"{name}(*)", set())
        if missing := [each for each in parameters if each not in known]:
            left[name] = missing
    assert left == {}, "write into tests/refusals/calls.py what they take and what cannot work, or why it matters not"


@pytest.mark.parametrize("pattern", NOT_CHECKED)
def test_what_need_not_be_checked_is_there(pattern: str) -> None:
    assert any(re.fullmatch(pattern, name) for name in surface())
