"""Planted bugs: a campaign that would not find its own is no campaign.

Chance finds it, and on a busy machine chance has less to work with: it gets several attempts, of which the first one
suffices as a rule.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

ATTEMPTS = 10


async def assert_finds(attempt: Callable[[int], Awaitable[object]], complaint: str) -> None:
    """Run a campaign with one seed after the other until it complains.

    Raises:
        AssertionError: no attempt does in these words.
    """
    others = list[str]()
    for seed in range(1, ATTEMPTS + 1):
        try:
            await attempt(seed)
        except AssertionError as found:
            if re.search(complaint, str(found)):
                return
            others.append(str(found))
    raise AssertionError(f"the planted bug was not found in {ATTEMPTS} attempts: {others}")
