"""Engines that are made to look only: they change nothing of a database, and let nothing be changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_looking: ContextVar[bool] = ContextVar("twofold_looking", default=False)


@contextmanager
def looking_only() -> Iterator[None]:
    """Let the engines that are made within the block read alone, such as those of an application that is loaded there.

    Opening one makes no file and brings no schema up to date. SQLite and PostgreSQL refuse each write themselves, with
    one exception: behind a pooler, where a session of PostgreSQL cannot be told to. DuckDB's file has room for one
    process, so it is not opened, and each question to it is refused by name. Engines of other packages are told not to
    migrate.
    """
    token = _looking.set(True)
    try:
        yield
    finally:
        _looking.reset(token)


def is_looking() -> bool:
    """Return whether an engine that is made here is to read alone."""
    return _looking.get()
