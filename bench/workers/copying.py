"""How fast Twofold copies its log into another database of the same engine, directly and by a file."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import psycopg

from bench import servers
from twofold import EventStore, export_log, import_log, open_event_store
from twofold.engines.engine import connect
from twofold.log.copy import copy_log
from twofold.ports.maintenance import PortableLog


def _portable(url: str) -> PortableLog:
    return cast("PortableLog", connect(url).log)


async def measure(url: str, name: str, events: int) -> float:
    """Copy the log, verified and compared, and return events per second."""
    source, target = _portable(url), _portable(_beside(url, name))
    await source.open()
    await target.open()
    try:
        start = time.perf_counter()
        copied = await copy_log(source, target)
        taken = time.perf_counter() - start
    finally:
        await target.close()
        await source.close()
    return _rate("copied", copied.events, events, taken)


async def export(store: EventStore, events: int) -> float:
    """Export the log to a file of JSON Lines, and return events per second."""
    with tempfile.TemporaryDirectory(dir=servers.CACHE) as folder:
        return await _exported(store, Path(folder) / "log.jsonl", events)


async def import_file(store: EventStore, url: str, name: str, events: int) -> float:
    """Import such a file into another database, and return events per second."""
    with tempfile.TemporaryDirectory(dir=servers.CACHE) as folder:
        file = Path(folder) / "log.jsonl"
        await _exported(store, file, events)
        async with open_event_store(_beside(url, name)) as target:
            start = time.perf_counter()
            imported = await import_log(target, file)
            taken = time.perf_counter() - start
    return _rate("imported", imported.events, events, taken)


async def _exported(store: EventStore, file: Path, events: int) -> float:
    start = time.perf_counter()
    exported = await export_log(store, file)
    taken = time.perf_counter() - start
    return _rate("exported", exported.events, events, taken)


def _rate(what: str, done: int, events: int, taken: float) -> float:
    if done != events:
        raise AssertionError(f"{what} {done} events instead of {events}")
    return events / taken


def _beside(url: str, name: str) -> str:
    """Return the address of a new, empty database beside another one."""
    if url.startswith("sqlite"):
        return f"{url}-{name}"
    database = urlsplit(url).path.lstrip("/")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {database}_{name}")
    return url.replace(f"/{database}", f"/{database}_{name}", 1)
