"""The package `eventsourcing`, release 9: the table `stored_events` in SQLite or PostgreSQL."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

import msgspec

from twofold.log.importers.foreign_source import POSITION, ForeignRow
from twofold.log.importers.tables import Row
from twofold.messages.event import EPOCH

_UNREADABLE = (
    "its state is no JSON object: it is compressed, encrypted, or written by a transcoder of your own; let the "
    "application write it into another database without these, and import that"
)


class Eventsourcing:
    """A `ForeignStore` of `eventsourcing`.

    `Dog.TrickAdded` is the type of an event and `Dog` that of its stream, by its topic. Dates, decimals and UUIDs
    become texts as Twofold stores them, `class_version` becomes the schema version. Ids follow from originator and
    version.
    """

    table = "stored_events"
    column = "notification_id"

    def __init__(self) -> None:
        self._last = EPOCH

    def statement(self, table: str, *, is_postgres: bool) -> str:
        """Do what `ForeignStore.statement` promises."""
        position = "notification_id" if is_postgres else "rowid"
        return (
            f"SELECT e.{position} AS {POSITION}, e.originator_id, e.originator_version, e.topic, e.state, "
            f"(SELECT f.topic FROM {table} AS f WHERE f.originator_id = e.originator_id "
            f"ORDER BY f.originator_version LIMIT 1) AS first_topic FROM {table} AS e"
        )

    def row(self, columns: Row) -> ForeignRow:
        """Do what `ForeignStore.row` promises."""
        state = _state(columns["state"])
        self._last = time = _time(state.pop("timestamp", None), self._last)
        state.pop("originator_topic", None)
        schema_version = state.pop("class_version", 1)
        originator, version = _originator(columns["originator_id"]), columns["originator_version"]
        stream_type = _class_of(columns["first_topic"])
        return ForeignRow(
            event_id=uuid5(NAMESPACE_OID, f"{originator}/{version}"),
            recorded_at=time,
            type=columns["topic"].rpartition(":")[2],
            stream_id=f"{stream_type}-{originator}",
            stream_type=stream_type,
            version=version,
            data=state,
            schema_version=schema_version,
        )


def _class_of(topic: str) -> str:
    """Return the name of the class that an event is of, given `module:Dog.TrickAdded`."""
    return topic.rpartition(":")[2].rpartition(".")[0] or "Aggregate"


def _originator(stored: Any) -> str:
    try:
        return str(UUID(str(stored)))
    except ValueError:
        return str(stored)


def _state(stored: Any) -> dict[str, Any]:
    try:
        state = msgspec.json.decode(bytes(stored), type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ValueError(_UNREADABLE) from None
    return {name: _plain(value) for name, value in state.items()}


def _plain(value: Any) -> Any:
    """Return a value without the names of transcodings around it."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"_type_", "_data_"}:
        inner = _plain(value["_data_"])
        return str(UUID(inner)) if value["_type_"] == "uuid_hex" else inner
    return {name: _plain(each) for name, each in value.items()}


def _time(stored: Any, last: datetime) -> datetime:
    """Return when an event was made; without a timestamp it has that of the event before it."""
    return datetime.fromisoformat(stored) if isinstance(stored, str) else last
