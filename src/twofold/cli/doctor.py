"""`twofold doctor`: what is wrong with the databases and the machine beneath an application."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Annotated

from cyclopts import Parameter

from twofold.checks.databases import DatabaseReport, examine_database
from twofold.checks.findings import Finding, without
from twofold.cli.checks import Ignore, Strict, tell, verdict
from twofold.cli.output import Json, opened, opened_read_models, say, say_document
from twofold.engines.urls import hide_secrets, without_secrets
from twofold.errors import StorageError

Urls = Annotated[str, Parameter(help="The databases, such as sqlite:///orders.db.")]


async def doctor(*urls: Urls, ignore: Ignore = (), strict: Strict = False, as_json: Json = False) -> int:
    """Examine databases: settings, roles, encodings, disk, clocks, versions, migrations. It changes nothing.

    Each finding has a code that stays what it is, and says what to do. The exit code is 1 if there is an error.

    Example: `twofold doctor postgresql://app@db/orders --ignore TF207`
    """
    if not urls:
        raise ValueError("name a database, such as `twofold doctor sqlite:///orders.db`")
    found: list[Finding] = []
    if not as_json:
        say(f"twofold {version('twofold')}, Python {platform.python_version()}, {platform.system()}")
    for url in urls:
        report = await _examined(url)
        findings = without(report.findings, ignore)
        if as_json:
            say_document({"url": without_secrets(url), "facts": dict(report.facts)})
        else:
            say(f"{without_secrets(url)}: {', '.join(f'{name} {value}' for name, value in report.facts.items())}")
        for each in findings:
            tell(each, as_json=as_json)
        found += findings
    return verdict(found, strict=strict, as_json=as_json)


async def _examined(url: str) -> DatabaseReport:
    try:
        async with opened(url) as log, opened_read_models(url) as database:
            return await examine_database(log, database=database)
    except StorageError as error:
        text = f"{without_secrets(url)}: {hide_secrets(str(error), url)}"
        return DatabaseReport(facts={}, findings=[Finding(code="TF201", subject=without_secrets(url), text=text)])
