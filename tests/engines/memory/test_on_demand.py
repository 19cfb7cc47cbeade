"""The same on memory."""

from tests.synchronizer.test_on_demand import *  # noqa: F403
