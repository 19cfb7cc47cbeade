"""The tests of the same name hold on DuckDB, too: with the fixture `engine` of this folder."""

from tests.projections.test_grouped import *  # noqa: F403
