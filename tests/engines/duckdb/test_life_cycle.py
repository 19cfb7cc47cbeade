"""The tests of the same name hold on DuckDB, too: with the fixture `engine` of this folder."""

from tests.synchronizer.test_life_cycle import *  # noqa: F403
