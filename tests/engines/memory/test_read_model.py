"""The same on memory."""

from tests.queries.test_read_model import *  # noqa: F403
