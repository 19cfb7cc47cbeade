"""`twofold doctor` finds what is wrong beneath an application, by a code, and tells what to do."""

from __future__ import annotations

import asyncio
import json
import re
import time
from pathlib import Path

import psycopg
import pytest
from msgspec.structs import replace
from tests.cli.typed import Done, Twofold
from tests.synchronizing import engine_at

import twofold as package
from twofold.checks.databases import examine_database
from twofold.checks.findings import CODES
from twofold.engines.engine import connect
from twofold.engines.sqlite.log.examination import file_system_of
from twofold.messages.event_query import EventQuery
from twofold.messages.stored_event import content_checksum, seal
from twofold.options import InspectionOptions
from twofold.ports.maintenance import PortableLog
from twofold.testing.samples import append_of, new_event


@pytest.fixture
def made(url: str, twofold: Twofold) -> str:
    """Return the address of a database that is up to date."""
    assert twofold("migrate", url).returncode == 0
    return url


@pytest.fixture
def postgres(new_database: object) -> str:
    """Return the address of a database on PostgreSQL that is up to date."""
    url: str = new_database(18)  # type: ignore[operator]

    async def migrate() -> None:
        async with engine_at(url):
            pass

    asyncio.run(migrate())
    return url


def codes(done: Done) -> list[str]:
    return [found["code"] for line in done.stdout.splitlines() if "code" in (found := json.loads(line))]


async def found(url: str, **options: float) -> list[str]:
    """Return the codes of what is found with other thresholds."""
    log: PortableLog = connect(url, migrate=False).log  # type: ignore[assignment]
    await log.open()
    try:
        report = await examine_database(log, InspectionOptions(**options))  # type: ignore[arg-type]
        return [each.code for each in report.findings]
    finally:
        await log.close()


def test_a_database_that_is_well_has_no_error_and_its_versions_are_told(twofold: Twofold, made: str) -> None:
    done = twofold("doctor", made, "--ignore", "TF203", "--ignore", "TF207", "--strict")
    assert done.returncode == 0, done.stdout
    assert re.search(r"engine (SQLite|PostgreSQL) \d+\.", done.stdout)
    assert done.stdout.endswith("0 errors, 0 warnings\n")


def test_a_database_that_is_not_there_or_not_up_to_date_is_a_finding(twofold: Twofold, tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    for name, said in (("typo.db", "there is no such file"), ("empty.db", "run `twofold migrate`")):
        done = twofold("doctor", f"sqlite:///{tmp_path}/{name}")
        assert done.returncode == 1
        assert "TF201 error" in done.stdout
        assert said in done.stdout
        assert "Fix: Do what the text says" in done.stdout
    assert not (tmp_path / "typo.db").exists()


async def test_an_event_from_the_future_is_a_wrong_clock(made: str) -> None:
    assert "TF202" not in await found(made)
    async with engine_at(made) as (engine, _):
        log: PortableLog = engine.log  # type: ignore[assignment]
        await log.append(append_of(new_event("Note-1")))
        [row] = await log.read(EventQuery.all(), limit=1)
        later = replace(row, position=2, version=2, recorded_at=(time.time_ns() + 10**13) // 1000, event_id=bytes(16))
        checksum = seal(content_checksum(later), 2, 2, later.recorded_at)
        await log.restore([replace(later, checksum=checksum)])
    assert "TF202" in await found(made)


async def test_the_disk_and_the_file_are_looked_at(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    async with engine_at(url) as (engine, _):
        await engine.log.append(append_of(new_event("Note-1")))
        assert await found(url, free_disk=10**18, large_wal=0) == ["TF203", "TF205"]
        assert await found(url, free_disk=0, large_wal=10**12) == []


def test_a_file_system_over_a_network_is_recognised() -> None:
    mounts = "/dev/sda / ext4 rw 0 0\nserver:/x /srv/data nfs4 rw 0 0\ntmpfs /srv/data/tmp tmpfs rw 0 0\n"
    for path, kind in (("/srv/data/orders.db", "nfs4"), ("/srv/data/tmp/a.db", "tmpfs"), ("/srv/a.db", "ext4")):
        assert file_system_of(Path(path), mounts) == kind


def test_what_a_role_lacks_is_named(twofold: Twofold, postgres: str) -> None:
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS poor")
        connection.execute("CREATE ROLE poor LOGIN")
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO poor")
        connection.execute("GRANT INSERT ON twofold_events TO poor")
    poor = postgres.replace("postgres@", "poor@")
    try:
        done = twofold("doctor", poor, "--json")
        texts = [json.loads(line).get("text", "") for line in done.stdout.splitlines()]
    finally:
        with psycopg.connect(postgres, autocommit=True) as connection:
            connection.execute("DROP OWNED BY poor")
            connection.execute("DROP ROLE poor")
    assert done.returncode == 1
    assert "The role poor may not UPDATE on twofold_head." in texts
    assert "The role poor may not INSERT on twofold_events." not in texts
    assert "TF207" not in codes(done)
    assert codes(twofold("doctor", postgres, "--json")) == ["TF207"]


async def test_a_long_transaction_and_used_connections_are_seen(postgres: str) -> None:
    with psycopg.connect(postgres) as connection:
        connection.execute("SELECT 1")
        assert {"TF208", "TF209"} <= set(await found(postgres, long_transaction=0.0, used_connections=0.0))
    assert not {"TF208", "TF209"} & set(await found(postgres))


def test_each_kind_of_symptom_is_a_code_that_there_is_and_each_code_is_found_somewhere() -> None:
    folder = Path(package.__file__).parent
    sources = "".join(path.read_text("utf-8") for part in ("engines", "cli") for path in (folder / part).rglob("*.py"))
    sources += (folder / "checks" / "databases.py").read_text("utf-8")
    named = set(re.findall(r'"(TF2\d\d)"', sources))
    assert named == {code for code in CODES if code.startswith("TF2")}
