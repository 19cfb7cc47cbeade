"""What an agent may ask of the log: events, what caused them, and what streams lead to."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from twofold.inspection import EventSearch, TracedEvent, document_of, find_event, search_events, stream_state, trace
from twofold.inspection.searching import position_or_id
from twofold.mcp.answers import first_that_fit, fitted, listed
from twofold.mcp.looked_at import LookedAt

MOST = 200
"""Events in one answer."""

Which = Annotated[str, Field(description="The position of the event in the log, such as 42, or its id.")]
Stream = Annotated[str, Field(description="The id of a stream, such as Order-7f3; with tenants, acme/Order-7f3.")]
StreamType = Annotated[str, Field(description="Only events of streams of this type, such as Order.")]
Types = Annotated[list[str] | None, Field(description="Only events of one of these types, by their stored names.")]
Tags = Annotated[list[str] | None, Field(description="Only events with all of these tags, such as customer:c1.")]
Correlation = Annotated[
    UUID | None, Field(description="Only what followed from this id: of a request, a command or an event.")
]
User = Annotated[str, Field(description="Only what was done for this user.")]
Since = Annotated[datetime | None, Field(description="Only events recorded since this time; without a zone, in UTC.")]
Until = Annotated[datetime | None, Field(description="Only events recorded before this time.")]
After = Annotated[int, Field(ge=0, description="Only events behind this position.")]
Before = Annotated[int | None, Field(ge=0, description="Only events before this position.")]
NewestFirst = Annotated[bool, Field(description="Whether the newest come first.")]
Limit = Annotated[int, Field(ge=1, le=MOST, description="The most events to return.")]
Version = Annotated[int | None, Field(ge=0, description="Up to this version of the stream; by default all events.")]
Fold = Annotated[str, Field(description="Which aggregate or decider, if several fold streams of the type.")]


class LogTools:
    """Tools that look into the log of an application."""

    def __init__(self, looked_at: LookedAt) -> None:
        self._looked_at = looked_at

    async def search_events(
        self,
        stream: Stream = "",
        stream_type: StreamType = "",
        types: Types = None,
        tags: Tags = None,
        correlation: Correlation = None,
        user: User = "",
        since: Since = None,
        until: Until = None,
        after: After = 0,
        before: Before = None,
        newest_first: NewestFirst = True,
        limit: Limit = 20,
    ) -> dict[str, Any]:
        """Find events for which all that is given holds; without arguments, the newest.

        `next` is the position to go on from: pass it as `before` if the newest come first, else as `after`. It is null
        when there are no more.
        """
        search = EventSearch(
            stream=stream, stream_type=stream_type, types=tuple(types or ()), tags=tuple(tags or ()),
            correlation=correlation, user=user, since=_in_utc(since), until=_in_utc(until), after=after, before=before,
            newest_first=newest_first,
        )  # fmt: skip
        async with self._looked_at.opened() as app:
            found = await search_events(app.store, search, limit=limit)
            head = await app.store.head()
        shown = first_that_fit(found.events)
        is_whole = len(shown) == len(found.events)
        return {"head": head, "events": shown, "next": found.next if is_whole else shown[-1]["position"]}

    async def show_event(self, which: Which) -> dict[str, Any]:
        """Show one event: where it stands, its stored payload, and on whose behalf it was recorded."""
        async with self._looked_at.opened() as app:
            return {"event": fitted(await find_event(app.store, position_or_id(which)))}

    async def trace_event(self, which: Which) -> dict[str, Any]:
        """Show what caused an event or a command, and all that followed, as a tree in the order in which it is drawn.

        `depth` says how many causes stand above each command and event. The tree follows the metadata across streams,
        processes and reactions.
        """
        async with self._looked_at.opened() as app:
            found = await trace(app.store, position_or_id(which))
        return {
            "of": str(found.of), "correlation_id": str(found.correlation_id), "is_complete": found.is_complete,
            **listed("nodes", [_node(each) for each in found.nodes]),
        }  # fmt: skip

    async def show_state(self, stream: Stream, version: Version = None, fold: Fold = "") -> dict[str, Any]:
        """Show to what the application folds a stream, after any of its events, with personal fields masked."""
        async with self._looked_at.opened() as app:
            found = await stream_state(app.store, stream, version=version, fold=fold)
            return {
                "stream": found.stream, "version": found.version, "fold": found.fold, "state": fitted(found.state)
            }  # fmt: skip


def _in_utc(moment: datetime | None) -> datetime | None:
    return moment if moment is None or moment.tzinfo else moment.replace(tzinfo=UTC)


def _node(node: Any) -> dict[str, Any]:
    found: dict[str, Any] = document_of(node)
    return {"kind": "event" if isinstance(node, TracedEvent) else "command", **found}
