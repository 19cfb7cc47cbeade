"""What an operator should know of the server, the role and the machine beneath a log on PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

from twofold.engines.postgres.log.queries import query as named
from twofold.engines.postgres.log.reader import Reader
from twofold.options import InspectionOptions
from twofold.ports.maintenance import Examination, Symptom

_OLDEST = 150_000
"""Of the versions that get corrections."""


class _Server(NamedTuple):
    """The row of the statement `examine`."""

    version: str
    number: int
    clock: float
    last: int
    role: str
    is_superuser: bool
    connections: int
    most_connections: int
    open_for: float
    autovacuum: str


async def examine(reader: Reader, options: InspectionOptions) -> Examination:
    """Return what the server and the role are like, and what is wrong with that."""
    began = time.time()
    found = _Server(*(await reader.rows(named("examine"), {}))[0])
    missing = [str(each) for (each,) in await reader.rows(named("missing_privileges"), {})]
    facts = {
        "engine": f"PostgreSQL {found.version}", "role": found.role,
        "connections": f"{found.connections} of {found.most_connections}",
        "longest transaction": f"{found.open_for:,.1f} s",
    }  # fmt: skip
    off = _off(found.clock, began, time.time())
    return Examination(facts, [*_of_clock(found, off, options), *_of_role(found, missing), *_of_server(found, options)])


def _off(clock: float, began: float, ended: float) -> float:
    """Return by how many seconds a clock is off for certain, however long the answer took."""
    return clock - ended if clock > ended else min(clock - began, 0.0)


def _of_clock(found: _Server, off: float, options: InspectionOptions) -> Iterator[Symptom]:
    if abs(off) > options.clock_difference:
        yield Symptom("TF202", "clock", f"The clock of the server is {off:+,.1f} s off that of this machine.")
    if (ahead := found.last / 1e6 - found.clock) > options.clock_difference:
        yield Symptom("TF202", "log", f"The last event was recorded {ahead:,.1f} s after the time of the server.")


def _of_role(found: _Server, missing: list[str]) -> Iterator[Symptom]:
    for each in missing:
        yield Symptom("TF206", found.role, f"The role {found.role} may not {each}.")
    if found.is_superuser:
        yield Symptom("TF207", found.role, f"The role {found.role} is a superuser.")


def _of_server(found: _Server, options: InspectionOptions) -> Iterator[Symptom]:
    if found.connections > options.used_connections * found.most_connections:
        text = f"{found.connections} of the server's {found.most_connections} connections are used."
        yield Symptom("TF208", "connections", text)
    if found.open_for > options.long_transaction:
        yield Symptom("TF209", "transactions", f"A transaction has been open for {found.open_for:,.0f} s.")
    if found.autovacuum != "on":
        yield Symptom("TF210", "autovacuum", "Autovacuum is off.")
    if found.number < _OLDEST:
        yield Symptom("TF211", "version", f"PostgreSQL {found.version} gets no corrections any more.")
