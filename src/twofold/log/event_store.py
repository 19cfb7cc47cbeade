"""The event store: typed events in, typed events out, on any event log."""

from __future__ import annotations

import copy
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, Self, TypeVar, cast
from uuid import UUID

from twofold.arguments import check_flag, check_instance, check_port, check_text, check_whole
from twofold.errors import InvalidMessageTypeError, UnitOfWorkError
from twofold.log.appender import Appender
from twofold.log.chunks import Pace, Rows, chunks, pace_of
from twofold.log.codec.encrypt import Encryption
from twofold.log.codec.event_types import EventTypes
from twofold.log.codec.stored_names import check_name
from twofold.log.codec.unknown import Decoding, RowDecoder, Unknown, decoder, readable
from twofold.log.ending.closing import NextStream, close_stream
from twofold.log.ending.tombstones import tombstone_streams
from twofold.log.folding.as_of import AsOf, check_as_of, position_as_of
from twofold.log.folding.decision_model import Decision, DecisionModel
from twofold.log.folding.decisions import Decisions
from twofold.log.folding.kept_states import KeptStates
from twofold.log.folding.snapshots import Snapshots
from twofold.log.folding.streams import Fold, Streams
from twofold.log.keys.keyring import KeyRing
from twofold.log.known_positions import KnownPositions
from twofold.log.query_check import matchable
from twofold.log.subscription import Subscription
from twofold.log.transaction import StoreTransaction
from twofold.log.unit_of_work import current_unit, writing_unit
from twofold.messages.event import Metadata, RecordedEvent
from twofold.messages.event_query import AppendCondition, EventQuery
from twofold.messages.mark import Mark
from twofold.messages.personal import SubjectForgotten
from twofold.messages.position import Position
from twofold.messages.receipt import Receipt
from twofold.messages.stream import STREAM_EXISTS, ExpectedVersion, check_expected, refuse_reserved
from twofold.messages.tenant_names import own_name
from twofold.options import LogOptions
from twofold.ports.event_log import EventLog
from twofold.ports.maintenance import PortableLog
from twofold.tasks import run_in_thread
from twofold.tenants import current_tenant, own_query, require_all_tenants, tenant_or_all

S = TypeVar("S")


