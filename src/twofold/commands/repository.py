"""Repositories and decider handlers: from the event store into the domain, and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from twofold.commands.aggregate import Aggregate
from twofold.commands.decider import Decider
from twofold.errors import AggregateNotFoundError
from twofold.log.event_store import EventStore

A = TypeVar("A", bound=Aggregate)
C = TypeVar("C")


class Repository(Generic[A]):
    """Loads and saves the aggregates of one type."""

    def __init__(self, store: EventStore, aggregate_type: type[A]) -> None:
        self._store = store
        self._type = aggregate_type
        store.events.register(*aggregate_type.event_types())

    async def load(self, id: str) -> A:
        """Return the aggregate with this id, as the command that is being handled sees it.

        Raises:
            AggregateNotFoundError: its stream is empty.
            CorruptEventError, UnknownEventTypeError, NewerSchemaError, UnreadableEventError: on an event of it.
            StorageError: the database failed.
        """
        aggregate = await self.find(id)
        if aggregate is None:
            raise AggregateNotFoundError(self._type.stream_type, id)
        return aggregate

    async def find(self, id: str) -> A | None:
        """Return the aggregate with this id, or None if its stream is empty; raises what `load` raises."""
        history = await self._store.history(self._type.stream_id(id))
        events = history.events
        return self._type.from_history(id, events) if events else None

    async def save(self, aggregate: A) -> None:
        """Store the uncommitted events of an aggregate, provided that nobody else has written to its stream since.

        In a command handler they are staged, and stored with all else that the command writes once the handler has
        returned; a conflict then makes it run again. Elsewhere they are stored at once.

        Raises:
            ConflictError and the others of `EventStore.append_events`: outside of a command handler.
        """
        events = aggregate.uncommitted_events
        if not events:
            return
        await self._store.stage(
            events,
            stream_id=self._type.stream_id(aggregate.id),
            stream_type=self._type.stream_type,
            expected_version=aggregate.committed_version,
        )
        aggregate.mark_committed()


class DeciderHandler(Generic[C]):
    """Carries out commands with a decider: load, decide, stage; the equal of an aggregate behind a repository.

    Args:
        store: where the streams are.
        decider: the three functions.
        id_of: the identity of the thing that a command is for; its stream is `"<stream type>-<id>"`.
    """

    def __init__(self, store: EventStore, decider: Decider[C, Any, Any], id_of: Callable[[C], str]) -> None:
        self._store = store
        self._decider = decider
        self._id_of = id_of
        store.events.register(*decider.events)

    async def handle(self, command: C) -> str:
        """Decide on the command and return the id of the thing it was for; raises what the decider raises."""
        thing = self._id_of(command)
        stream_id = f"{self._decider.stream_type}-{thing}"
        past = (await self._store.history(stream_id)).events
        new = self._decider.decide(command, self._decider.fold(past))
        if new:
            await self._store.stage(
                new, stream_id=stream_id, stream_type=self._decider.stream_type, expected_version=len(past)
            )
        return thing
