"""The same on memory."""

from tests.synchronizer.test_rebuild import *  # noqa: F403
