"""The same on memory."""

from tests.queries.test_overlay import *  # noqa: F403
