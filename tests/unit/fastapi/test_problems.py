"""The FastAPI edge, as a stranger's application uses it."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from pydantic import BaseModel, Field

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from twofold import errors
from twofold.fastapi import BodyLimit, CommandId, ExactJsonRoute, add_problem_details, problem_responses

KEY = "0198c7a1-5f0e-7c3e-9a57-3d1f0a4be001"


class CupboardError(Exception):
    field: str | None = None


class CupboardBareError(CupboardError):
    pass


class ShelfTooHighError(CupboardError):
    field = "shelf"


class Shelf(BaseModel):
    height: Annotated[int, Field(ge=1)]


class Cupboard(BaseModel):
    shelves: list[Shelf]
    price: Decimal


RAISED: dict[str, Exception] = {
    "bare": CupboardBareError("the cupboard is bare"),
    "high": ShelfTooHighError("nobody can reach it"),
    "conflict": errors.ConflictError("somebody was faster"),
    "missing": errors.AggregateNotFoundError("Cupboard", "c1"),
    "reused": errors.CommandReusedError(UUID(KEY)),
    "cursor": errors.InvalidCursorError("not one of ours"),
    "full": errors.StorageFullError("/srv/orders.db: disk is full (13)"),
    "unknown": errors.OutcomeUnknownError("no answer from 10.0.0.7:5432"),
    "newer": errors.NewerStorageError("/srv/orders.db is at migration 9"),
    "bug": errors.HandlerNotFoundError(Shelf, "commands"),
    "secret": KeyError("password=hunter2"),
    "teapot": HTTPException(418, "short and stout", {"X-Spout": "yes"}),
}


@pytest.fixture
def client() -> Iterator[TestClient]:
    api = FastAPI()
    add_problem_details(api, statuses={CupboardError: 409, ShelfTooHighError: 422}, max_body=1000)
    exact = APIRouter(route_class=ExactJsonRoute)

    @api.get("/raise/{name}", responses=problem_responses(409))
    async def fail(name: str) -> None:
        raise RAISED[name]

    @exact.post("/cupboards")
    async def build(cupboard: Cupboard, id: CommandId) -> dict[str, Any]:
        return {"price": str(cupboard.price), "id": str(id)}

    @exact.post("/anything")
    async def anything(request: Request) -> str:
        return repr(await request.json())

    @exact.post("/dependent")
    async def dependent(found: str = Depends(anything)) -> str:
        return found

    @api.post("/raw")
    async def raw(request: Request) -> int:
        return len(await request.body())

    api.include_router(exact)
    with TestClient(api, raise_server_exceptions=False) as client:
        yield client


CODES = {
    "conflict": "TE301", "missing": "TE311", "reused": "TE305", "cursor": "TE507", "full": "TE404",
    "unknown": "TE310", "newer": "TE409",
}  # fmt: skip
"""The codes of Twofold's own errors; those of the application and of the web framework have none."""


@pytest.mark.parametrize(
    ("name", "status", "type", "field"),
    [
        ("bare", 409, "urn:problem:cupboard-bare", None),
        ("high", 422, "urn:problem:shelf-too-high", "shelf"),
        ("conflict", 409, "urn:problem:conflict", None),
        ("missing", 404, "urn:problem:aggregate-not-found", None),
        ("reused", 422, "urn:problem:command-reused", "Idempotency-Key"),
        ("cursor", 422, "urn:problem:invalid-cursor", "cursor"),
        ("full", 503, "urn:problem:storage-full", None),
        ("unknown", 503, "urn:problem:outcome-unknown", None),
        ("newer", 503, "urn:problem:newer-storage", None),
        ("teapot", 418, "about:blank", None),
    ],
)
def test_an_error_becomes_a_problem(client: TestClient, name: str, status: int, type: str, field: str | None) -> None:
    answer = client.get(f"/raise/{name}")
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, problem["status"], problem["type"]) == (status, status, type)
    if isinstance(RAISED[name], errors.StorageError | errors.OutcomeUnknownError):
        assert str(RAISED[name]) not in answer.text  # see test_what_a_database_said_stays_in_the_log
    else:
        assert problem["detail"] in (str(RAISED[name]), "short and stout")
    assert problem["instance"] == f"/raise/{name}"
    assert problem.get("code") == CODES.get(name)
    assert [each["field"] for each in problem.get("errors", [])] == ([field] if field else [])


def test_what_is_temporary_says_when_to_come_back(client: TestClient) -> None:
    assert client.get("/raise/full").headers["retry-after"] == "1"


