"""Reading one's own writes over HTTP, as a stranger's application does it in two lines."""

from __future__ import annotations

import asyncio
import re
import socket
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio.from_thread
import httpx2
import pytest
import uvicorn
from fastapi.testclient import TestClient
from tests.accounts import Balance, Balances, Deposit, GetBalance, Open, wire
from tests.postgres_servers import PostgresServer
from tests.recording_log import RecordingLog
from tests.restorable import restorable

from fastapi import FastAPI
from twofold import Application, Position, Receipt
from twofold.fastapi import IF_MATCH_REQUIRED, CommandId, Watch, add_consistency, add_health, add_problem_details
from twofold.fastapi.tokens import Tokens
from twofold.messages.read_policy import ReadPolicy, WhenLate
from twofold.messages.session import WriteToken

TOKEN = "Consistency-Token"
STALE = ReadPolicy(0.0, WhenLate.ANSWER_STALE)


def build(
    url: str, *, synchronize: bool = True, policy: ReadPolicy | None = None, tenants: bool = False, **options: Any
) -> FastAPI:
    """Return accounts behind HTTP. Its endpoints know nothing of consistency, nor of tenants."""
    app = Application(url, synchronize=synchronize, tenants=tenants)
    wire(app)
    balances = app.projections.add(Balances())

    async def answer(query: GetBalance) -> Balance | None:
        return await balances.get(query.account)

    app.queries.register(
        GetBalance, answer, reads=["balances"], tag=lambda query: f"account:{query.account}", policy=policy
    )
    api = FastAPI(lifespan=app.lifespan)
    api.state.app = app
    add_consistency(api, app, **options)
    add_health(api, app)

    @api.post("/accounts/{account}")
    async def open_account(account: str, command_id: CommandId) -> str:
        return str(await app.commands.dispatch(Open(account=account, command_id=command_id)))

    @api.post("/accounts/{account}/deposits")
    async def deposit(account: str, command_id: CommandId, amount: Decimal = Decimal(1)) -> Decimal:
        value: Decimal = await app.commands.dispatch(Deposit(account=account, amount=amount, command_id=command_id))
        return value

    @api.put("/accounts/{account}/deposits", dependencies=[IF_MATCH_REQUIRED])
    async def deposit_carefully(account: str) -> Decimal:
        value: Decimal = await app.commands.dispatch(Deposit(account=account))
        return value

    @api.get("/accounts/{account}")
    async def balance(account: str) -> Any:
        return await app.queries.dispatch(GetBalance(account))

    @api.get("/sync/{account}")
    def balance_in_a_thread(account: str) -> Any:
        return anyio.from_thread.run(app.queries.dispatch, GetBalance(account))

    @api.get("/live/{account}")
    async def live_balance(account: str, watch: Watch) -> Any:
        return await watch.respond(GetBalance(account), Balance | None)

    @api.get("/ping")
    async def ping() -> str:
        return "pong"

    return api


