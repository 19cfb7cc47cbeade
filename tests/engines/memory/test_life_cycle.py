"""The same on memory."""

from tests.synchronizer.test_life_cycle import *  # noqa: F403
