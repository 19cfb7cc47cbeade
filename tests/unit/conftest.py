"""The engines on which the tests of the machinery run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.postgres.conftest import new_database, postgres_server

__all__ = ["new_database", "postgres_server", "url"]


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the address of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/twofold.db"
    fresh: Callable[[int], str] = request.getfixturevalue("new_database")
    return fresh(18)
