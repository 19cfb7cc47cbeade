"""Stores that are not Twofold's, filled by their own code, or by SQL after their public documentation."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

import psycopg
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.json import Jsonb

BEGIN = datetime(2020, 1, 1, 12, tzinfo=UTC)
NAMESPACE = UUID(int=7)


class Dog(Aggregate):  # type: ignore[misc]
    """An aggregate of `eventsourcing`, as its documentation has it."""

    @event("Registered")  # type: ignore[untyped-decorator]
    def __init__(self, name: str) -> None:
        self.name = name
        self.tricks: list[str] = []

    @event("TrickAdded")  # type: ignore[untyped-decorator]
    def add_trick(self, trick: str, price: Decimal, shown_to: UUID) -> None:
        self.tricks.append(trick)


class Puppy(Dog):
    """One that inherits its events."""


class Dogs(Application):  # type: ignore[misc]
    """Uses them."""


def dogs_at(url: str, **settings: str) -> Application:
    """Return an application of `eventsourcing` on a database."""
    if url.startswith("sqlite:///"):
        database = {"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": url.removeprefix("sqlite:///")}
    else:
        found = conninfo_to_dict(url)
        database = {
            "PERSISTENCE_MODULE": "eventsourcing.postgres", "POSTGRES_DBNAME": str(found["dbname"]),
            "POSTGRES_HOST": str(found.get("host", "")), "POSTGRES_PORT": str(found.get("port", "5432")),
            "POSTGRES_USER": str(found.get("user", "postgres")), "POSTGRES_PASSWORD": "unused",
        }  # fmt: skip
    return Dogs(env=database | settings)


def keep_dogs(app: Application, dogs: int) -> list[Any]:
    """Let dogs learn tricks by turns, and return the events in the order in which they were stored."""
    kept = [Puppy(f"d{n}") if n % 3 == 0 else Dog(f"d{n}") for n in range(dogs)]
    stored = []
    for trick in ("roll", "sit"):
        for number, dog in enumerate(kept):
            dog.add_trick(trick, Decimal("1.50"), UUID(int=number))
            stored += dog.pending_events
            app.save(dog)
    return stored


MESSAGE_DB = """
CREATE SCHEMA message_store;
CREATE TABLE message_store.messages (
    global_position bigserial PRIMARY KEY, position bigint NOT NULL, id uuid NOT NULL DEFAULT gen_random_uuid(),
    time timestamp NOT NULL DEFAULT (now() AT TIME ZONE 'utc'), stream_name text NOT NULL, type text NOT NULL,
    data jsonb, metadata jsonb);
CREATE UNIQUE INDEX ON message_store.messages (stream_name, position);
"""


def fill_message_db(url: str, messages: int) -> list[dict[str, Any]]:
    """Write messages of a few accounts, with gaps in their positions, and return them in order."""
    rows = []
    for n in range(messages):
        rows.append({
            "at": 3 * n + 1, "position": n // 4, "id": uuid5(NAMESPACE, str(n)), "stream": f"account-{n % 4}",
            "time": (BEGIN + timedelta(seconds=n, microseconds=n)).replace(tzinfo=None), "type": "Deposited",
            "data": Jsonb({"accountId": str(n % 4), "amount": n}) if n % 5 else None,
            "metadata": Jsonb({"replyStreamName": f"saga-{n}", "schemaVersion": 1}) if n % 2 else None,
        })  # fmt: skip
    with psycopg.connect(url) as connection:
        connection.execute(MESSAGE_DB)
        connection.cursor().executemany(
            "INSERT INTO message_store.messages "
            "(global_position, position, id, time, stream_name, type, data, metadata) "
            "VALUES (%(at)s, %(position)s, %(id)s, %(time)s, %(stream)s, %(type)s, %(data)s, %(metadata)s)",
            rows[::-1],
        )
    return rows


MARTEN = """
CREATE SCHEMA events;
CREATE TABLE events.mt_streams (
    id {id} NOT NULL, type varchar, version bigint, timestamp timestamptz NOT NULL DEFAULT now(), snapshot jsonb,
    snapshot_version integer, created timestamptz NOT NULL DEFAULT now(),
    tenant_id varchar NOT NULL DEFAULT '*DEFAULT*', is_archived boolean DEFAULT false, PRIMARY KEY (tenant_id, id));
CREATE TABLE events.mt_events (
    seq_id bigint PRIMARY KEY, id uuid NOT NULL, stream_id {id}, version bigint NOT NULL, data jsonb NOT NULL,
    type varchar(500) NOT NULL, timestamp timestamptz NOT NULL DEFAULT now(),
    tenant_id varchar NOT NULL DEFAULT '*DEFAULT*', mt_dotnet_type varchar, correlation_id varchar,
    causation_id varchar, headers jsonb, is_archived boolean DEFAULT false);
"""


def fill_marten(url: str, events: int, *, tenants: bool = False, keys: str = "uuid") -> list[dict[str, Any]]:
    """Write events of a few quests, with a tombstone among them, and return them in order."""
    rows = []
    for n in range(events):
        stream = uuid5(NAMESPACE, f"quest {0 if tenants else n % 3}")  # tenants may choose the same
        rows.append({
            "seq_id": 2 * n + 1, "id": uuid5(NAMESPACE, str(n)), "version": n // 3 + 1,
            "stream": stream if keys == "uuid" else f"quest-{n % 3}", "data": Jsonb({"Name": f"n{n}", "Day": n}),
            "type": "members_joined" if n % 2 else "quest_started", "time": BEGIN + timedelta(seconds=n),
            "tenant": ("acme", "umbra", "*DEFAULT*")[n % 3] if tenants else "*DEFAULT*",
            "dotnet": "Marten.Tests.Quests+MembersJoined, Marten.Tests" if n % 2 else None,
            "correlation": str(uuid5(NAMESPACE, "c")) if n % 2 else "request 7",
            "headers": Jsonb({"by": "ann", "n": n}),
        })  # fmt: skip
    streams = {(row["stream"], row["tenant"]) for row in rows}
    with psycopg.connect(url) as connection:
        connection.execute(MARTEN.format(id=keys))
        connection.cursor().executemany(
            "INSERT INTO events.mt_streams (id, tenant_id, type) VALUES (%s, %s, 'quest_party')", streams
        )
        connection.cursor().executemany(
            "INSERT INTO events.mt_events (seq_id, id, stream_id, version, data, type, timestamp, tenant_id, "
            "mt_dotnet_type, correlation_id, headers) VALUES (%(seq_id)s, %(id)s, %(stream)s, %(version)s, %(data)s, "
            "%(type)s, %(time)s, %(tenant)s, %(dotnet)s, %(correlation)s, %(headers)s)",
            rows,
        )
        connection.execute(
            "INSERT INTO events.mt_events (seq_id, id, stream_id, version, data, type) VALUES "
            "(2, gen_random_uuid(), %s, 0, '{}', 'tombstone')",
            (rows[0]["stream"],),
        )
    return rows
