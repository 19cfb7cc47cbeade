"""Engines that are made to look only: they change nothing of a database, and let nothing be changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

_looking: ContextVar[Literal["no", "for a moment", "again and again"]] = ContextVar("twofold_looking", default="no")


@contextmanager
def looking_only(*, for_a_moment: bool = False) -> Iterator[None]:
    """Let the engines that are made within the block read alone, such as those of an application that is loaded there.

    Opening one makes no file and brings no schema up to date. SQLite and PostgreSQL refuse each write themselves, with
    one exception: behind a pooler, where a session of PostgreSQL cannot be told to. DuckDB's file has room for one
    process, so it is not opened, and each question to it is refused by name. Engines of other packages are told not to
    migrate.

    Args:
        for_a_moment: what looks ends at once, as a command does: DuckDB's file is opened, if no other process has it.
    """
    token = _looking.set("for a moment" if for_a_moment else "again and again")
    try:
        yield
    finally:
        _looking.reset(token)


def is_looking() -> bool:
    """Return whether an engine that is made here is to read alone."""
    return _looking.get() != "no"


def leaves_to_writers() -> bool:
    """Return whether an engine that is made here leaves a file closed that has room for one process."""
    return _looking.get() == "again and again"