class EventStore:
    """One append-only log of typed events.

    Within a command handler, whatever is appended belongs to the command: it is stored in one step with all else that
    the command appends, once the handler has returned, or not at all; until then, the receipt is a `StagedReceipt`.
    Everywhere else an append is durable when it returns. What is read is what is stored, verified against its
    checksum and upcast to today's class, on every path.

    Args:
        log: where the events are; `open_event_store(url)` chooses it by an address.
        events: the classes of events that are known from the beginning.
        options: limits of an append, and how the log is read in chunks.
        keys: of the persons whose personal fields the events have.
        tenants: whether all that is appended and read is the tenant's whom `twofold.metadata(tenant=…)` has set.
    """

    def __init__(
        self,
        log: EventLog,
        events: EventTypes | None = None,
        *,
        options: LogOptions | None = None,
        keys: KeyRing | None = None,
        tenants: bool = False,
    ) -> None:
        check_port("log", log, "event log", "append", "read", "scan")
        if events is not None:
            check_instance("events", events, EventTypes)
        if options is not None:
            check_instance("options", options, LogOptions)
        if keys is not None:
            check_instance("keys", keys, KeyRing)
        check_flag("tenants", tenants)
        self._log = log
        self._has_tenants = tenants
        self.events = events or EventTypes()
        """The event classes that are known, and `register` for more of them."""
        self.keys = keys
        """The keys of persons; None if no class of events has personal fields."""
        if keys is not None:
            self.events._encryption = Encryption(keys, tenants=tenants)
            self.events.register(SubjectForgotten)
        self.events._archive = getattr(log, "archive", None)
        self.options = options or LogOptions()
        self.known_positions = KnownPositions(log, self.options)
        """Tells receipts and tokens of this log's history from those of another."""
        self._appender = Appender(log, self.events, self.options, self.known_positions.appended, tenants=tenants)
        self.snapshots = Snapshots(log, self.options, keys)
        """Finds and stores the states of long folds; `snapshots.status()` tells what became of them."""
        kept = KeptStates(self.options.kept_states)
        self._streams = Streams(log, self.events, self.snapshots, self.options, kept)
        self._decisions = Decisions(log, self.events, self.snapshots, self.options, kept)
        self._stream_types: dict[str, type] = {}
        self._known_streams: set[str] = set()
        """The types of the streams of aggregates and deciders."""
        if keys is not None:
            keys.on_forgotten(kept.clear)
        self._folds: dict[str, Callable[[str], Fold[Any]]] = {}
        """How to fold a stream again, by the name of the fold, for those who verify snapshots."""

    @property
    def log(self) -> EventLog:
        """The event log behind the store, for those who write engines and consumers of their own.

        Raises:
            TenantMissingError: it holds the events of all tenants, and this code does not run on behalf of all.
        """
        if self._has_tenants:
            require_all_tenants("the log of the store")
        return self._log

    @property
    def _of_all(self) -> EventStore:
        """The same store without regard to tenants, for what serves all of them, such as the workers."""
        if not self._has_tenants:
            return self
        twin = copy.copy(self)
        twin._has_tenants = False
        return twin

    async def __aenter__(self) -> Self:
        await self._log.open()
        if self.keys is not None:
            await run_in_thread(self.keys.open)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.snapshots.end()
        await self._log.close()
        if self.keys is not None:
            await run_in_thread(self.keys.close)

    async def append_events(
        self,
        stream_id: str,
        stream_type: str,
        events: Sequence[object],
        *,
        expected_version: ExpectedVersion,
        condition: AppendCondition | None = None,
        event_ids: Sequence[UUID] | None = None,
        metadata: Metadata | None = None,
    ) -> Receipt[None]:
        """Append events to one stream, all or nothing, durably; within a command handler, with the command.

        Args:
            stream_id: such as "Order-7f3".
            stream_type: such as "Order".
            events: at least one.
            expected_version: the version before the append, `NO_STREAM`, `STREAM_EXISTS` or `ANY`.
            condition: what else must hold.
            event_ids: one for each event. Repeated with the same ids and events, an append takes effect once.
            metadata: instead of what `twofold.metadata(...)` has set.

        Raises:
            ConflictError: the stream is not as expected, or the condition fails. Within a command handler, the command
                is tried again instead.
            StreamClosedError: the stream is closed, or tombstoned.
            UnitOfWorkError: this code was begun by a command handler that has returned.
            DuplicateEventIdError: an id is stored already with other content.
            InvalidEventError, InvalidMessageTypeError, LimitExceededError: the events cannot be stored.
            OutcomeUnknownError: it could not be learnt in time whether the append was committed.
            StorageError: the database failed; nothing was stored.
        """
        if (
            type(stream_id) is not str or type(stream_type) is not str or not stream_id or not stream_type
        ):  # all else of the names is checked once for each stream, with its events
            for name, value in (("stream_id", stream_id), ("stream_type", stream_type)):
                check_text(name, value, may_be_empty=True)
                check_name(name.replace("_", " "), value, name)
        check_expected(expected_version)
        write = self._appender.write
        return await write(events, stream_id, stream_type, expected_version, condition, event_ids, metadata)

    async def append(
        self,
        events: Sequence[object],
        *,
        condition: AppendCondition | None = None,
        event_ids: Sequence[UUID] | None = None,
        metadata: Metadata | None = None,
    ) -> Receipt[None]:
        """Append events of no stream, if the condition holds, durably; within a command handler, with the command.

        Raises:
            ConflictError: events match the condition; it carries them. Within a command handler, the command is tried
                again instead.
            UnitOfWorkError, DuplicateEventIdError, InvalidEventError, InvalidMessageTypeError: as for `append_events`.
            LimitExceededError, OutcomeUnknownError, StorageError: as for `append_events`.
        """
        return await self._appender.write(events, "", "", None, condition, event_ids, metadata)

    async def close_stream(
        self,
        stream_id: str,
        stream_type: str,
        *,
        reason: str,
        by: str = "",
        expected_version: ExpectedVersion = STREAM_EXISTS,
        summary: Sequence[object] = (),
        successor: NextStream | None = None,
        condition: AppendCondition | None = None,
        metadata: Metadata | None = None,
    ) -> Receipt[None]:
        """Close a stream: it is read as before, and takes no more events; within a command handler, with the command.

        Its last events are the summary and a `StreamClosed`, which no aggregate and no decider folds. They are stored
        in one append with the first events of the stream in which it goes on. The receipt is that of the last event.

        Args:
            stream_id: such as "Till-7".
            stream_type: such as "Till".
            reason: why; it is recorded.
            by: who closes it; it is recorded.
            expected_version: the version before the append, as for `append_events`.
            summary: events of your own that say what it came to.
            successor: the stream in which it goes on; it must be new.
            condition: what else must hold.
            metadata: instead of what `twofold.metadata(...)` has set.

        Raises:
            StreamClosedError: it is closed already.
            ConflictError: a stream is not as expected, or the condition fails.
            ValueError, TypeError: an argument cannot work.
            UnitOfWorkError, InvalidEventError, InvalidMessageTypeError: as for `append_events`.
            LimitExceededError, OutcomeUnknownError, StorageError: as for `append_events`.
        """
        return await close_stream(
            self._appender, stream_id, stream_type, expected_version=expected_version, reason=reason, by=by,
            summary=summary, successor=successor, condition=condition, metadata=metadata,
        )  # fmt: skip

    async def tombstone_stream(self, stream_id: str, *, reason: str, by: str) -> int:
        """End a stream for ever, and remove its events; return how many were removed.

        Its last event is a `StreamTombstoned`. Of the others only their places are left, and a digest; readers get no
        events of them, and those who load the stream find none. A projection that takes `StreamTombstoned` removes what
        it has made of them; the others keep their rows, until they are rebuilt. Snapshots are deleted.

        A repeat completes what was interrupted, and else changes nothing.

        Args:
            stream_id: such as "Order-7f3".
            reason: why; it is recorded.
            by: who asked for it; it is recorded.

        Raises:
            ConflictError: others append to the stream all the while.
            UnitOfWorkError: this is a command handler.
            TypeError, ValueError: an argument cannot work, such as a stream of Twofold's own.
            StorageError: the database failed; call it again to go on.
        """
        check_text("stream_id", stream_id)
        check_text("reason", reason)
        check_text("by", by)
        refuse_reserved("stream_id", stream_id)
        if writing_unit() is not None:
            raise UnitOfWorkError(
                "a command handler cannot tombstone a stream: what is removed cannot be part of its one append; close "
                "the stream, and tombstone it elsewhere"
            )
        log = cast(PortableLog, self._log)
        return await tombstone_streams(log, [self._own_stream(stream_id)], reason=reason, by=by, options=self.options)

    def read(
        self,
        query: EventQuery | None = None,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int | None = None,
        backwards: bool = False,
        unknown: Unknown = "raise",
    ) -> AsyncIterator[RecordedEvent[Any]]:
        """Iterate over the events that match (by default all) with `after < position < before`, in constant memory.

        Args:
            query: which events.
            after: the position behind which they stand.
            before: the position before which they stand; by default none.
            limit: how many are read, at most.
            backwards: whether the latest comes first.
            unknown: what to do about events that this code does not know; see `Unknown`.

        Raises:
            TypeError, ValueError: an argument cannot work, such as a query that matches no event, or no such policy.
            CorruptEventError, UnknownEventTypeError, NewerSchemaError, UnreadableEventError: on the event concerned,
                when all before it were handed out.
            StorageError: the database failed.
        """
        wanted = self._own_query(self._checked(query))
        for name, bound in (("after", after), ("before", before), ("limit", limit)):
            if bound is not None or name == "after":
                check_whole(name, bound, 1 if name == "limit" else 0)
        check_flag("backwards", backwards)
        decode = decoder(self.events, unknown, wanted)
        return self._recorded(wanted, after, before, limit, backwards=backwards, decode=decode)

    async def _recorded(
        self,
        wanted: EventQuery,
        after: int = 0,
        before: int | None = None,
        limit: int | None = None,
        *,
        backwards: bool = False,
        decode: RowDecoder | None = None,
    ) -> AsyncIterator[RecordedEvent[Any]]:
        """Iterate over events as `read` does, by a query in the names that the log has."""
        decode = decode or decoder(self.events, query=wanted)
        decoding = Decoding(_turned(decode) if backwards else decode)
        place, left, is_more = (after, before), sys.maxsize if limit is None else limit, True

        async def follow(place: tuple[int, int | None], size: int) -> tuple[Rows, tuple[int, int | None]]:
            low, high = place
            rows = await self._log.read(wanted, after=low, before=high, limit=size, backwards=backwards)
            last = rows[-1].position if rows else 0
            return rows, (low, last) if backwards else (last, high)

        while left and is_more:  # again only where upcasters have made fewer events than there were rows
            missing = left
            async with aclosing(chunks(follow, place, self._pace(), left)) as found:
                async for rows in found:
                    events, _, failure = await readable(decoding, rows)
                    for recorded in events[:left]:
                        yield recorded
                    left -= min(left, len(events))
                    if failure is not None and left:
                        raise failure
                    missing -= len(rows)
                    place = (after, rows[-1].position) if backwards and rows else place
                    place = (rows[-1].position, before) if rows and not backwards else place
            is_more = not missing

    async def read_stream(
        self, stream_id: str, *, after: int = 0, unknown: Unknown = "raise"
    ) -> AsyncIterator[RecordedEvent[Any]]:
        """Iterate over the events of a stream whose version is greater than `after`, in constant memory.

        Args:
            stream_id: which stream.
            after: the version behind which they stand.
            unknown: what to do about events that this code does not know; see `Unknown`.

        Raises:
            CorruptEventError, UnknownEventTypeError, NewerSchemaError, UnreadableEventError: on the event concerned,
                when all before it were handed out.
            StorageError: the database failed.
            ValueError: there is no such policy.
        """
        check_text("stream_id", stream_id)
        check_whole("after", after)
        decoding, stream_id = Decoding(decoder(self.events, unknown)), self._own_stream(stream_id)
        async with aclosing(chunks(self._streams.reader(stream_id), after, self._pace())) as found:
            async for rows in found:
                events, _, failure = await readable(decoding, rows)
                for recorded in events:
                    yield recorded
                if failure is not None:
                    raise failure

    async def head(self) -> int:
        """Return the highest position in the log, 0 if it is empty.

        Raises:
            StorageError: the database failed.
        """
        return await self._log.head()

    async def position_at(self, as_of: AsOf) -> Position:
        """Return the position at which the log ended at a moment, which is a time or a position itself.

        At a time, that is the position of an event that was recorded by then, and the one behind it was recorded later.
        Recorded times are those of the database's clock, and follow the positions unless that clock is set back.

        Raises:
            FuturePositionError: the log has not come there yet, or the time is still to come.
            InvalidTokenError: the position is of another history of the log.
            TypeError, ValueError: it is neither a position nor a time with a time zone.
            StorageError: the database failed.
        """
        check_as_of("as_of", as_of)
        return await position_as_of(self._log, self.known_positions, as_of)

    async def decide(self, model: DecisionModel[S]) -> Decision[S]:
        """Fold a decision model. What is appended on it holds only if no further event matches the model's query.

        Within a command handler, the command's append depends on all decisions by itself, and if another append came
        in between, the handler runs again; what the command itself has appended is folded last, at position 0.
        Elsewhere, append with `condition=decision.condition`.

        Raises:
            CorruptEventError, UnknownEventTypeError, NewerSchemaError, UnreadableEventError: on the event concerned.
            StorageError: the database failed.
        """
        check_instance("model", model, DecisionModel)
        query = matchable(model.query, self.events)
        own = self._own_query(query, may_be_all=False)
        state, position = await self._decisions.fold(model, own)
        if unit := current_unit():
            unit.enrol(AppendCondition(own, position))
        return Decision(state, AppendCondition(query, position))

    async def look(self, model: DecisionModel[S], *, as_of: AsOf | None = None) -> S:
        """Fold a decision model that nothing depends on: further events may match it before the append.

        Args:
            model: what is folded.
            as_of: an earlier moment; by default now. Tags that were added to stored events since find these, too.

        Raises:
            FuturePositionError, InvalidTokenError: as `position_at`.
            CorruptEventError, UnknownEventTypeError, NewerSchemaError, UnreadableEventError: on the event concerned.
            StorageError: the database failed.
        """
        check_instance("model", model, DecisionModel)
        query = self._own_query(matchable(model.query, self.events))
        if as_of is not None:
            return await self._decisions.fold_as_of(model, query, await self.position_at(as_of))
        state, _ = await self._decisions.fold(model, query)
        return state

    def subscribe(
        self,
        query: EventQuery | None = None,
        *,
        stream_id: str | None = None,
        after: Mark | Position | int = 0,
        batch_size: int | None = None,
        unknown: Unknown = "raise",
    ) -> Subscription:
        """Follow the log: first what stands there behind a mark, then what is appended, for ever.

        Args:
            query: which events; by default all.
            stream_id: only the events of this stream.
            after: what was seen last: the `mark` of a batch, kept as a checkpoint, or the position of a receipt, with
                which a log of another history is refused. A mere number is only compared with the head of the log.
            batch_size: events per batch, at most; fewer where they are large. The next batch is read when it is asked
                for, so a slow consumer costs no memory.
            unknown: what to do about events that this code does not know; see `Unknown`. A subscriber to everything
                takes them `"raw"`, so that an event of another application's code does not end it.

        Raises:
            TypeError, ValueError: an argument cannot work, such as a query that matches no event, or no such policy.
        """
        wanted = self._own_query(self._checked(query))
        if stream_id is not None:
            check_text("stream_id", stream_id)
            stream_id = self._own_stream(stream_id)
        if not isinstance(after, Mark):
            check_whole("after", after)
        most = self.options.subscription_batch if batch_size is None else batch_size
        check_whole("batch_size", most, 1)
        return Subscription(
            self._log, decoder(self.events, unknown, wanted), wanted, stream_id, Mark.of(after), most, self.options
        )

    @asynccontextmanager
    async def transaction(self, connection: Any = None) -> AsyncIterator[StoreTransaction]:
        """Run your own SQL and append events in one transaction: `async with store.transaction() as tx: ...`.

        The appends are made when the block ends, after all SQL, so that the log is locked as shortly as can be. If
        the block raises, or an append is refused, nothing is stored, of the events or of your own rows.

        A repeat with the same event ids takes effect once, as a whole: its SQL is rolled back, and its receipts are
        those of the first try. Give all of its appends `event_ids` then.

        Args:
            connection: a connection with an open transaction, of the driver or of SQLAlchemy, to be joined. Its owner
                commits it; until then nothing is durable. By default a transaction of its own is opened.

        Raises:
            ConflictError: an append was refused.
            DuplicateEventIdError: an event id is stored already with other content.
            TransactionReusedError: some of the appends are stored already, and the others are not.
            RepeatedTransactionError: an earlier try is committed, and `connection` was joined: its owner must roll
                back, which the error does in a block such as `async with engine.begin()`.
            OutcomeUnknownError: it could not be learnt whether the transaction was committed; repeat it with the same
                event ids.
            StorageError: the database failed; nothing was stored.
            UnitOfWorkError: this is a command handler. Its appends are stored with the command; SQL cannot be.
            TypeError: the log cannot be joined, or not by such a connection.
        """
        async with self._appender.transaction(connection) as transaction:
            yield transaction

    async def compare_tags(self) -> None:
        """Compare the tags that the registered classes declare with those that their stored events carry.

        An application does so when it starts.

        Raises:
            TagsMissingError: a class has a tag that events of its type lack, and the options refuse that.
            StorageError: the database failed.
        """
        await self._appender.tagged_types.compare()

    def _checked(self, query: EventQuery | None) -> EventQuery:
        """Return what can match of a query; by default the one that matches all."""
        if query is None:
            return EventQuery.all()
        check_instance("query", query, EventQuery, "such as EventQuery.of(OrderCreated)")
        return matchable(query, self.events)

    def _own_query(self, query: EventQuery, *, may_be_all: bool = True) -> EventQuery:
        """Return a query in the names that the log has: in an application with tenants, for the tenant's own events.

        Raises:
            TenantMissingError: no tenant is set; or all are, and the query names tags, which are each tenant's own.
        """
        if not self._has_tenants:
            return query
        if may_be_all and not any(item.tags for item in query.items):
            tenant = tenant_or_all("reading events")
            return own_query(tenant, query) if tenant else query
        return own_query(current_tenant("reading events by their tags"), query)

    def _own_stream(self, stream_id: str) -> str:
        """Return the name under which a stream is stored.

        Raises:
            TenantMissingError: each tenant has streams of its own, and none is set.
        """
        return own_name(current_tenant("a stream"), stream_id) if self._has_tenants else stream_id

    def _pace(self) -> Pace:
        return pace_of(self._log, self.options)

    def _claim_streams(self, stream_type: str, owner: type) -> None:
        """Note which class of aggregates the streams of a type belong to."""
        self._known_streams.add(stream_type)
        other = self._stream_types.setdefault(stream_type, owner)
        if other is not owner:
            raise InvalidMessageTypeError(
                f"{owner.__qualname__} and {other.__qualname__} both have streams of the type {stream_type!r}; "
                f"give one of them another `stream_type`"
            )

    async def _fold(self, stream_id: str, fold: Fold[S], as_of: AsOf | None = None) -> tuple[S, int]:
        """Return the state and the version of a stream as the command sees it, or as of a moment."""
        stream_id = self._own_stream(stream_id)
        if as_of is not None:
            return await self._streams.state_at(stream_id, fold, position=await self.position_at(as_of))
        return await self._streams.fold(stream_id, fold)


def _turned(decoder: RowDecoder) -> RowDecoder:
    """Return what makes events of rows that come with the latest first: so do the parts that a row has become."""
    return decoder._replace(decode=lambda rows: decoder.decode(rows[::-1])[::-1])
