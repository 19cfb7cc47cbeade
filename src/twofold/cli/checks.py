"""`twofold check`: what an application declares and never uses; `twofold schema …`: what its events were stored as."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from twofold.checks.explaining import explain
from twofold.checks.findings import Finding, facts_of, without
from twofold.cli.applications import load, looked_at
from twofold.cli.output import Json, answer, out, say, say_document
from twofold.cli.rebuilds import Code, Url
from twofold.engines.engine import open_event_store
from twofold.log.event_store import EventStore
from twofold.schema import (
    SchemaLock,
    check_file,
    check_types,
    lock_types,
    read_lock,
    sample_log,
    samples_of,
    write_lock,
    write_samples,
)

Package = Annotated[
    tuple[str, ...],
    Parameter(name="--package", help="A package where messages are declared, once for each.", negative=""),
]
Ignore = Annotated[
    tuple[str, ...],
    Parameter(name="--ignore", help="A code, such as TF003, or TF003:OrderPrinted. Once for each.", negative=""),
]
Log = Annotated[bool, Parameter(name="--log", negative="", help="Compare the code with what its databases hold, too.")]
ErrorCode = Annotated[str, Parameter(help="The code, as it stands at the end of an error or before a finding.")]
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
    if log:
        async with looked_at(application, url) as app:
            findings = app.check(packages=package, ignore=ignore) + await app.check_log(ignore=ignore)
    else:
        findings = load(application, url).check(packages=package, ignore=ignore)
    for each in findings:
        tell(each, as_json=as_json)
    return verdict(findings, strict=strict, as_json=as_json)


def tell(finding: Finding, *, as_json: bool) -> None:
    """Print a finding."""
    if as_json:
        say_document(facts_of(finding))
        return
    out.print(f"{finding.code} {finding.level}: {finding.text}", soft_wrap=True, markup=False)
    out.print(f"  {finding.why}\n  Fix: {finding.fix}", soft_wrap=True, markup=False)


def verdict(findings: Sequence[Finding], *, strict: bool, as_json: bool) -> int:
    """Print how many findings there are, and return the exit code."""
    errors = sum(each.level == "error" for each in findings)
    if not as_json:
        say(f"{errors} errors, {len(findings) - errors} warnings")
    return int(bool(errors or (strict and findings)))


def explain_code(code: ErrorCode, /, *, as_json: Json = False) -> None:
    """Explain the code of an error, such as TE304, or of a finding, such as TF003: what happened, why, what to do.

    Example: `twofold explain TE304`
    """
    found = explain(code)
    if as_json:
        say_document(found)
    else:
        out.print(str(found), soft_wrap=True, markup=False, end="")


LOCK = Path("events.lock.json")
FORCE = "Write the lock although the check has errors."

schemas = App(
    name="schema",
    help=(
        "Compare the classes of events with what was stored. `lock` writes the JSON Schema of each stored name and "
        "version into a file that you commit; `check` compares today's code with it."
    ),
)
File = Annotated[Path, Parameter(name="--file", help="The lock. Its samples stand beside it.")]


@schemas.command
async def lock(
    application: Code,
    /,
    *,
    file: File = LOCK,
    url: Url = "",
    sample: Annotated[str, Parameter(help="The address of a log of which samples are taken.")] = "",
    package: Package = (),
    force: Annotated[bool, Parameter(help=FORCE, negative="")] = False,
    as_json: Json = False,
) -> int:
    """Write what events look like as today's code stores them. What was locked before stays in the lock.

    With `--sample`, a few stored payloads of each name and version stand beside it, with personal fields masked.

    Example: `twofold schema lock orders.app:build --sample sqlite:///orders.db`
    """
    app = load(application, url)
    types, streams = app.event_types(package), app.store._known_streams
    earlier = read_lock(file) if file.exists() else SchemaLock()
    found = [each for each in check_types(types, earlier, streams) if each.level == "error"]
    for each in found:
        tell(each, as_json=as_json)
    if found and not force:
        if not as_json:
            say(f"{len(found)} errors; nothing was written")
        return 1
    locked = lock_types(types, earlier, streams)
    write_lock(file, locked)
    facts = {"file": str(file), "types": len(locked.types)}
    answer(f"{file} holds {len(locked.types)} types of events", facts, as_json=as_json)
    if sample:
        async with open_event_store(sample) as opened:
            samples = await sample_log(EventStore(opened.log, types), locked)
        write_samples(samples_of(file), samples)
        facts = {"file": str(samples_of(file)), "samples": len(samples)}
        answer(f"{samples_of(file)} holds {len(samples)} stored payloads", facts, as_json=as_json)
    return 0


@schemas.command(name="check")
def check_schemas(
    application: Code,
    /,
    *,
    file: File = LOCK,
    url: Url = "",
    package: Package = (),
    ignore: Ignore = (),
    strict: Strict = False,
    as_json: Json = False,
) -> int:
    """Compare today's classes with the lock: whether they read what is stored, and yesterday's code what they write.

    The exit code is 1 if there is an error; with `--strict`, also if there is a warning.

    Example: `twofold schema check orders.app:build --strict`
    """
    app = load(application, url)
    findings = without(check_file(app.event_types(package), file, app.store._known_streams), ignore)
    for each in findings:
        tell(each, as_json=as_json)
    return verdict(findings, strict=strict, as_json=as_json)
