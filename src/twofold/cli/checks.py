"""`twofold check`: what an application declares and never uses, or uses and never declares."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Annotated

import msgspec
from cyclopts import Parameter

from twofold.application import Application
from twofold.checks.findings import Finding
from twofold.cli.applications import load
from twofold.cli.output import Json, out, say
from twofold.cli.rebuilds import Code, Url

Package = Annotated[
    tuple[str, ...],
    Parameter(name="--package", help="A package where messages are declared, once for each.", negative=""),
]
Ignore = Annotated[
    tuple[str, ...],
    Parameter(name="--ignore", help="A code, such as TF003, or TF003:OrderPrinted. Once for each.", negative=""),
]
Log = Annotated[bool, Parameter(name="--log", negative="", help="Compare the code with what its databases hold, too.")]
Strict = Annotated[bool, Parameter(name="--strict", negative="", help="Exit with 1 for warnings, too.")]


async def check(
    application: Code,
    /,
    *,
    url: Url = "",
    log: Log = False,
    package: Package = (),
    ignore: Ignore = (),
    strict: Strict = False,
    as_json: Json = False,
) -> int:
    """Check an application: commands and queries without handler, events that nothing takes, tags that no event has.

    Each finding has a code that stays what it is. The exit code is 1 if there is an error.

    Example: `twofold check orders.app:build --url sqlite:///orders.db --log`
    """
    app = load(application, url)
    findings = app.check(packages=package, ignore=ignore)
    if log:
        findings += await _findings_of_log(app, ignore)
    for each in findings:
        tell(each, as_json=as_json)
    errors = sum(each.level == "error" for each in findings)
    if not as_json:
        say(f"{errors} errors, {len(findings) - errors} warnings")
    return int(bool(errors or (strict and findings)))


async def _findings_of_log(app: Application, ignore: tuple[str, ...]) -> list[Finding]:
    async with AsyncExitStack() as stack:
        await app.store.log.open()
        stack.push_async_callback(app.store.log.close)
        for database in app.projections.databases:
            await database.open()
            stack.push_async_callback(database.close)
        return await app.check_log(ignore=ignore)


def tell(finding: Finding, *, as_json: bool) -> None:
    """Print a finding."""
    facts = {name: getattr(finding, name) for name in ("code", "level", "subject", "text", "why", "fix")}
    if as_json:
        say(msgspec.json.encode(facts).decode())
        return
    out.print(f"{finding.code} {finding.level}: {finding.text}", soft_wrap=True, markup=False)
    out.print(f"  {finding.why}\n  Fix: {finding.fix}", soft_wrap=True, markup=False)
