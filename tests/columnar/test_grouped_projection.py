"""The tests of the same name hold on DuckDB, too: with the fixture `engine` of this folder."""

from tests.unit.test_grouped_projection import *  # noqa: F403
