"""What is wrong with the databases and machines beneath an application, found without its code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from twofold.checks.findings import Finding
from twofold.options import InspectionOptions
from twofold.ports.archives import ArchivableLog
from twofold.ports.maintenance import PortableLog
from twofold.ports.read_database import ReadDatabase
from twofold.processes.control import ProcessControl, processes_of


@dataclass(frozen=True, kw_only=True)
class DatabaseReport:
    """What an examination of a database has found."""

    facts: Mapping[str, str]
    """Versions and settings, by their names."""
    findings: Sequence[Finding]


async def examine_database(
    log: PortableLog, options: InspectionOptions | None = None, *, database: ReadDatabase | None = None
) -> DatabaseReport:
    """Examine the database of an open log, the role and the machine: settings, privileges, disk, clocks, versions.

    Args:
        log: which.
        options: from when on something is wrong.
        database: the read models beside the log, open: of each process, the report then tells how many instances go on,
            and of how many that have ended a row is kept.

    Raises:
        StorageError: the database failed.
    """
    facts, symptoms = await log.examine(options or InspectionOptions())
    findings = [Finding(**each._asdict()) for each in symptoms]
    findings += await _of_archives(log)
    if database is not None:
        facts = {**facts, **await _of_processes(log, database)}
    return DatabaseReport(facts=facts, findings=findings)


async def _of_archives(log: PortableLog) -> Sequence[Finding]:
    if not hasattr(log, "archives"):
        return []
    archivable = cast(ArchivableLog, log)
    looked_at = [(each, archivable.archive.examine(each)) for each in await archivable.archives()]
    return [Finding(code="TF212", subject=f"archive {each.number}", text=text) for each, text in looked_at if text]


async def _of_processes(log: PortableLog, database: ReadDatabase) -> Mapping[str, str]:
    found = {}
    for name in await processes_of(database):
        counts = await ProcessControl(log, database, name).counts()
        going_on, ended = counts.running + counts.stuck, counts.completed + counts.cancelled
        found[f"process {name}"] = f"{going_on:,} going on, {ended:,} ended and kept"
    return found
