"""Repositories and decider handlers: from the event store into the domain, and back."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from twofold.arguments import check_class, check_function, check_instance, check_text
from twofold.commands.aggregate import Aggregate
from twofold.commands.bus import CommandBus
from twofold.commands.decider import Decider
from twofold.commands.folds import AggregateFold, DeciderFold
from twofold.errors import AggregateNotFoundError, InvalidHandlerError, InvalidMessageTypeError
from twofold.log.ending.closing import NextStream
from twofold.log.event_store import EventStore
from twofold.log.folding.as_of import AsOf
from twofold.log.folding.streams import Fold
from twofold.messages.event_query import AppendCondition
from twofold.middleware import result_type

A = TypeVar("A", bound=Aggregate)
C = TypeVar("C")


class Repository(Generic[A]):
    """Loads and saves the aggregates of one type.

    Args:
        store: where their streams are.
        aggregate_type: the class of the aggregates.
        commands: the bus with which `handle` registers handlers.

    Raises:
        InvalidMessageTypeError: another class of aggregates has the same type of streams.
    """

    def __init__(self, store: EventStore, aggregate_type: type[A], commands: CommandBus | None = None) -> None:
        check_instance("store", store, EventStore)
        check_class("aggregate_type", aggregate_type, Aggregate)
        if commands is not None:
            check_instance("commands", commands, CommandBus)
        self._store = store
        self._type = aggregate_type
        self._commands = commands
        store.events.register(*aggregate_type.event_types())
        store._claim_streams(aggregate_type.stream_type, aggregate_type)
        beginning = f"{aggregate_type.stream_type}-"
        fold: AggregateFold[A] = AggregateFold(aggregate_type, "")
        store._folds[fold.name] = lambda stream_id: AggregateFold(aggregate_type, stream_id.partition(beginning)[2])

    async def load(self, id: str, *, as_of: AsOf | None = None) -> A:
        """Return the aggregate with this id, as the command that is being handled sees it.

        Args:
            id: which one.
            as_of: an earlier moment, a position or a time; then it is what it was when the log ended there. It can be
                saved only if nothing was appended to its stream since.

        Raises:
            AggregateNotFoundError: its stream is empty, or was at that moment.
            FuturePositionError, InvalidTokenError: as `EventStore.position_at`.
            CorruptEventError, UnknownEventTypeError, NewerSchemaError, UnreadableEventError: on an event of it.
            StorageError: the database failed.
        """
        aggregate = await self.find(id, as_of=as_of)
        if aggregate is None:
            raise AggregateNotFoundError(self._type.stream_type, id)
        return aggregate

    async def find(self, id: str, *, as_of: AsOf | None = None) -> A | None:
        """Return the aggregate with this id, or None if its stream is empty; takes and raises what `load` does."""
        fold: Fold[A] = AggregateFold(self._type, id)
        aggregate, version = await self._store._fold(self._type.stream_id(id), fold, as_of)
        return aggregate if version else None

    async def save(self, aggregate: A, *, condition: AppendCondition | None = None) -> None:
        """Append the uncommitted events of an aggregate, if no other event was written to its stream since its load.

        Within a command handler they are stored with the command; a conflict then makes the handler run again.

        Args:
            aggregate: one that was loaded, or made.
            condition: what else must hold, such as the condition of a decision.

        Raises:
            StreamClosedError: the stream is closed.
            ConflictError: another event was written to its stream, or the condition does not hold; and what else
                `EventStore.append_events` raises.
        """
        check_instance("aggregate", aggregate, self._type)
        if condition is not None:
            check_instance("condition", condition, AppendCondition, "such as `decision.condition`")
        events = aggregate.uncommitted_events
        if not events:
            return
        await self._store.append_events(
            self._type.stream_id(aggregate.id),
            self._type.stream_type,
            events,
            expected_version=aggregate.committed_version,
            condition=condition,
        )
        aggregate.mark_committed()

    async def close(self, aggregate: A, *, reason: str, by: str = "", successor: A | None = None) -> None:
        """Save an aggregate for the last time, and close its stream: it is loaded as before, and never saved again.

        Its uncommitted events sum it up; those of the successor carry that forward. All of them are stored in one
        append, and within a command handler with the command.

        Args:
            aggregate: one that was loaded, or made.
            reason: why; it is recorded.
            by: who closes it; it is recorded.
            successor: a new aggregate, in whose stream it goes on.

        Raises:
            StreamClosedError: it is closed already.
            ConflictError: another event was written to its stream, or the successor exists.
            ValueError: the successor has no events; and what else `EventStore.close_stream` raises.
        """
        check_instance("aggregate", aggregate, self._type)
        following = None
        if successor is not None:
            check_instance("successor", successor, self._type)
            following = NextStream(
                self._type.stream_id(successor.id), self._type.stream_type, successor.uncommitted_events
            )
            if not following.events or successor.committed_version:
                raise ValueError("`successor` is a new aggregate, with the events with which it begins")
        await self._store.close_stream(
            self._type.stream_id(aggregate.id),
            self._type.stream_type,
            reason=reason,
            by=by,
            expected_version=aggregate.committed_version,
            summary=aggregate.uncommitted_events,
            successor=following,
        )
        aggregate.mark_committed()
        aggregate.version += 1  # for the `StreamClosed`
        if successor is not None:
            successor.mark_committed()

    def handle(
        self, command_type: type[C], act: Callable[[A, C], object], *, id: Callable[[C], str] | None = None
    ) -> None:
        """Register the handler of a command that loads an aggregate, acts on it and saves it.

        `books.handle(LendBook, lambda book, c: book.lend(c.reader))` loads the `Book` with the id `c.book_id`; the
        command's value is what the function returns.

        Args:
            command_type: the class of the commands.
            act: calls a method of the aggregate with what the command says.
            id: from a command to the id of its aggregate; by default the field `<aggregate>_id`, else `id`.

        Raises:
            DuplicateHandlerError: the command has a handler already.
            InvalidHandlerError: the command has no such field, the function is asynchronous, or the repository was
                made without a command bus.
        """
        check_class("command_type", command_type, error=InvalidMessageTypeError)
        check_function("act", act)
        if id is not None:
            check_function("id", id)
        if self._commands is None:
            raise InvalidHandlerError(
                f"this repository has no command bus; use app.repository({self._type.__name__}), or "
                f"Repository(store, {self._type.__name__}, commands)"
            )
        if inspect.iscoroutinefunction(act):
            raise InvalidHandlerError(
                f"the function for {command_type.__name__} is asynchronous; an aggregate decides without I/O. For a "
                f"handler that awaits, use commands.register({command_type.__name__}, handler)"
            )
        try:
            inspect.signature(act).bind(None, None)
        except TypeError as error:
            raise InvalidHandlerError(f"`act` must take an aggregate and a command: {error}") from None
        id_of = id or self._id_field(command_type)

        async def load_act_save(command: C) -> Any:
            aggregate = await self.load(id_of(command))
            value = act(aggregate, command)
            await self.save(aggregate)
            return value

        if inspect.isroutine(act):
            load_act_save.__annotations__["return"] = result_type(act)  # a repeat gets a value of this type
        self._commands.register(command_type, load_act_save)

    def _id_field(self, command_type: type[C]) -> Callable[[C], str]:
        """Return how to get the id of the aggregate from a command.

        Raises:
            InvalidHandlerError: the command has no field for it.
        """
        snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", self._type.__name__).lower()
        fields = [
            name for name in inspect.signature(command_type).parameters if name not in {"command_id", "timestamp"}
        ]
        for name in (f"{snake}_id", "id"):
            if name in fields:
                return lambda command: str(getattr(command, name))
        raise InvalidHandlerError(
            f"{command_type.__name__} has no field {snake}_id; say where the id of the {self._type.__name__} is: "
            f"handle({command_type.__name__}, ..., id=lambda command: command.{fields[0] if fields else '...'})"
        )


class DeciderHandler(Generic[C]):
    """Carries out commands with a decider: load, decide, append; the equal of an aggregate behind a repository.

    Args:
        store: where the streams are.
        decider: the three functions.
        id_of: the identity of the thing that a command is for; its stream is `"<stream type>-<id>"`.
    """

    def __init__(self, store: EventStore, decider: Decider[C, Any, Any], id_of: Callable[[C], str]) -> None:
        check_instance("store", store, EventStore)
        check_instance("decider", decider, Decider)
        check_function("id_of", id_of)
        self._store = store
        self._decider = decider
        self._id_of = id_of
        store.events.register(*decider.events, *decider.ignores)
        self._fold = fold = DeciderFold(decider)
        store._folds[fold.name] = lambda _: fold
        store._known_streams.add(decider.stream_type)

    async def handle(self, command: C) -> str:
        """Decide on the command and return the id of the thing it was for; raises what the decider raises."""
        thing, stream_type = self._id_of(command), self._decider.stream_type
        stream_id = self._stream_id(thing)
        state, version = await self._store._fold(stream_id, self._fold)
        new = self._decider.decide(command, state)
        if new:
            await self._store.append_events(stream_id, stream_type, new, expected_version=version)
        return thing

    async def load(self, id: str, *, as_of: AsOf | None = None) -> Any:
        """Return the state of the thing with this id, as the command that is being handled sees it.

        Args:
            id: which one; of a thing without events, it is the decider's initial state.
            as_of: an earlier moment, a position or a time; then it is what it was when the log ended there.

        Raises:
            FuturePositionError, InvalidTokenError: as `EventStore.position_at`.
            CorruptEventError, UnknownEventTypeError, NewerSchemaError, UnreadableEventError: on an event of it.
            StorageError: the database failed.
        """
        check_text("id", id)
        state, _ = await self._store._fold(self._stream_id(id), self._fold, as_of)
        return state

    def _stream_id(self, thing: str) -> str:
        return f"{self._decider.stream_type}-{thing}"
