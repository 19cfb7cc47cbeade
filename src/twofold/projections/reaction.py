"""Reactions: what is done elsewhere for each event."""

from __future__ import annotations

import errno
import socket
from datetime import timedelta
from typing import Any, ClassVar

from twofold.projections.projection import OnFailure

_NO_WAY = {errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH}
"""What the network says that has no class of its own."""


class Reaction:
    """Something to be done once for each event, such as a mail: at least once, in order, and never by a rebuild.

    `apply(event)` does it; a parameter gets the `RecordedEvent` as in a `Projection`, and its `event_id` makes a good
    idempotency key: after a crash the last event may come again. It begins with the events that come after it was
    first added.
    """

    name: ClassVar[str] = ""
    """Its name. Stored: change it with care."""
    max_lag: ClassVar[timedelta | None] = None
    """How late it may be before that is a fault."""
    on_failure: ClassVar[OnFailure] = "park"
    """See `Projection.on_failure`."""
    time_limit: ClassVar[timedelta] = timedelta(minutes=1)
    """How long it may take for one event. Its worker keeps the segment until then; what takes longer is cancelled, and
    counts as a failure of the event."""
    follows: ClassVar[tuple[str, ...]] = ()
    """Names of projections that it never overtakes."""
    outages: ClassVar[tuple[type[BaseException], ...]] = (ConnectionError, TimeoutError, socket.gaierror)
    """Errors that say that what it talks to is away. No event is to blame for them: it stands still, says why, and
    tries again until they are over; `on_failure` is about all others. Add your client's own:
    `outages = (*Reaction.outages, httpx.TransportError)`.
    """

    _of_tenants = False

    def handles(self) -> tuple[type, ...]:
        """Return the classes of the events that it takes."""
        raise NotImplementedError(
            f"{type(self).__qualname__}.handles() returns the classes of the events that it takes"
        )

    def key(self, event: Any) -> Any:
        """Return what an event is about; only events with the same key wait for each other. By default all do."""
        return ()

    def is_outage(self, error: BaseException) -> bool:
        """Return whether what it talks to is away, and no event is to blame. By default, see `outages`."""
        if isinstance(error, BaseExceptionGroup):
            return all(map(self.is_outage, error.exceptions))
        return isinstance(error, self.outages) or (isinstance(error, OSError) and error.errno in _NO_WAY)

    async def apply(self, event: Any, /, *_: Any, **recorded: Any) -> None:
        """Do what follows from an event: `apply(self, event)`."""
        raise NotImplementedError(f"{type(self).__qualname__}.apply(event) does what follows from an event")
