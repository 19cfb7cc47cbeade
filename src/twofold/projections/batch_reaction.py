"""Reactions that do what follows from several events at once, for brokers and bulk APIs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, ClassVar

from twofold.messages.event import RecordedEvent
from twofold.projections.reaction import Reaction


class BatchReaction(Reaction):
    """A reaction that takes events in batches: `apply(events)` gets a list of `RecordedEvent`, in order.

    What a `Reaction` promises holds for each event: at least once, in the order of its key, never by a rebuild. After a
    crash or a failure the events of the last batch may come again, maybe in other batches; their ids tell.

    A batch that fails is tried again as a whole. If it goes on failing, it is taken apart into halves, each of which is
    applied by itself, down to the event that fails: that one is parked with the later ones of its key, or the reaction
    stops right before it, as `on_failure` says. The others go on. Events of several causes have no common one, so that
    commands and events within `apply` carry no correlation, unless you set it with `metadata`.
    """

    batch_size: ClassVar[int] = 100
    """Events of a batch, at most. Raised, there are fewer calls, and more comes again after a crash."""
    max_wait: ClassVar[timedelta] = timedelta(0)
    """How long a batch waits for more events before it is applied although it is not full."""
    time_limit: ClassVar[timedelta] = timedelta(minutes=1)
    """How long it may take for one batch; see `Reaction.time_limit`."""

    async def apply(self, events: Sequence[RecordedEvent[Any]], /, *_: Any, **recorded: Any) -> None:
        """Do what follows from events: `apply(self, events)`."""
        raise NotImplementedError(f"{type(self).__qualname__}.apply(events) does what follows from events")