def test_headers_of_an_http_error_are_kept(client: TestClient) -> None:
    assert client.get("/raise/teapot").headers["x-spout"] == "yes"
    assert client.delete("/raw").headers["allow"] == "POST"


@pytest.mark.parametrize("name", ["secret", "bug"])
def test_a_fault_of_the_program_is_a_500_that_tells_nothing(client: TestClient, name: str) -> None:
    answer = client.get(f"/raise/{name}")
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert "hunter2" not in answer.text
    assert "handler" not in answer.text


def test_an_unknown_path_and_a_wrong_method_are_problems(client: TestClient) -> None:
    for answer, status in ((client.get("/none"), 404), (client.get("/raw"), 405)):
        assert (answer.status_code, answer.json()["status"]) == (status, status)
        assert answer.headers["content-type"] == "application/problem+json"


def test_an_invalid_body_names_each_field(client: TestClient) -> None:
    answer = client.post("/cupboards", json={"shelves": [{"height": 1}, {"height": 0}]})
    assert answer.status_code == 422
    assert [each["field"] for each in answer.json()["errors"]] == ["shelves[1].height", "price"]
    assert answer.json()["detail"].startswith("shelves[1].height: ")


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"",
        b"\xff",
        b'{"shelves": [], "price": NaN}',
        b'{"shelves": [], "price": -Infinity}',
        b'{"shelves": [{"height": 1e999999999}], "price": 1}',
        b'{"shelves": [], "price": 1e-999999999}',
        b'{"shelves": [{"height": ' + b"9" * 900 + b"}]}",
        b"[" * 999,
        b'"\\ud800"',
        b"null",
    ],
)
def test_whatever_is_no_body_is_refused(client: TestClient, body: bytes) -> None:
    answer = client.post("/cupboards", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["errors"]


def test_a_body_that_is_not_declared_as_json_is_told_how_to_be(client: TestClient) -> None:
    answer = client.post("/cupboards", content=b'{"shelves": [], "price": 1}')
    assert (answer.status_code, answer.headers["accept"]) == (415, "application/json")
    assert "Content-Type: application/json" in answer.json()["detail"]


def test_numbers_are_read_as_they_are_written(client: TestClient) -> None:
    number = "0.1000000000000000055511151231257827"
    answer = client.post(
        "/cupboards", content=f'{{"shelves": [], "price": {number}}}', headers={"Content-Type": "application/json"}
    )
    assert answer.json()["price"] == number


def test_a_body_at_the_limit_is_taken_and_a_larger_one_is_not(client: TestClient) -> None:
    assert client.post("/raw", content=b"x" * 1000).json() == 1000
    answer = client.post("/raw", content=b"x" * 1001)
    assert (answer.status_code, answer.headers["content-type"]) == (413, "application/problem+json")
    assert answer.json()["detail"] == "the body is larger than 1000 bytes"


def test_a_larger_body_is_refused_also_when_its_length_is_not_declared(client: TestClient) -> None:
    for path in ("/raw", "/cupboards"):
        answer = client.post(path, content=iter([b"x" * 600] * 2), headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.headers["content-type"]) == (413, "application/problem+json")


async def test_what_is_not_http_passes_the_limit() -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    await BodyLimit(app)({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
    assert seen == ["lifespan"]


def test_an_idempotency_key_is_the_command_id_or_leads_to_it(client: TestClient) -> None:
    def id_for(key: str | None) -> str:
        headers = {"Idempotency-Key": key} if key else {}
        return str(client.post("/cupboards", json={"shelves": [], "price": 1}, headers=headers).json()["id"])

    assert id_for(KEY) == KEY
    assert id_for("cup") == id_for("cup") != id_for("board")
    assert id_for(None) != id_for(None)


def test_an_empty_idempotency_key_is_refused(client: TestClient) -> None:
    answer = client.post("/cupboards", json={"shelves": [], "price": 1}, headers={"Idempotency-Key": ""})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "idempotency-key")


def test_openapi_shows_the_problems(client: TestClient) -> None:
    responses = client.get("/openapi.json").json()["paths"]["/raise/{name}"]["get"]["responses"]
    assert responses["409"]["content"]["application/problem+json"]["example"]["status"] == 409


@pytest.mark.parametrize("path", ["/anything", "/dependent"])
def test_numbers_are_exact_for_an_endpoint_that_reads_the_request_itself(client: TestClient, path: str) -> None:
    answer = client.post(path, content="[0.1, 1]", headers={"content-type": "application/json"})
    assert answer.json() == "[Decimal('0.1'), 1]"
