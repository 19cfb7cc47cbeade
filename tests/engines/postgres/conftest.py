"""Here, the engine is PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.fixture
def url(new_database: Callable[[int], str]) -> str:
    """Return the address of a fresh database on the newest server."""
    return new_database(18)
