"""The same on memory."""

from tests.synchronizer.test_rebuild import *  # noqa: F403

del test_of_two_roll_backs_at_once_both_end_with_the_earlier_one_serving  # noqa: F821
# In memory the first roll-back has ended before the second one begins, which then goes back to the later generation.
