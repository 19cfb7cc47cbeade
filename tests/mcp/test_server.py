"""A coding agent looks into an application: the official client, the real command, each engine, and no change."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import psycopg
import pytest
from mcp.client import Client
from tests.mcp.asking import ROOT, answer, ask, refusal, sell
from tests.mcp.shop import build
from tests.postgres_servers import PostgresServer
from tests.synchronizing import PATIENCE

from twofold import Application
from twofold.engines.looking import looking_only
from twofold.errors import ReadOnlyStorageError, StorageError
from twofold.mcp import answers, running_tools
from twofold.mcp.answers import ROOM, fitted
from twofold.mcp.looked_at import LookedAt
from twofold.mcp.server import agent_server, tools_of
from twofold.schema import lock_types, write_lock
from twofold.synchronizer.generations import locked_generations
from twofold.tenants import all_tenants

LIMITED = ("first instance", "last instance")
"""Answers with room for one."""


class Told(NamedTuple):
    """What the server has told of an application."""

    url: str
    before: Any
    after: Any
    answers: dict[str, Any]


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def address(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    postgres_server: Callable[[int], PostgresServer],
) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("shop")
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOP_KEYS", f"sqlite:///{folder}/keys.db")
        if request.param == "sqlite":
            yield f"sqlite:///{folder}/shop.db"
        else:
            yield stack.enter_context(postgres_server(18).database())


@pytest.fixture(scope="module")
def told(address: str) -> Told:
    """Ask everything once, in one session."""
    sell(address)
    before = contents(address)
    found = ask(everything, "tests.mcp.shop:build", "--url", address)
    return Told(address, before, contents(address), found)


async def everything(client: Client) -> dict[str, Any]:
    first = await answer(client, "search_events", types=["Ordered"], newest_first=False, limit=1)
    uris = [each.uri for each in (await client.list_resources()).resources]
    return {
        "tools": (await client.list_tools()).tools,
        "status": await answer(client, "status"),
        "parked": await answer(client, "parked_by_cause"),
        "each parked": await answer(client, "show_parked", projection="sums"),
        "first": first,
        "more": await answer(client, "search_events", types=["Ordered"], newest_first=False, after=first["next"]),
        "event": await answer(client, "show_event", which=first["events"][0]["event_id"]),
        "trace": await answer(client, "trace_event", which="1"),
        "state": await answer(client, "show_state", stream="Order-o1", version=2),
        "instances": await answer(client, "list_instances", process="remind", state="running"),
        "first instance": await answer(client, "list_instances", process="remind", limit=1),
        "last instance": await answer(client, "list_instances", process="remind", after="o1", limit=1),
        "instance": await answer(client, "show_instance", process="remind", instance="o1"),
        "flow": await answer(client, "message_flow", about="Paid"),
        "check": await answer(client, "check", with_log=True),
        "types": await answer(client, "event_schemas"),
        "schema": await answer(client, "event_schemas", name="Ordered"),
        "doctor": await answer(client, "doctor"),
        "explain": await answer(client, "explain", code="TE304"),
        "no event": await refusal(client, "show_event", which="1000000"),
        "no time": await refusal(client, "search_events", since="yesterday"),
        "too many": await refusal(client, "search_events", limit=100_000),
        "no projection": await refusal(client, "show_parked", projection="nosuch"),
        "resources": {str(uri): (await client.read_resource(uri)).contents[0] for uri in uris},
        "code": (await client.read_resource("twofold://codes/TF003")).contents[0],
    }  # fmt: skip


def contents(url: str) -> Any:
    """Return all that a database holds but the marks of the workers, which have ended."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            return list(connection.iterdump())
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) FROM pg_tables "
            "WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1"
        ).fetchall()
        return [(name, sorted(map(repr, connection.execute(f"SELECT * FROM {name}").fetchall()))) for [name] in tables]


def test_nothing_is_changed_by_any_tool(told: Told) -> None:
    assert told.after == told.before
    assert len(told.before) > 5


def test_each_tool_is_asked_and_says_that_it_only_reads(told: Told) -> None:
    listed = told.answers["tools"]
    assert {each.name for each in listed} == {each.__name__ for each in tools_of(LookedAt(build("memory://")))}
    assert all(each.annotations.read_only_hint and not each.annotations.destructive_hint for each in listed)
    assert all(each.description and len(each.description) > 40 for each in listed)
    source = Path(__file__).read_text("utf-8")
    assert [each.name for each in listed if f'client, "{each.name}"' not in source] == []


def test_the_status_tells_what_is_wrong(told: Told) -> None:
    status = told.answers["status"]
    by_name = {each["name"]: each for each in status["projections"]}
    assert by_name["sums"]["parked"] == 1
    assert by_name["sums"]["problems"] == ["1 events are parked"]
    assert by_name["remind"]["problems"] == []
    assert status["processes"][0]["counts"]["running"] == 2
    assert status["head"] == 6


