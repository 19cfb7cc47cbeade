"""What an application behind FastAPI promises its clients beyond the answers themselves."""

from __future__ import annotations

import asyncio
import gzip
import logging
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tests.fastapi.test_consistency import TOKEN, assert_problem, build, client, listening, next_event, other, until

from fastapi import FastAPI
from twofold import Application, errors
from twofold.fastapi import (
    BodyLimit,
    TokenCookie,
    add_browser_protection,
    add_consistency,
    add_problem_details,
    etag,
)

__all__ = ["client", "other"]  # fixtures


# -- streams ----------------------------------------------------------------------------------------------------


async def test_a_client_that_leaves_a_live_stream_logs_nothing(url: str, caplog: pytest.LogCaptureFixture) -> None:
    api = build(url)
    streaming = api.state.twofold_watched_answers.closing._waiters
    async with listening(api, log_level="info") as client:
        for _ in range(3):
            async with client.stream("GET", "/live/a") as stream:
                await next_event(stream.aiter_lines())
        await until(lambda: not streaming)
    assert [each for each in caplog.records if each.levelno >= logging.WARNING] == []


async def test_a_server_that_ends_says_goodbye_to_its_live_streams(url: str, caplog: pytest.LogCaptureFixture) -> None:
    api = build(url)
    async with listening(api, log_level="info") as client, client.stream("GET", "/live/a") as stream:
        lines = stream.aiter_lines()
        await next_event(lines)
        api.state.twofold_watched_answers.closing.set()
        assert [line async for line in lines if line.startswith("event:")] == []  # it ends, and is complete
    assert [each for each in caplog.records if each.levelno >= logging.WARNING] == []


# -- cookies ----------------------------------------------------------------------------------------------------


def test_a_cookies_name_and_path_are_parameters(other: Callable[..., TestClient]) -> None:
    client = other(cookie=TokenCookie(name="accounts_token", path="/accounts"))
    cookie = client.post("/accounts/a").headers["set-cookie"]
    assert cookie.startswith("accounts_token=")
    assert "Path=/accounts" in cookie
    client.cookies.set("consistency_token", "of another application on this host")
    assert client.get("/accounts/a").json()["account"] == "a"


@pytest.mark.parametrize("cookie", [{"name": "a b"}, {"name": ""}, {"name": "a;b"}, {"path": "x"}, {"path": "/;x"}])
def test_a_cookie_that_no_browser_would_keep_is_refused_where_it_is_declared(cookie: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="a cookie cannot have the"):
        TokenCookie(**cookie)


def test_an_answer_that_a_cookie_may_change_says_so_to_caches(other: Callable[..., TestClient]) -> None:
    assert other(cookie=True).get("/accounts/a").headers["vary"] == f"{TOKEN}, Cookie"
    assert other().get("/accounts/a").headers["vary"] == TOKEN


def test_a_cookie_that_does_not_fit_never_hinders_a_command(other: Callable[..., TestClient]) -> None:
    client = other(cookie=True)
    client.cookies.set("consistency_token", "AAAA", domain="testserver.local", path="/")
    answer = client.post("/accounts/a")
    assert answer.status_code == 200
    assert client.cookies["consistency_token"] == answer.headers[TOKEN]


# -- HEAD, 304, Allow, 415 --------------------------------------------------------------------------------------


@pytest.fixture
def tagged() -> TestClient:
    api = FastAPI()
    add_problem_details(api)
    add_consistency(api, Application("memory://"))

    @api.get("/thing")
    async def get_thing() -> Any:
        from fastapi.responses import JSONResponse

        return JSONResponse({"version": 3}, headers={"ETag": etag(3)})

    @api.delete("/thing")
    async def delete_thing() -> None:
        pass

    @api.post("/only-post")
    async def only_post() -> None:
        pass

    return TestClient(api)


def test_head_is_answered_like_get_without_the_body(tagged: TestClient) -> None:
    got, head = tagged.get("/thing"), tagged.head("/thing")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers == got.headers
    assert tagged.head("/nowhere").status_code == 404


@pytest.mark.parametrize("known", ['"3"', 'W/"3"', '"1", "3"', "*"])
def test_what_a_client_has_already_is_not_sent_again(tagged: TestClient, known: str) -> None:
    for ask in (tagged.get, tagged.head):
        answer = ask("/thing", headers={"If-None-Match": known})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", '"3"')
        assert "content-length" not in answer.headers


@pytest.mark.parametrize("known", ['"2"', "3", '"33"', ""])
def test_what_has_changed_is_sent(tagged: TestClient, known: str) -> None:
    assert tagged.get("/thing", headers={"If-None-Match": known}).json() == {"version": 3}


def test_a_wrong_method_is_answered_with_all_that_are_right(tagged: TestClient) -> None:
    refused = tagged.put("/thing")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, DELETE, HEAD")
    assert tagged.head("/only-post").headers["allow"] == "POST"


async def test_head_of_a_live_stream_ends(url: str) -> None:
    async with listening(build(url)) as client, asyncio.timeout(60):
        answer = await client.head("/live/a")
    assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, "text/event-stream")


JSON = {"Content-Type": "application/json"}


