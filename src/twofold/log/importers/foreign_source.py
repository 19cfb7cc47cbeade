"""The events of another store, in the order of its table, as rows that Twofold could have stored."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Protocol
from uuid import UUID

import msgspec

from twofold.errors import ForeignEventError, TwofoldError
from twofold.log.chunks import pace_of_all
from twofold.log.codec.event_types import encode_metadata
from twofold.log.importers.tables import Row, Tables, quoted
from twofold.log.moving.plain_event import SourceEvent, encode, plain_event_of
from twofold.messages.event import EPOCH, Metadata
from twofold.messages.stored_event import StoredEvent
from twofold.messages.tenant_names import own_name, tenant_tag
from twofold.options import LogOptions

POSITION = "twofold_position"
"""The column that the statement of a store gives the position."""
_TABLES = """
    SELECT c.table_schema, c.table_name FROM information_schema.columns AS c
    JOIN information_schema.tables AS t USING (table_schema, table_name)
    WHERE c.column_name = ? AND t.table_type = 'BASE TABLE' ORDER BY c.table_schema, c.table_name
"""
_MICROSECOND = timedelta(microseconds=1)


class ForeignRow(NamedTuple):
    """What the default mapping of a store makes of a row."""

    event_id: UUID
    recorded_at: datetime
    type: str
    stream_id: str
    stream_type: str
    version: int
    data: Any
    """A dict, or JSON as bytes or text, which stays byte for byte."""
    schema_version: int = 1
    metadata: Metadata = Metadata()
    tenant: str = ""


class ForeignStore(Protocol):
    """What one kind of store has: a table, and what a row of it becomes."""

    table: str
    """What it is called by default, with its schema."""
    column: str
    """A column that in a PostgreSQL database no other table has, so that one of another name is found."""

    def statement(self, table: str, *, is_postgres: bool) -> str:
        """Return a SELECT of all rows that are events, with their positions as `POSITION`, which only grow."""

    def row(self, columns: Row) -> ForeignRow:
        """Return what a row becomes.

        Raises:
            ValueError, TypeError, KeyError: it cannot be understood.
        """


class ForeignSource:
    """An `EventSource` of another store.

    Args:
        tables: its open database.
        store: which kind it is.
        table: the name of its table, as SQL has it.
        options: how much is read at once.
    """

    def __init__(self, tables: Tables, store: ForeignStore, table: str, options: LogOptions) -> None:
        self._tables = tables
        self._store = store
        self._table = table
        self._statement = store.statement(table, is_postgres=tables.is_postgres)
        self._options = options

    async def end(self) -> int:
        """Do what `EventSource.end` promises."""
        [found] = await self._tables.read(f"SELECT max({POSITION}) AS last FROM ({self._statement}) AS events", ())
        return int(found["last"] or 0)

    async def count(self, end: int) -> int:
        """Return how many events there are up to a position.

        Raises:
            StorageError: the database failed.
        """
        statement = f"SELECT count(*) AS events FROM ({self._statement}) AS events WHERE {POSITION} <= ?"
        [found] = await self._tables.read(statement, (end,))
        return int(found["events"])

    async def chunks(self, end: int) -> AsyncGenerator[Sequence[SourceEvent]]:
        """Do what `EventSource.chunks` promises."""
        after = -(2**62)
        page = f"SELECT * FROM ({self._statement}) AS events WHERE {POSITION} > ? AND {POSITION} <= ?"
        options = self._options
        pace = pace_of_all(options)
        while rows := await self._tables.read(f"{page} ORDER BY {POSITION} LIMIT {pace.size}", (after, end)):
            events = [self._event(columns) for columns in rows]
            pace.adapt([each.stored for each in events])
            yield events
            after = events[-1].position

    def _event(self, columns: Row) -> SourceEvent:
        position = columns[POSITION]
        try:
            stored = _stored(self._store.row(columns), position)
            event = plain_event_of(stored)
        except (ValueError, TypeError, KeyError, TwofoldError) as error:
            raise ForeignEventError(f"{self._table}, row {position}", str(error)) from error
        return SourceEvent(event=event, stored=stored, columns={k: v for k, v in columns.items() if k != POSITION})


async def table_of(tables: Tables, store: ForeignStore) -> str:
    """Return the name of the table of a store, as SQL has it.

    Raises:
        ValueError: there are several.
        StorageError: the database failed.
    """
    if not tables.is_postgres:
        return quoted(store.table)
    found = await tables.read(_TABLES, (store.column,))
    names = [f"{row['table_schema']}.{row['table_name']}" for row in found]
    if len(names) > 1:
        raise ValueError(f"`table`: there are several, {', '.join(names)}; say which")
    return quoted(names[0] if names else store.table)


def extra(values: Mapping[str, Any] | None) -> dict[str, str]:
    """Return values as those of `Metadata.extra`: texts stay, others become JSON."""
    return {
        name: value if isinstance(value, str) else msgspec.json.encode(value).decode()
        for name, value in (values or {}).items()
        if value is not None
    }


def _stored(row: ForeignRow, position: int) -> StoredEvent:
    tags = [tenant_tag(row.tenant)] if row.tenant else []
    return StoredEvent(
        position=position,
        version=row.version,
        recorded_at=(_aware(row.recorded_at) - EPOCH) // _MICROSECOND,
        checksum=0,
        stream_id=own_name(row.tenant, row.stream_id) if row.tenant else row.stream_id,
        stream_type=row.stream_type,
        type=row.type,
        schema_version=row.schema_version,
        event_id=row.event_id.bytes,
        payload=_payload(row.data),
        metadata=encode_metadata(row.metadata),
        tags=encode(tags),
    )


def _payload(data: Any) -> bytes:
    payload = data.encode() if isinstance(data, str) else data if isinstance(data, bytes) else encode(data)
    if not payload.lstrip().startswith(b"{"):
        raise ValueError("its data is no JSON object")
    return payload


def _aware(time: datetime) -> datetime:
    return time if time.tzinfo else time.replace(tzinfo=UTC)
