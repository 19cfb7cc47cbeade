"""Whether a read model that was built again may serve: compared with the log, with the earlier one, and by the user."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from twofold.log.event_store import EventStore
from twofold.options import SynchronizerOptions
from twofold.ports.checkpoints import SQL, Generation
from twofold.ports.read_database import ReadDatabase, ReadTransaction, Selection
from twofold.ports.sql import quoted
from twofold.ports.table import Column, Kind
from twofold.projections.runner import ProjectionRunner, RowRunner
from twofold.queries.read_model import ReadModel
from twofold.synchronizer.aside.events_of_rows import queries_of
from twofold.synchronizer.aside.fresh_rows import fresh_rows
from twofold.tasks import JITTER
from twofold.tenants import all_tenants

Ask = Callable[..., Awaitable[list[tuple[Any, ...]]]]
"""Runs a statement with its values, within a transaction or not."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What the verification found. Stored."""

    expect_same: bool = False
    """Whether any difference to the earlier read model is a fault."""
    reason: str = ""
    """Why it must not serve; empty if nothing speaks against it."""
    sampled: int = 0
    """Rows that were compared with a fresh fold of the log, and equal it."""
    rows_before: int | None = None
    rows_after: int | None = None
    missing: int | None = None
    """Rows of the earlier read model that are not, or not so, in the new one; compared if `expect_same`."""
    added: int | None = None
    """Rows of the new read model that are not, or not so, in the earlier one."""


async def store_report(transaction: ReadTransaction, generation: Generation, report: Report) -> None:
    """Store what the verification of a generation found."""
    text = msgspec.json.encode(report).decode()
    await transaction.run(SQL["set_report"], name=generation.name, generation=generation.number, report=text)


def read_report(generation: Generation) -> Report:
    """Return what the verification of a generation found."""
    return msgspec.json.decode(generation.report, type=Report) if generation.report else Report()


async def verify_sample(
    store: EventStore,
    database: ReadDatabase,
    runner: ProjectionRunner,
    new: Generation,
    end: int,
    report: Report,
    options: SynchronizerOptions = SynchronizerOptions(),  # noqa: B008 - it is immutable
) -> Report:
    """Compare rows at random with a fresh fold of the log up to a position, at which the read model stands.

    Raises:
        StorageError: a database failed.
        Exception: an event cannot be read.
    """
    report = await verify_nothing_parked(database.query, new, report)
    if report.reason or (rows := runner.rows) is None or rows.reads_others:
        return report
    stored = await _sampled_rows(database, rows, new, options)
    queries = await queries_of(store, rows, set(map(rows.projection.events_key, stored)), options.drawn_rows)
    fresh = await fresh_rows(store, database, rows, queries, end)
    dump = rows.projection.stored_rows().dump
    for key, row in stored.items():
        if key not in fresh or list(dump(fresh[key])) != list(dump(row)):
            reason = f"the row {key!r} is {row!r}, a fresh fold of the log gives {fresh.get(key)!r}"
            return msgspec.structs.replace(report, reason=reason)
    return msgspec.structs.replace(report, sampled=len(stored))


async def verify_nothing_parked(ask: Ask, new: Generation, report: Report) -> Report:
    """Refuse a read model in which events failed.

    Raises:
        StorageError: the database failed.
    """
    counts = await ask(SQL["parked_counts"])
    count = next((row[2] for row in counts if row[:2] == (new.name, new.number)), 0)
    return msgspec.structs.replace(report, reason=f"{count} events failed and are parked") if count else report


async def verify_rows(
    database: ReadDatabase, runner: ProjectionRunner, serving: Generation, new: Generation, report: Report
) -> Report:
    """Compare the new read model with the earlier one, and ask the projection's own check.

    Raises:
        StorageError: the database failed.
    """
    if (rows := runner.rows) is None:
        return report
    if serving.version == new.version:
        report = await _compared(database, rows, serving, new, report)
        if report.reason:
            return report
    model = ReadModel(database, rows.projection, generation=new)
    try:
        with all_tenants():
            await rows.projection.verify(model)
    except Exception as error:  # the user's own check says no, in whatever way
        return msgspec.structs.replace(report, reason=f"its own check says: {error or repr(error)}")
    return report


async def _compared(
    database: ReadDatabase, runner: RowRunner, serving: Generation, new: Generation, report: Report
) -> Report:
    before, after = runner.table(serving.suffix).name, runner.table(new.suffix).name
    [(rows_before, rows_after)] = await database.query(
        f"SELECT (SELECT count(*) FROM {quoted(before)}), (SELECT count(*) FROM {quoted(after)})"
    )
    report = msgspec.structs.replace(report, rows_before=rows_before, rows_after=rows_after)
    if rows_before and not rows_after:
        return msgspec.structs.replace(report, reason=f"it has no rows, the one that serves has {rows_before}")
    if not report.expect_same or runner.drive.by_appends:  # appends go on; it is done when they wait
        return report
    return await verify_same(database.query, runner, serving, new, report)


async def verify_same(
    ask: Ask,
    runner: RowRunner,
    serving: Generation,
    new: Generation,
    report: Report,
) -> Report:
    """Compare all rows of two generations that stand at the same position.

    Raises:
        StorageError: the database failed.
    """
    before, after = runner.table(serving.suffix).name, runner.table(new.suffix).name
    columns = ", ".join(_comparable(column) for column in runner.table("").columns)

    async def only_in(one: str, other: str) -> int:
        sql = f"SELECT {columns} FROM {quoted(one)} EXCEPT SELECT {columns} FROM {quoted(other)}"
        return int((await ask(f"SELECT count(*) FROM ({sql}) AS d"))[0][0])

    missing, added = await only_in(before, after), await only_in(after, before)
    reason = (
        f"{missing} rows of the one that serves are not so in it, {added} of its own are new"
        if missing or added
        else ""
    )
    return msgspec.structs.replace(report, missing=missing, added=added, reason=reason)


def _comparable(column: Column) -> str:
    name = quoted(column.name)
    return f"CAST({name} AS text)" if column.kind is Kind.JSON else name  # PostgreSQL cannot compare `json`


async def _sampled_rows(
    database: ReadDatabase, runner: RowRunner, generation: Generation, options: SynchronizerOptions
) -> dict[tuple[Any, ...], Any]:
    table, rows = runner.table(generation.suffix), runner.projection.stored_rows()
    found: dict[tuple[Any, ...], Any] = {}
    offset, times = 0, options.sample_draws
    while times:
        selection = Selection(sort=table.key, limit=options.drawn_rows, offset=offset)
        values, total = await database.select(table, selection)
        found |= {rows.key_of(row): row for row in rows.load_all(values)}
        offset, times = JITTER.randrange(max(total, 1)), times - 1
    return found
