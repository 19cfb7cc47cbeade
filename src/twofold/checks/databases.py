"""What is wrong with the databases and machines beneath an application, found without its code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from twofold.checks.findings import Finding
from twofold.options import InspectionOptions
from twofold.ports.maintenance import PortableLog


@dataclass(frozen=True, kw_only=True)
class DatabaseReport:
    """What an examination of a database has found."""

    facts: Mapping[str, str]
    """Versions and settings, by their names."""
    findings: Sequence[Finding]


async def examine_database(log: PortableLog, options: InspectionOptions | None = None) -> DatabaseReport:
    """Examine the database of an open log, the role and the machine: settings, privileges, disk, clocks, versions.

    Raises:
        StorageError: the database failed.
    """
    facts, symptoms = await log.examine(options or InspectionOptions())
    return DatabaseReport(facts=facts, findings=[Finding(**each._asdict()) for each in symptoms])
