"""The same on memory."""

from tests.projections.test_sql_projection import *  # noqa: F403