def test_parked_events_are_told_by_cause_with_the_place_in_the_code(told: Told) -> None:
    [group] = told.answers["parked"]["groups"]
    assert (group["projection"], group["error"], group["failed"]) == ("sums", "ArithmeticError", 1)
    assert group["place"].startswith("shop.py:")
    assert "unlucky" in group["example"]["traceback"]
    assert [each["position"] for each in told.answers["each parked"]["parked"]] == [group["first"]]


def test_events_are_found_page_by_page_and_followed_to_their_effects(told: Told) -> None:
    [first], [second] = told.answers["first"]["events"], told.answers["more"]["events"]
    assert (first["payload"]["order"], second["payload"]["order"]) == ("o1", "o2")
    assert told.answers["more"]["next"] is None
    assert told.answers["event"]["event"]["stream"] == "Order-o1"
    assert told.answers["event"]["event"]["metadata"]["user"] == "ann"
    kinds = [(each["kind"], each["depth"]) for each in told.answers["trace"]["nodes"]]
    assert kinds == [("command", 0), ("event", 1), ("event", 2)]
    assert told.answers["trace"]["is_complete"]


def test_a_state_is_that_of_the_version_with_personal_fields_masked(told: Told) -> None:
    state = told.answers["state"]
    assert (state["version"], state["state"]["paid"]) == (2, 5)
    assert "Quux" not in repr(told.answers)


def test_processes_code_and_schemas_are_told(told: Told) -> None:
    answers = told.answers
    assert [each["id"] for each in answers["instances"]["instances"]] == ["o1", "o2"]
    ends = [(answers[key]["instances"][0]["id"], answers[key]["left_out"]) for key in LIMITED]
    assert ends == [("o1", 1), ("o2", 0)]
    assert answers["instance"]["steps"][0]["timers"][0]["timer"] == "late"
    assert {each["name"] for each in answers["flow"]["nodes"]} == {"Paid", "Pay", "sums"}
    codes = {each["code"]: each for each in answers["check"]["findings"]}
    assert "Forgotten" in codes["TF002"]["text"]
    assert codes["TF002"]["fix"]
    assert answers["types"] == {"types": {"Ordered": 1, "Paid": 1}}
    assert answers["schema"]["personal"] == ["name"]
    assert "order" in answers["schema"]["schemas"]["1"]["properties"]
    assert answers["doctor"]["facts"]["process remind"] == "2 going on, 0 ended and kept"
    assert answers["explain"]["name"] == "ValueTakenError"


def test_what_cannot_be_answered_is_refused_by_name_with_a_code_and_a_fix(told: Told) -> None:
    answers = told.answers
    assert "the log ends at position 6" in answers["no event"]
    assert "[TE" in answers["no event"]
    assert "Fix: " in answers["no event"]
    assert "[TE" in answers["no projection"]
    assert "since" in answers["no time"]
    assert "less than or equal to 200" in answers["too many"]


def test_an_answer_is_cut_to_what_an_agent_can_read(told: Told) -> None:
    [second] = told.answers["more"]["events"]
    assert second["payload"]["note"].endswith("more characters)")
    assert len(repr(second)) < 10_000


def test_a_status_and_an_instance_say_how_much_they_leave_out(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "ROOM", 1)
    monkeypatch.setattr(running_tools, "MOST", 0)

    async def look() -> tuple[Any, Any, Any]:
        with looking_only():
            tools = running_tools.RunningTools(LookedAt(build(told.url)))
        return await tools.status(), await tools.show_instance("remind", "o1"), await tools.show_parked("sums", limit=0)

    status, instance, parked = asyncio.run(look())
    assert [len(status["projections"]), len(status["processes"]), status["left_out"]] == [1, 1, 1]
    assert (instance["steps"], instance["left_out"]) == ([], 1)
    assert parked == {"parked": [], "left_out": 1}
    assert told.answers["each parked"]["left_out"] == 0


def test_the_texts_of_the_package_and_the_pages_of_codes_are_resources(told: Told) -> None:
    texts = told.answers["resources"]
    assert sorted(texts) == [f"twofold://agents/{name}" for name in ("AGENTS.md", "SKILL.md", "llms.txt")]
    assert "# Twofold, for coding agents" in texts["twofold://agents/AGENTS.md"].text
    assert "Fix: " in told.answers["code"].text


