"""How fast Twofold copies its log into another database of the same engine, as `twofold copy` does."""

from __future__ import annotations

import time
from typing import cast
from urllib.parse import urlsplit

import psycopg

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
    if copied.events != events:
        raise AssertionError(f"copied {copied.events} events instead of {events}")
    return events / taken


def _beside(url: str, name: str) -> str:
    """Return the address of a new, empty database beside another one."""
    if url.startswith("sqlite"):
        return f"{url}-{name}"
    database = urlsplit(url).path.lstrip("/")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {database}_{name}")
    return url.replace(f"/{database}", f"/{database}_{name}", 1)
