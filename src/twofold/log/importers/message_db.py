"""message-db: one table of messages in PostgreSQL, `message_store.messages`."""

from __future__ import annotations

import msgspec

from twofold.log.importers.foreign_source import POSITION, ForeignRow, extra
from twofold.log.importers.tables import Row
from twofold.messages.event import Metadata


class MessageDb:
    """A `ForeignStore` of message-db. The category of a stream becomes its type, and metadata becomes `extra`."""

    table = "message_store.messages"
    column = "global_position"

    def statement(self, table: str, *, is_postgres: bool) -> str:
        """Do what `ForeignStore.statement` promises."""
        if not is_postgres:
            raise ValueError("message-db is in a PostgreSQL database")
        return (
            f"SELECT global_position AS {POSITION}, global_position, position, time, stream_name, type, id, "
            f"data::text AS data, metadata::text AS metadata FROM {table}"
        )

    def row(self, columns: Row) -> ForeignRow:
        """Do what `ForeignStore.row` promises."""
        known = msgspec.json.decode(columns["metadata"] or "{}", type=dict[str, object] | None)
        return ForeignRow(
            event_id=columns["id"],
            recorded_at=columns["time"],
            type=columns["type"],
            stream_id=columns["stream_name"],
            stream_type=columns["stream_name"].partition("-")[0],
            version=columns["position"] + 1,
            data=columns["data"] or "{}",
            metadata=Metadata(extra=extra(known)),
        )
