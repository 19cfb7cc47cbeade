"""The row of an instance: when it has something to do next, and what operators want to know of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from twofold.ports.segments import slot_of
from twofold.ports.sql import quoted, sql_blocks
from twofold.ports.table import Column, Kind, Table
from twofold.processes.instance import Failure, Instance, microseconds
from twofold.projections.keys.keyed_event import key_text

_failures = msgspec.json.Decoder(dict[str, Failure])


class InstanceRow(NamedTuple):
    """An instance as its table has it. stored: version with care. Times are microseconds since 1970-01-01 UTC."""

    id: str
    slot: int
    status: str
    version: int
    started_at: int
    changed_at: int
    next_at: int | None
    """When it has something to do next."""
    timer_at: int | None
    """When the first of its timers is due."""
    sent_at: int | None
    """When the first command was sent that has no outcome."""
    waiting: int
    """Commands without outcome."""
    ignored: int
    """Inputs that came after its end."""
    failures: str
    """JSON: why it does not get on; empty if it does."""

    def failing(self) -> Mapping[str, Failure]:
        """Return why it does not get on, by the timer or the id of the command that fails."""
        return failures_of(self.failures)


_NULLABLE = {"next_at", "timer_at", "sent_at"}
_TEXTS = {"id", "status", "failures"}
_COLUMNS = tuple(
    Column(name, Kind.TEXT if name in _TEXTS else Kind.INTEGER, name in _NULLABLE) for name in InstanceRow._fields
)


def table_of(process: str, suffix: str) -> Table:
    """Return the table of the instances of a process."""
    return Table(f"{process}{suffix}", _COLUMNS, ("id",), ("next_at", "status"), ())


def statement(name: str, table: Table) -> str:
    """Return a statement of `queries.sql` about the instances in a table."""
    columns = ", ".join(InstanceRow._fields)
    return sql_blocks("twofold.processes", table=quoted(table.name), columns=columns)[name]


def row_of(instance: Instance) -> tuple[Any, ...]:
    """Return the row of an instance."""
    timers = instance.timers.values()
    return InstanceRow(
        instance.id, slot_of(key_text((instance.id,))), instance.status.value, instance.version, instance.started_at,
        instance.changed_at, instance.next_at, min((microseconds(each.due_at) for each in timers), default=None),
        microseconds(instance.commands[0].sent_at) if instance.commands else None, len(instance.commands),
        instance.ignored, dump_failures(instance.failures),
    )  # fmt: skip


def with_row(instance: Instance, row: InstanceRow) -> Instance:
    """Return a folded instance with what only its row knows."""
    return instance.replace(ignored=row.ignored, failures=row.failing())


def dump_failures(failures: Mapping[str, Failure]) -> str:
    """Return failures as they are stored."""
    return msgspec.json.encode(failures).decode() if failures else ""


def failures_of(text: str) -> Mapping[str, Failure]:
    """Return failures from what is stored."""
    return _failures.decode(text) if text else {}
