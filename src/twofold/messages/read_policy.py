"""Policies: how long a query waits for its read models, and what becomes of it when that is over."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from twofold.arguments import check_instance, check_number


class WhenLate(Enum):
    """What becomes of a query whose read models are not where they should be when the time to wait is over."""

    REFUSE = "refuse"
    """Raise `StaleReadError`."""
    OVERLAY = "overlay"
    """Answer fresh: `ReadModel.get` folds what is missing over the stored row. Lists are answered stale, and say so."""
    ANSWER_STALE = "answer stale"
    """Answer from what there is; `QueryBus.ask` says so, and how old it is."""


@dataclass(frozen=True)
class ReadPolicy:
    """How long a query waits for its read models, and what happens then: `ReadPolicy(1.0, WhenLate.ANSWER_STALE)`."""

    wait: float = 5.0
    """Seconds, at most. It waits for what it must show, and for a projection that is behind by more than `max_lag`."""
    then: WhenLate = WhenLate.REFUSE

    def __post_init__(self) -> None:
        check_number("wait", self.wait)
        check_instance("then", self.then, WhenLate, "such as WhenLate.ANSWER_STALE")
