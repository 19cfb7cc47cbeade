"""The same on memory."""

from __future__ import annotations

import pytest
from tests.projections.test_inline_projection import *  # noqa: F403


@pytest.fixture  # type: ignore[no-redef]
def elsewhere() -> None:
    pytest.skip("no other process sees what is in memory")


@pytest.mark.skip("own SQL beside an append needs a log in a SQL database")  # type: ignore[no-redef]
def test_appends_that_join_a_transaction_are_folded_in_it() -> None:
    """See the test of this name."""


@pytest.mark.skip("own SQL beside an append needs a log in a SQL database")  # type: ignore[no-redef]
def test_appends_join_a_connection_on_which_a_statement_runs_any_number_of_times() -> None:
    """See the test of this name."""
