"""No text shows a password, wherever it stands in a URL; what a URL cannot mean is refused by name."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from twofold import Application, open_event_store
from twofold.engines.engine import connect, connect_replica
from twofold.engines.postgres import PostgresDatabase
from twofold.engines.postgres.address import parse
from twofold.engines.urls import scheme_of

SECRET = "hunter2"
MALFORMED = [
    f"postgresql+asyncpg://ann:{SECRET}@host/orders",
    f"postgresql+psycopg2://ann:{SECRET}@host/orders",
    f"mysql://ann:{SECRET}@host/orders",
    f"mysql://host/orders?password={SECRET}",
    f"postgresql://ann:ab@{SECRET}@host/orders",
    f"postgresql://ann:%zz{SECRET}@host/orders",
    f"postgresql://host/orders?user=ann&password={SECRET}&unknown=1",
    f"postgresql://ann:{SECRET}@host/orders?pool_size=3",
    f"postgresql://ann:{SECRET}@host/orders?client_encoding=latin1",
    f"postgresql://ann:{SECRET}@host/orders?allow_unsafe_settings=perhaps",
    f"postgresql://ann:{SECRET}@[::1/orders",
]
ENTRANCES: list[Callable[[str], object]] = [connect, connect_replica, open_event_store, Application]


@pytest.mark.parametrize("enter", ENTRANCES, ids=lambda each: each.__name__)
@pytest.mark.parametrize("url", MALFORMED)
def test_what_a_url_cannot_mean_is_refused_without_its_password(enter: Callable[[str], object], url: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        enter(url)
    seen: BaseException | None = refused.value
    while seen is not None:
        assert SECRET not in str(seen)
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql+asyncpg://h/d", "uses psycopg; write postgresql://"),
        ("postgresql://h/d?sslmod=require", "unknown option 'sslmod'"),
        ("postgresql://u:p@ss@h/d", "write each @ in user and password as %40"),
        ("postgresql://h/d?client_encoding=latin1", "UTF8 only"),
        ("postgresql://u:%@h/d", "percent-encoded"),
    ],
)
def test_the_text_says_what_to_write(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        PostgresDatabase(url)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_a_password_is_the_drivers_however_it_is_written(scheme: str) -> None:
    for url in (
        f"{scheme}://ann:p%40ss%25@host:5433/orders",
        f"{scheme}://host:5433/orders?user=ann&password=p%40ss%25",
    ):
        address = parse(url)
        assert address.parameters["password"] == "p@ss%"
        assert address.parameters["user"] == "ann"
        assert address.name == "orders on host:5433"


def test_options_of_the_driver_are_passed_on() -> None:
    address = parse("postgresql://h1,h2/d?target_session_attrs=read-write&keepalives_idle=3&allow_unsafe_settings=true")
    assert address.allow_unsafe_settings
    assert address.hosts == 2
    assert address.parameters["keepalives_idle"] == "3"
    assert address.parameters["target_session_attrs"] == "read-write"
    assert address.parameters["tcp_user_timeout"] == "25000"
    assert address.parameters["client_encoding"] == "UTF8"


def test_the_engine_of_a_url_is_told_without_its_driver() -> None:
    assert [scheme_of(url) for url in ("postgresql+asyncpg://h", "SQLITE:///x", "x")] == ["postgresql", "sqlite", "x"]
