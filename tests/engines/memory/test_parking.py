"""The same on memory."""

from tests.synchronizer.test_parking import *  # noqa: F403
