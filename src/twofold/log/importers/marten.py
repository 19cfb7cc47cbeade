"""Marten: the tables `mt_events` and `mt_streams` in PostgreSQL."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

from twofold.log.importers.foreign_source import POSITION, ForeignRow, extra
from twofold.log.importers.tables import Row
from twofold.messages.event import Metadata

NO_TENANT = "*DEFAULT*"
_WORDS = re.compile(r"[^A-Za-z0-9]+")


class Marten:
    """A `ForeignStore` of Marten.

    The .NET class of an event becomes its type, the aggregate of a stream the stream's type, headers become `extra`,
    and tenants stay tenants. Tombstones, which fill gaps of the sequence, are no events.
    """

    table = "mt_events"
    column = "seq_id"

    def statement(self, table: str, *, is_postgres: bool) -> str:
        """Do what `ForeignStore.statement` promises."""
        if not is_postgres:
            raise ValueError("Marten is in a PostgreSQL database")
        schema = table.rpartition(".")[0]
        streams = f'{schema}."mt_streams"' if schema else '"mt_streams"'
        return (
            f"SELECT e.seq_id AS {POSITION}, e.*, s.type AS stream_alias, e.data::text AS data_text FROM {table} AS e "
            f"LEFT JOIN {streams} AS s ON s.id = e.stream_id AND s.tenant_id = e.tenant_id WHERE e.type <> 'tombstone'"
        )

    def row(self, columns: Row) -> ForeignRow:
        """Do what `ForeignStore.row` promises."""
        if columns["data_text"] is None:
            raise ValueError("it has no JSON; Marten has stored it in a binary form")
        stream_type = _camel(columns["stream_alias"]) or "Stream"
        stream, tenant = columns["stream_id"], columns.get("tenant_id") or NO_TENANT
        return ForeignRow(
            event_id=columns["id"],
            recorded_at=columns["timestamp"],
            type=_class_of(columns.get("mt_dotnet_type")) or _camel(columns["type"]),
            stream_id=f"{stream_type}-{stream}" if isinstance(stream, UUID) else stream,
            stream_type=stream_type,
            version=columns["version"],
            data=columns["data_text"],
            metadata=_metadata(columns),
            tenant="" if tenant == NO_TENANT else tenant,
        )


def _metadata(columns: Row) -> Metadata:
    ids: dict[str, Any] = {}
    others = dict(columns.get("headers") or {})
    for name in ("correlation_id", "causation_id"):
        if (value := columns.get(name)) is not None:
            found = _uuid(value)
            if found is None:
                others[name] = value
            else:
                ids[name] = found
    return Metadata(**ids, user=columns.get("user_name"), extra=extra(others))


def _uuid(value: Any) -> UUID | None:
    try:
        return UUID(str(value))
    except ValueError:
        return None


def _class_of(dotnet_type: str | None) -> str:
    """Return the name of a class, given `Namespace.Outer+Class, Assembly`."""
    return re.split(r"[.+]", (dotnet_type or "").partition(",")[0].strip())[-1]


def _camel(alias: str | None) -> str:
    """Return `MembersJoined` of `members_joined`."""
    return "".join(word[:1].upper() + word[1:] for word in _WORDS.split(alias or ""))
