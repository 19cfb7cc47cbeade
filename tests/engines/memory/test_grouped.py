"""The same on memory."""

from tests.projections.test_grouped import *  # noqa: F403