@contextmanager
def serving(api: FastAPI) -> Iterator[TestClient]:
    with TestClient(api, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def client(url: str) -> Iterator[TestClient]:
    with serving(build(url)) as client:
        yield client


@pytest.fixture(scope="module")
def asked(shared_url: str) -> Iterator[TestClient]:
    """Return a client of an application that refuses or ignores all that tests ask for; the account a is open."""
    with serving(build(shared_url)) as client:
        assert client.post("/accounts/a").status_code == 200
        yield client


@pytest.fixture
def other(url: str) -> Iterator[Callable[..., TestClient]]:
    """Return a function that starts a further process, as far as the framework can tell, on the same database."""
    with ExitStack() as clients:
        yield lambda **options: clients.enter_context(serving(build(url, **options)))


def assert_problem(answer: Any, status: int, *fields: str) -> None:
    assert (answer.status_code, answer.json()["status"]) == (status, status), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert [error["field"] for error in answer.json().get("errors", [])] == list(fields)


# -- tokens -----------------------------------------------------------------------------------------------------


def test_a_client_that_sends_its_token_back_reads_its_writes_on_another_process(
    client: TestClient, other: Callable[..., TestClient]
) -> None:
    reader = other(synchronize=False)
    client.post("/accounts/a")
    for amount in range(1, 20):
        token = client.post("/accounts/a/deposits").headers[TOKEN]
        answer = reader.get("/accounts/a", headers={TOKEN: token})
        assert Decimal(answer.json()["amount"]) == amount
    assert re.fullmatch(r"[\w-]{20,80}", token)


def test_it_waits_also_in_an_endpoint_that_runs_in_a_thread(
    client: TestClient, other: Callable[..., TestClient]
) -> None:
    client.post("/accounts/a")
    reader = other(synchronize=False)
    for amount in range(1, 10):
        token = client.post("/accounts/a/deposits").headers[TOKEN]
        assert Decimal(reader.get("/sync/a", headers={TOKEN: token}).json()["amount"]) == amount


def test_without_a_synchronizer_a_query_is_refused_with_the_time_to_come_back(
    url: str, other: Callable[..., TestClient]
) -> None:
    client = other(synchronize=False, policy=ReadPolicy(0.05))
    token = client.post("/accounts/a").headers[TOKEN]
    refused = client.get("/accounts/a", headers={TOKEN: token})
    assert_problem(refused, 503)
    assert refused.headers["retry-after"] == "1"
    assert client.get("/accounts/a").status_code == 200


def test_a_stale_answer_says_so_with_its_age_and_is_not_to_be_kept(other: Callable[..., TestClient]) -> None:
    client = other(synchronize=False, policy=STALE)
    token = client.post("/accounts/a").headers[TOKEN]
    stale = client.get("/accounts/a", headers={TOKEN: token})
    assert (stale.status_code, stale.json()) == (200, None)
    assert re.fullmatch(r"stale; age=\d+\.\d{3}", stale.headers["consistency"])
    assert stale.headers["cache-control"] == "no-store"
    fresh = client.get("/accounts/b", headers={TOKEN: token})
    assert "consistency" not in fresh.headers
    assert fresh.headers["vary"] == TOKEN


def test_what_was_not_written_is_not_waited_for(other: Callable[..., TestClient]) -> None:
    client = other(synchronize=False, policy=ReadPolicy(0.0))
    token = client.post("/accounts/a").headers[TOKEN]
    assert client.get("/accounts/b", headers={TOKEN: token}).status_code == 200
    assert client.get("/accounts/a", headers={TOKEN: token}).status_code == 503


def test_a_token_remembers_the_one_that_its_request_carried(other: Callable[..., TestClient]) -> None:
    client = other(synchronize=False, policy=ReadPolicy(0.0))
    first = client.post("/accounts/a").headers[TOKEN]
    both = client.post("/accounts/b", headers={TOKEN: first}).headers[TOKEN]
    assert client.get("/accounts/a", headers={TOKEN: both}).status_code == 503
    assert client.get("/accounts/b", headers={TOKEN: both}).status_code == 503


def test_a_command_that_is_repeated_gets_its_token_again(client: TestClient) -> None:
    tokens = [client.post("/accounts/a", headers={"Idempotency-Key": "k"}).headers[TOKEN] for _ in range(2)]
    assert tokens[0] == tokens[1]


def test_what_executes_no_command_and_asks_nothing_is_left_alone(client: TestClient) -> None:
    client.post("/accounts/a")
    headers = client.get("/ping").headers
    assert not {TOKEN.lower(), "etag", "vary", "consistency", "preference-applied", "set-cookie"} & set(headers)


def damaged(token: str, at: int) -> str:
    data = bytearray(urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    data[at] ^= 1
    return urlsafe_b64encode(data).decode().rstrip("=")


@pytest.mark.parametrize("token", ["x", "%", "ä", "AAAA", "A" * 40, "A" * 5000, " ", "MQ=="])
def test_what_is_no_token_is_refused(asked: TestClient, token: str) -> None:
    assert_problem(asked.get("/accounts/a", headers={TOKEN.encode(): token.encode()}), 400, TOKEN)


def test_a_token_with_any_byte_changed_is_refused(client: TestClient) -> None:
    token = client.post("/accounts/a").headers[TOKEN]
    assert client.get("/ping", headers={TOKEN: token}).status_code == 200
    for at in range(len(urlsafe_b64decode(token + "=" * (-len(token) % 4)))):
        assert_problem(client.get("/ping", headers={TOKEN: damaged(token, at)}), 400, TOKEN)


def test_a_token_of_another_log_is_refused(client: TestClient, tmp_path: Any) -> None:
    client.post("/accounts/a")
    with serving(build(f"sqlite:///{tmp_path}/other.db")) as elsewhere:
        token = elsewhere.post("/accounts/a").headers[TOKEN]
    assert_problem(client.get("/accounts/a", headers={TOKEN: token}), 400, TOKEN)
    assert_problem(client.post("/accounts/b", headers={TOKEN: token}), 400, TOKEN)


def test_a_token_is_refused_while_the_log_is_empty(client: TestClient, tmp_path: Any) -> None:
    with serving(build(f"sqlite:///{tmp_path}/other.db")) as elsewhere:
        token = elsewhere.post("/accounts/a").headers[TOKEN]
    assert_problem(client.get("/accounts/a", headers={TOKEN: token}), 400, TOKEN)


async def test_a_token_from_the_future_is_refused_at_once_until_the_log_gets_there(url: str) -> None:
    api = build(url)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(api), base_url="http://test") as client:
        async with Application(url) as app:
            wire(app)
            await app.commands.execute(Open(account="a"))
            token = await Tokens(app.store).write(WriteToken(2, None))
            assert token
        async with api.state.app:
            assert_problem(await client.get("/accounts/a", headers={TOKEN: token}), 400, TOKEN)
            await client.post("/accounts/a/deposits")
            assert (await client.get("/accounts/a", headers={TOKEN: token})).json()["changes"] == 1


@pytest.mark.parametrize("engine_name", ["sqlite", "postgres"])
def test_a_token_of_lost_events_is_refused_once_the_log_has_outgrown_them(
    engine_name: str, tmp_path: Path, own_server: Callable[..., PostgresServer]
) -> None:
    log = restorable(engine_name, tmp_path, own_server)
    with serving(build(log.url)) as client:
        kept = client.post("/accounts/a").headers[TOKEN]
    log.save()
    with serving(build(log.url)) as client:
        lost = client.post("/accounts/a/deposits").headers[TOKEN]
    log.put_back()
    with serving(build(log.url, cookie=True)) as client:
        assert_problem(client.get("/ping", headers={TOKEN: lost}), 400, TOKEN)
        new = [client.post("/accounts/a/deposits").headers[TOKEN] for _ in range(2)]
        client.cookies.clear()
        for _ in range(2):
            assert_problem(client.get("/accounts/a", headers={TOKEN: lost}), 400, TOKEN)
            for token in (new[1], new[0], kept):
                shown = client.get("/accounts/a", headers={TOKEN: token})
                assert shown.status_code == 200, shown.text
                assert shown.json()["changes"] == 2
        ignored = client.get("/accounts/a", headers={"Cookie": f"consistency_token={lost}"})
        assert (ignored.status_code, "Max-Age=0" in ignored.headers["set-cookie"]) == (200, True)


def test_a_database_that_is_away_when_a_token_is_to_be_checked_is_503(client: TestClient, url: str) -> None:
    token = client.post("/accounts/a").headers[TOKEN]
    api = build(url, synchronize=False)
    log = api.state.app.store._log = RecordingLog(api.state.app.store.log)
    with serving(api) as restarted:
        log.away = True
        assert_problem(restarted.get("/ping", headers={TOKEN: token}), 503)
        log.away = False
        assert restarted.get("/ping", headers={TOKEN: token}).status_code == 200


# -- cookies ----------------------------------------------------------------------------------------------------


def test_a_browser_reads_its_writes_by_a_cookie(other: Callable[..., TestClient]) -> None:
    client = other(cookie=True)
    cookie = client.post("/accounts/a").headers["set-cookie"]
    assert all(word in cookie for word in ("HttpOnly", "SameSite=lax", "Path=/"))
    assert "Secure" not in cookie
    for amount in range(1, 10):
        client.post("/accounts/a/deposits")
        assert Decimal(client.get("/accounts/a").json()["amount"]) == amount


def test_a_cookie_that_is_no_good_is_ignored_and_deleted(other: Callable[..., TestClient]) -> None:
    client = other(cookie=True)
    client.post("/accounts/a")
    client.cookies.set("consistency_token", "AAAA", domain="testserver.local", path="/")
    answer = client.get("/accounts/a")
    assert (answer.status_code, "Max-Age=0" in answer.headers["set-cookie"]) == (200, True)
    assert "consistency_token" not in client.cookies
    assert "set-cookie" not in client.get("/accounts/a").headers


def test_without_the_option_a_cookie_is_neither_set_nor_read(client: TestClient) -> None:
    assert "set-cookie" not in client.post("/accounts/a").headers
    client.cookies.set("consistency_token", "AAAA")
    assert client.get("/accounts/a").status_code == 200


# -- preferences ------------------------------------------------------------------------------------------------


def test_a_client_says_how_long_it_will_wait(other: Callable[..., TestClient]) -> None:
    client = other(synchronize=False, policy=ReadPolicy(60.0, WhenLate.ANSWER_STALE))
    token = client.post("/accounts/a").headers[TOKEN]
    for prefer in ("wait=0", "respond-async, wait=0", "wait=0; foo", 'WAIT="0"', "a=b,wait = 0"):
        answer = client.get("/accounts/a", headers={TOKEN: token, "Prefer": prefer})
        assert (answer.headers["preference-applied"], answer.headers["consistency"][:5]) == ("wait=0", "stale"), prefer


def test_no_client_waits_longer_than_the_server_allows(other: Callable[..., TestClient]) -> None:
    client = other(synchronize=False, policy=ReadPolicy(0.0), max_wait=0.01)
    token = client.post("/accounts/a").headers[TOKEN]
    assert client.get("/accounts/a", headers={TOKEN: token, "Prefer": "wait=999999999"}).status_code == 503


@pytest.mark.parametrize("prefer", ["wait=-1", "wait=soon", "await=5", "wait"])
def test_a_preference_that_cannot_be_understood_is_ignored(asked: TestClient, prefer: str) -> None:
    answer = asked.get("/accounts/a", headers={"Prefer": prefer})
    assert (answer.status_code, "preference-applied" in answer.headers) == (200, False)


# -- versions ---------------------------------------------------------------------------------------------------


def test_a_change_is_refused_when_the_thing_has_changed_since(client: TestClient) -> None:
    opened = client.post("/accounts/a").headers["etag"]
    assert opened == '"1"'
    assert client.post("/accounts/a/deposits", headers={"If-Match": opened}).headers["etag"] == '"2"'
    assert_problem(client.post("/accounts/a/deposits", headers={"If-Match": opened}), 412, "If-Match")
    assert client.post("/accounts/a/deposits", headers={"If-Match": "*"}).headers["etag"] == '"3"'
    assert_problem(client.post("/accounts/b", headers={"If-Match": "*"}), 412, "If-Match")


def test_a_repeat_of_a_change_is_answered_alike(client: TestClient) -> None:
    headers = {"If-Match": client.post("/accounts/a").headers["etag"], "Idempotency-Key": "deposit-1"}
    first, second = (client.post("/accounts/a/deposits", headers=headers) for _ in range(2))
    assert (first.status_code, first.text, first.headers["etag"]) == (200, second.text, second.headers["etag"])


@pytest.mark.parametrize("if_match", ['W/"1"', '"one"', '"01"', '"1000000000000000000000"', '""', '"-1"'])
def test_a_tag_that_no_version_has_never_matches(asked: TestClient, if_match: str) -> None:
    assert_problem(asked.post("/accounts/a/deposits", headers={"If-Match": if_match}), 412, "If-Match")
    assert asked.get("/accounts/a", headers={"If-Match": if_match}).status_code == 200


@pytest.mark.parametrize("if_match", ["1", '"1", "2"', '"1', "", "**"])
def test_a_precondition_that_cannot_be_understood_is_refused(asked: TestClient, if_match: str) -> None:
    assert_problem(asked.post("/accounts/a/deposits", headers={"If-Match": if_match}), 400, "If-Match")


def test_a_precondition_may_be_required(client: TestClient) -> None:
    client.post("/accounts/a")
    assert client.put("/accounts/a/deposits").status_code == 428
    assert client.put("/accounts/a/deposits", headers={"If-Match": '"1"'}).status_code == 200


def test_problem_details_may_come_first_or_last(url: str) -> None:
    api = build(url, synchronize=False, policy=ReadPolicy(0.0))
    add_problem_details(api)
    with serving(api) as client:
        token = client.post("/accounts/a").headers[TOKEN]
        assert_problem(client.get("/accounts/a", headers={TOKEN: token}), 503)
        assert_problem(client.post("/accounts/a/deposits", headers={"If-Match": '"9"'}), 412, "If-Match")


def test_openapi_names_the_required_precondition(client: TestClient) -> None:
    operations = client.get("/openapi.json").json()["paths"]["/accounts/{account}/deposits"]
    assert "if-match" in [each["name"] for each in operations["put"]["parameters"]]


# -- watched answers -----------------------------------------------------------------------------------------------


@asynccontextmanager
async def listening(api: FastAPI, log_level: str = "critical") -> AsyncIterator[httpx2.AsyncClient]:
    """Serve from a socket: a stream that does not end is beyond the test client."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(api, log_level=log_level, log_config=None, lifespan="on", timeout_graceful_shutdown=20)
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve([listener]))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with httpx2.AsyncClient(base_url=url, timeout=20) as client:
            yield client
        server.should_exit = True
        await serving


async def next_event(lines: AsyncIterator[str]) -> dict[str, str]:
    """Return the fields of the next event, comments included under the empty name."""
    event: dict[str, str] = {}
    async for line in lines:
        if not line and event:
            return event
        name, _, value = line.partition(":")
        event[name] = value.strip()
    raise AssertionError("the stream ended")


async def test_an_answer_is_pushed_at_once_and_whenever_it_has_changed(url: str) -> None:
    async with listening(build(url)) as client:
        await client.post("/accounts/a")
        async with client.stream("GET", "/live/a") as stream:
            lines = stream.aiter_lines()
            assert stream.headers["content-type"].startswith("text/event-stream")
            assert await next_event(lines) == {"retry": "1000"}
            event = await next_event(lines)
            while '"account"' not in event["data"]:  # the read model may not have the account yet
                event = await next_event(lines)
            for amount in range(1, 6):
                await client.post("/accounts/a/deposits")
                event = await next_event(lines)
                assert f'"changes":{amount}' in event["data"]
                assert "event" not in event


async def test_a_client_that_was_cut_off_goes_on_where_it_was_at_another_process(url: str) -> None:
    async with listening(build(url)) as client, listening(build(url, synchronize=False)) as elsewhere:
        token = (await client.post("/accounts/a")).headers[TOKEN]
        async with client.stream("GET", "/live/a", headers={TOKEN: token}) as stream:
            lines = stream.aiter_lines()
            await next_event(lines)
            event = await next_event(lines)
        headers = {"Last-Event-ID": event["id"]}
        async with elsewhere.stream("GET", "/live/a", headers=headers) as stream:
            lines = stream.aiter_lines()
            await next_event(lines)
            await client.post("/accounts/a/deposits")
            assert '"changes":1' in (await next_event(lines))["data"]  # and not the answer that it had seen


async def test_events_about_other_things_push_nothing_but_heartbeats(url: str) -> None:
    async with listening(build(url, heartbeat=0.2)) as client:
        token = (await client.post("/accounts/a")).headers[TOKEN]
        async with client.stream("GET", "/live/a", headers={TOKEN: token}) as stream:
            lines = stream.aiter_lines()
            await next_event(lines)
            assert "data" in await next_event(lines)
            await client.post("/accounts/b")
            assert await next_event(lines) == {"": "nothing new"}


@pytest.mark.parametrize("id", ["17", "AQAAAAAAAAARqk3Kz1C2j3Q", "é".encode()])
async def test_an_id_that_does_not_fit_begins_at_the_start(url: str, id: str | bytes) -> None:
    async with listening(build(url)) as client:
        token = (await client.post("/accounts/a")).headers[TOKEN]
        headers = [(b"Last-Event-ID", id.encode() if isinstance(id, str) else id), (TOKEN.encode(), token.encode())]
        async with client.stream("GET", "/live/a", headers=headers) as stream:
            lines = stream.aiter_lines()
            assert (stream.status_code, await next_event(lines)) == (200, {"retry": "1000"})
            assert '"account"' in (await next_event(lines))["data"]


async def test_with_the_next_heartbeat_the_streams_of_clients_that_have_left_end(url: str) -> None:
    api = build(url, heartbeat=0.1)
    streaming = api.state.twofold_watched_answers.closing._waiters  # each stream waits for the end of the server, too
    async with listening(api) as client:
        async with AsyncExitStack() as stack:
            streams = [await stack.enter_async_context(client.stream("GET", "/live/a")) for _ in range(5)]
            open_lines = [stream.aiter_lines() for stream in streams]
            for lines in open_lines:
                await next_event(lines)
                await next_event(lines)
            assert len(streaming) == 5
        await until(lambda: not streaming)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what the server does in its own time."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  # nothing signals it
            await asyncio.sleep(0.001)


def test_receipts_without_types_make_tokens_for_everything() -> None:
    assert WriteToken.of(Receipt(value=None, position=Position(3))) == WriteToken(3, None)