def test_an_application_that_is_made_to_look_only_can_write_nowhere(told: Told) -> None:
    async def write() -> None:
        with looking_only():
            app = build(told.url)
        await app.store.log.open()
        [database, *_] = app.projections.databases
        await database.open()
        try:
            with suppress(ReadOnlyStorageError):  # SQLite refuses already this
                async with database.transaction() as transaction:  # after the user's code, a session is as before
                    await transaction.call(lambda connection: connection.execute("SELECT 1"))
            with pytest.raises(ReadOnlyStorageError):
                await app.store.log.record_tagged_types({"Paid": "[]"})  # type: ignore[attr-defined]
            with pytest.raises(ReadOnlyStorageError):
                await app.projections.control("sums").retry()
            with pytest.raises(ReadOnlyStorageError):
                await app.processes.control("remind").cancel("o1", reason="a test")
        finally:
            await database.close()
            await app.store.log.close()

    asyncio.run(write())
    assert contents(told.url) == told.before


def test_looking_at_what_is_parked_waits_for_no_lock(told: Told) -> None:
    async def look() -> Any:
        app = build(told.url)
        await app.store.log.open()
        [database, *_] = app.projections.databases
        await database.open()
        try:
            async with database.transaction() as transaction, asyncio.timeout(PATIENCE):
                await locked_generations(transaction, "sums")
                with all_tenants():
                    return await app.projections.control("sums").parked()
        finally:
            await database.close()
            await app.store.log.close()

    assert len(asyncio.run(look())) == 1


def test_looking_makes_no_database_and_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path}/absent.db"
    monkeypatch.setenv("SHOP_KEYS", f"sqlite:///{tmp_path}/keys.db")

    async def look() -> None:
        with looking_only():
            looked_at = LookedAt(build(url))
        with pytest.raises(StorageError, match="there is no such file"):
            async with looked_at.opened():
                """Nothing is here."""

    asyncio.run(look())
    assert "there is no such file" in ask(
        lambda client: refusal(client, "status"), "tests.mcp.shop:build", "--url", url
    )
    assert list(tmp_path.iterdir()) == []


async def test_no_refusal_holds_the_password_of_the_database() -> None:
    server = agent_server(LookedAt(Application("memory://")), url="postgresql://ann:hunter22@localhost/shop")
    async with Client(server) as client:
        assert "the stored name ***" in await refusal(client, "event_schemas", name="hunter22")


def test_events_of_tenants_are_told_apart_and_a_changed_file_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/shop.db"
    monkeypatch.setenv("SHOP_KEYS", f"sqlite:///{tmp_path}/keys.db")
    sell(url, tenants=True)
    (tmp_path / "own_shop.py").write_text("from tests.mcp.shop import build_for_tenants as build\n")
    write_lock(tmp_path / "other.lock.json", lock_types(build(url).event_types(), stream_types=["Cart", "Order"]))

    async def questions(client: Client) -> Any:
        first = await answer(client, "search_events", tags=["acme/order:o1"], newest_first=False)
        state = await answer(client, "show_state", stream="acme/Order-o1")
        os.utime(tmp_path / "own_shop.py", (1, 1))
        found = await answer(client, "check_schema", lock="other.lock.json")
        return first, state, await answer(client, "status"), await refusal(client, "check_schema"), found

    first, state, status, no_lock, schema = ask(questions, "own_shop:build", "--url", url, cwd=tmp_path)
    assert {each["tenant"] for each in first["events"]} == {"acme"}
    assert state["state"]["paid"] == 18
    assert status["restart this server, as these files have changed"] == [str(tmp_path / "own_shop.py")]
    assert "twofold schema lock" in no_lock
    assert [(each["code"], each["subject"]) for each in schema["findings"]] == [("TF310", "Cart")]


def test_standard_output_is_the_protocols_alone_and_the_end_of_the_input_ends_the_server(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "twofold", "mcp", "tests.mcp.shop:build", "--url", f"sqlite:///{tmp_path}/shop.db"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SHOP_KEYS": f"sqlite:///{tmp_path}/keys.db"}
    done = subprocess.run(
        command, input="", capture_output=True, text=True, timeout=PATIENCE, cwd=tmp_path, env=environment, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert "must not get between the messages" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_the_applications_also_where_a_library_has_the_beginning_of_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path / "lib"))
    for folder in ("lib", "library"):
        file = tmp_path / folder / f"of_{folder}.py"
        file.parent.mkdir()
        file.touch()
        monkeypatch.setitem(sys.modules, file.stem, ModuleType(file.stem))
        sys.modules[file.stem].__file__ = str(file)
    looked_at = LookedAt(Application("memory://"))
    for folder in ("lib", "library"):
        os.utime(tmp_path / folder / f"of_{folder}.py", (1, 1))
    assert looked_at.changed_files() == [str(tmp_path / "library/of_library.py")]


@pytest.mark.parametrize("document", [
    "x" * 100_000, ["y" * 300] * 1_000, {str(n): {"deep": [n] * 50} for n in range(3_000)}, [[[["z"] * 90_000]]],
])  # fmt: skip
def test_whatever_is_found_is_cut(document: Any) -> None:
    assert ROOM * 0.8 < len(repr(fitted(document))) < ROOM * 2
    assert fitted({"short": [1, "2"]}) == {"short": [1, "2"]}
