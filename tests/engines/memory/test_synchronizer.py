"""The same on memory."""

from tests.synchronizer.test_synchronizer import *  # noqa: F403