def test_a_body_that_is_no_json_is_415_and_a_missing_one_422() -> None:
    api = FastAPI()
    add_problem_details(api)

    @api.post("/things")
    async def take(thing: dict[str, int]) -> None:
        pass

    client = TestClient(api)
    for media_type in ("text/plain", "application/xml", "application/jsonp", ""):
        assert_problem(client.post("/things", content=b"{}", headers={"Content-Type": media_type}), 415, "body")
    packed = client.post("/things", content=gzip.compress(b"{}"), headers={"Content-Encoding": "gzip"} | JSON)
    assert_problem(packed, 415, "body")
    assert (packed.headers["Accept"], packed.headers["Accept-Encoding"]) == ("application/json", "identity")
    assert_problem(client.post("/things"), 422, "body")
    assert client.post("/things", content=b"{}", headers={"Content-Type": "application/vnd.x+json"}).status_code == 200


# -- bodies -----------------------------------------------------------------------------------------------------


def test_a_body_that_is_too_large_is_refused_before_anything_has_happened() -> None:
    api, done = FastAPI(), list[str]()
    add_problem_details(api, max_body=10)

    @api.post("/ship")
    async def ship() -> None:
        done.append("shipped")

    assert_problem(TestClient(api).post("/ship", content=b"x" * 11), 413)
    assert done == []


def test_a_route_may_take_less_than_the_application() -> None:
    api = FastAPI()
    add_problem_details(api, max_body=100)

    @api.post("/small", max_body_size=10)
    async def small(body: dict[str, str]) -> None:
        pass

    content = iter([b'{"a":', b'"0123456789"}'])
    answer = TestClient(api).post("/small", content=content, headers={"Content-Type": "application/json"})
    assert_problem(answer, 413)
    assert answer.json()["detail"] == "the body is larger than 10 bytes"
    assert BodyLimit(api).max_body_size == 1024 * 1024


# -- what the database says -------------------------------------------------------------------------------------

SECRETS = 'connection to "10.0.0.7" failed: FATAL: role "shop" ... /srv/data/orders.db'


@pytest.mark.parametrize(
    "error",
    [
        errors.StorageError,
        errors.StorageUnavailableError,
        errors.StorageFullError,
        errors.ReadOnlyStorageError,
        errors.MissingTableError,
        errors.OutcomeUnknownError,
        *errors.StorageError.__subclasses__(),
    ],
)
def test_what_a_database_said_stays_in_the_log(error: type[Exception], caplog: pytest.LogCaptureFixture) -> None:
    api = FastAPI()
    add_problem_details(api)

    @api.get("/thing")
    async def fail() -> None:
        raise error(None, SECRETS) if error is errors.ArchiveError else error(SECRETS)

    answer = TestClient(api).get("/thing")
    assert_problem(answer, 503)
    assert not any(word in answer.text for word in ("10.0.0.7", "/srv", "shop", "FATAL"))
    assert SECRETS in caplog.text


# -- other origins ----------------------------------------------------------------------------------------------


@pytest.fixture
def shop() -> TestClient:
    api = FastAPI()
    add_browser_protection(api, hosts=["shop.example"], origins=["https://admin.example"])

    @api.api_route("/ship", methods=["GET", "POST", "DELETE"])
    async def ship() -> str:
        return "shipped"

    return TestClient(api, base_url="https://shop.example")


@pytest.mark.parametrize("host", ["evil.example", "shop.example.evil.example", "xshop.example", "", "127.0.0.1.evil"])
def test_another_host_is_refused(shop: TestClient, host: str) -> None:
    assert_problem(shop.get("/ship", headers={"Host": host}), 400)


@pytest.mark.parametrize(
    "host", ["shop.example", "SHOP.example.:8443", "127.0.0.1:8000", "[::1]:8000", "localhost:80", "10.1.2.3"]
)
def test_our_hosts_and_addresses_pass(shop: TestClient, host: str) -> None:
    assert shop.get("/ship", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "https://shop.example.evil.example"},
    ],
)
def test_a_change_from_another_origin_is_refused_also_without_a_body(shop: TestClient, headers: dict[str, str]) -> None:
    assert_problem(shop.post("/ship", headers=headers), 403)
    assert_problem(shop.delete("/ship", headers=headers), 403)
    assert shop.get("/ship", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://shop.example"},
        {"Origin": "https://admin.example", "Sec-Fetch-Site": "cross-site"},
    ],
)
def test_a_change_of_our_own_pages_and_of_programs_passes(shop: TestClient, headers: dict[str, str]) -> None:
    assert shop.post("/ship", headers=headers).status_code == 200


# -- OpenAPI ----------------------------------------------------------------------------------------------------


def test_openapi_names_the_headers_that_operations_take_and_give(client: TestClient) -> None:
    operations = client.get("/openapi.json").json()["paths"]["/accounts/{account}"]

    def headers(method: str) -> tuple[set[str], set[str]]:
        operation = operations[method]
        taken = {each["name"] for each in operation["parameters"] if each["in"] == "header"}
        return taken, set(operation["responses"]["200"]["headers"])

    assert headers("get") == (
        {TOKEN, "Prefer", "If-None-Match"},
        {"Consistency", "Preference-Applied", "ETag"},
    )
    assert headers("post") == ({TOKEN, "If-Match", "idempotency-key"}, {TOKEN, "ETag"})


def test_openapi_names_each_header_once(client: TestClient) -> None:
    client.get("/openapi.json")
    operation = client.get("/openapi.json").json()["paths"]["/accounts/{account}/deposits"]["put"]
    names = [each["name"].lower() for each in operation["parameters"]]
    assert len(names) == len(set(names))
    assert "if-match" in names
