"""The event store: typed events in, typed events out, on any event log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, Self, TypeVar, cast
from uuid import UUID

import msgspec

from twofold.errors import (
    ConflictError,
    CorruptEventError,
    DuplicateEventIdError,
    LimitExceededError,
    OutcomeUnknownError,
    RepeatedTransactionError,
    StorageError,
    TransactionReusedError,
)
from twofold.log.chunks import Pace, Read, Rows, chunks
from twofold.log.codec import EventTypes, check_name, encode_metadata
from twofold.log.decision_model import Decision, DecisionModel
from twofold.log.subscription import Subscription
from twofold.log.transaction import StoreTransaction
from twofold.log.unit_of_work import History, UnitOfWork
from twofold.messages.context import current_metadata
from twofold.messages.event import Metadata, RecordedEvent
from twofold.messages.event_query import AppendCondition, EventQuery
from twofold.messages.ids import new_event_ids
from twofold.messages.mark import Mark
from twofold.messages.receipt import Receipt
from twofold.messages.stored_event import is_intact
from twofold.messages.stream import ANY, ExpectedVersion
from twofold.options import LogOptions
from twofold.ports.event_log import Append, Appended, CommandRecord, EventLog, JoinableLog, NewEvent, Rejected

S = TypeVar("S")

MAX_EVENTS = 100_000
"""An append takes at most so many events,"""
MAX_BYTES = 64 * 1024 * 1024
"""with so many bytes of payload: what is larger keeps everybody else waiting."""


class EventStore:
    """One append-only log of typed events.

    Every event that is read has been verified against its checksum and upcast to today's class, on every path.
    """

    def __init__(self, log: EventLog, events: EventTypes | None = None, *, options: LogOptions | None = None) -> None:
        self.log = log
        self.events = events or EventTypes()
        self.options = options or LogOptions()

    async def __aenter__(self) -> Self:
        await self.log.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.log.close()

    async def append_events(
        self,
        stream_id: str,
        stream_type: str,
        events: Sequence[object],
        *,
        expected_version: ExpectedVersion,
        event_ids: Sequence[UUID] | None = None,
        metadata: Metadata | None = None,
    ) -> Receipt[None]:
        """Append events to one stream, all or nothing, durably.

        Args:
            stream_id: such as "Order-7f3".
            stream_type: such as "Order".
            events: at least one.
            expected_version: the version before the append (0: no such stream yet), `ANY` or `STREAM_EXISTS`.
            event_ids: one for each event. Repeated with the same ids and events, an append takes effect once.
            metadata: instead of what `twofold.metadata(...)` has set.

        Raises:
            ConflictError: the stream is not as expected.
            DuplicateEventIdError: an id is stored already with other content.
            InvalidEventError, InvalidMessageTypeError, LimitExceededError: the events cannot be stored.
            OutcomeUnknownError: it could not be learnt in time whether the append was committed.
            StorageError: the database failed; nothing was stored.
        """
        check_name("stream id", stream_id)
        check_name("stream type", stream_type)
        encoded = self.encode(events, stream_id, stream_type, event_ids, metadata)
        return await self._commit_at_once(Append(encoded, ((stream_id, expected_version),)))

    async def append(
        self,
        events: Sequence[object],
        *,
        condition: AppendCondition | None = None,
        event_ids: Sequence[UUID] | None = None,
        metadata: Metadata | None = None,
    ) -> Receipt[None]:
        """Append events that belong to no stream, all or nothing, durably, if the condition holds.

        Raises:
            ConflictError: events match the condition; it carries them.
            DuplicateEventIdError, InvalidEventError, InvalidMessageTypeError, LimitExceededError,
            OutcomeUnknownError, StorageError: as for `append_events`.
        """
        encoded = self.encode(events, "", "", event_ids, metadata)
        return await self._commit_at_once(Append(encoded, condition=condition))

    async def read(
        self,
        query: EventQuery | None = None,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int | None = None,
        backwards: bool = False,
    ) -> AsyncIterator[RecordedEvent[Any]]:
        """Iterate over the events that match (by default all) with `after < position < before`, in constant memory.

        Raises:
            CorruptEventError, UnknownEventTypeError, NewerSchemaError, UnreadableEventError: on the event concerned.
            StorageError: the database failed.
        """
        wanted = query or EventQuery.all()

        async def follow(place: tuple[int, int | None], size: int) -> tuple[Rows, tuple[int, int | None]]:
            low, high = place
            rows = await self.log.read(wanted, after=low, before=high, limit=size, backwards=backwards)
            last = rows[-1].position if rows else 0
            return rows, (low, last) if backwards else (last, high)

        async with aclosing(chunks(follow, (after, before), self._pace(), limit)) as found:
            async for rows in found:
                for recorded in self.events.decode(rows):
                    yield recorded

    async def read_stream(self, stream_id: str, *, after: int = 0) -> AsyncIterator[RecordedEvent[Any]]:
        """Iterate over the events of a stream whose version is greater than `after`, in constant memory.

        Raises:
            CorruptEventError, UnknownEventTypeError, NewerSchemaError, UnreadableEventError: on the event concerned.
            StorageError: the database failed.
        """
        async with aclosing(chunks(self._stream_reader(stream_id), after, self._pace())) as found:
            async for rows in found:
                for recorded in self.events.decode(rows):
                    yield recorded

    async def head(self) -> int:
        """Return the highest position in the log, 0 if it is empty.

        Raises:
            StorageError: the database failed.
        """
        return await self.log.head()

    async def decide(self, model: DecisionModel[S]) -> Decision[S]:
        """Fold a decision model; append with the condition of the answer, and no decision can slip in between.

        Raises:
            CorruptEventError, UnknownEventTypeError, NewerSchemaError, UnreadableEventError: on the event concerned.
            StorageError: the database failed.
        """
        work = UnitOfWork.current()
        if work and model.query in work.decisions:
            events, after = work.decisions[model.query]
        else:
            after = await self.head()  # first: what is appended from here on is not read, and therefore must conflict
            events = [recorded async for recorded in self.read(model.query, before=after + 1)]
            if work:
                work.decisions[model.query] = (events, after)
        return Decision(model.fold(events), AppendCondition(model.query, after))

    async def history(self, stream_id: str) -> History:
        """Return a stream as the command that is being handled sees it: what is stored, and what it has staged.

        Raises:
            CorruptEventError, UnknownEventTypeError, NewerSchemaError, UnreadableEventError: on the event concerned.
            StorageError: the database failed.
        """
        work = UnitOfWork.current()
        if work and (known := work.history(stream_id)):
            return known
        stored: list[RecordedEvent[Any]] = []
        async with aclosing(chunks(self._stream_reader(stream_id), 0, self._pace())) as found:
            async for rows in found:
                stored += self.events.decode(rows)
        if work is None:
            return History(stored, [])
        work.histories[stream_id] = stored
        return work.history(stream_id) or History(stored, [])

    async def stage(
        self,
        events: Sequence[object],
        *,
        stream_id: str = "",
        stream_type: str = "",
        expected_version: ExpectedVersion = ANY,
        condition: AppendCondition | None = None,
    ) -> None:
        """Append together with all that the command being handled writes, once its handler has returned.

        Then everything is stored in one step with the command's id and result, or nothing is. If somebody else wrote
        first, the handler runs again. Outside of a command handler, the events are appended at once.

        Raises:
            ValueError: a second, different condition is staged.
            ConflictError and the others of `append_events`: outside of a command handler.
        """
        encoded = self.encode(events, stream_id, stream_type)
        if work := UnitOfWork.current():
            work.stage(encoded, events, expected_version, condition)
        else:
            await self.commit(Append(encoded, ((stream_id, expected_version),) if stream_id else (), condition))

    def subscribe(
        self,
        query: EventQuery | None = None,
        *,
        stream_id: str | None = None,
        after: Mark | int = 0,
        batch_size: int | None = None,
    ) -> Subscription:
        """Follow the log: first what stands there behind a mark, then what is appended, for ever.

        Args:
            query: which events; by default all.
            stream_id: only the events of this stream.
            after: what was seen last: the `mark` of a batch, kept as a checkpoint, with which a log of another history
                is refused. A mere position is only compared with the head of the log.
            batch_size: events per batch, at most; fewer where they are large. The next batch is read when it is asked
                for, so a slow consumer costs no memory.
        """
        mark = after if isinstance(after, Mark) else Mark(after)
        wanted, most = query or EventQuery.all(), batch_size or self.options.subscription_batch
        return Subscription(self.log, self.events, wanted, stream_id, mark, most, self.options)

    def encode(
        self,
        events: Sequence[object],
        stream_id: str,
        stream_type: str,
        event_ids: Sequence[UUID] | None = None,
        metadata: Metadata | None = None,
    ) -> tuple[NewEvent, ...]:
        """Return events as an `Append` wants them.

        Raises:
            ValueError: there is no event, or the ids do not match the events one by one.
            DuplicateEventIdError: one id is given twice.
            InvalidEventError, InvalidMessageTypeError, LimitExceededError: an event cannot be stored.
        """
        if not events:
            raise ValueError("an append needs at least one event")
        if len(events) > MAX_EVENTS:
            raise LimitExceededError(f"an append takes at most {MAX_EVENTS} events, got {len(events)}; split it")
        if event_ids is None:
            work = UnitOfWork.current()
            ids = [each.bytes for each in work.event_ids(len(events))] if work else new_event_ids(len(events))
        else:
            ids = [each.bytes for each in event_ids]
            if len(set(ids)) < len(ids):
                raise DuplicateEventIdError(next(each for each in event_ids if ids.count(each.bytes) > 1))
        data = encode_metadata(metadata or current_metadata())
        encoded = self.events.encode_all(events, ids, stream_id, stream_type, data)
        if len(encoded) > 1 and (size := sum(len(event.payload) for event in encoded)) > MAX_BYTES:
            raise LimitExceededError(f"an append takes at most {MAX_BYTES} bytes of payload, got {size}; split it")
        return encoded

    async def commit(self, append: Append) -> Receipt[None]:
        """Store a prepared append; `append_events`, `append` and the command bus all end here.

        Raises:
            ConflictError, DuplicateEventIdError, CommandReusedError, OutcomeUnknownError, StorageError: see there.
        """
        appended = self._accepted(await self.log.append(append))
        if appended.repeated and append.command:  # a repeat of a command may have made other events than the first
            return await self._first_receipt(appended)
        return _receipt(append, appended)

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
            TypeError: the log cannot be joined, or not by such a connection.
        """
        if not hasattr(self.log, "transaction"):
            raise TypeError(f"{type(self.log).__name__} is not in a SQL database; there is no transaction to join")
        log = cast(JoinableLog, self.log)
        transaction, receipts = StoreTransaction(self.encode), list[Receipt[None]]()
        repeat: RepeatedTransactionError | None = None
        try:
            async with log.transaction(connection) as joined:
                transaction.connection = joined.connection
                yield transaction
                receipts = [_receipt(each, self._accepted(await joined.append(each))) for each in transaction.appends]
                if repeat := _repeated_transaction(receipts):
                    raise repeat  # which rolls back the user's SQL: the earlier try has committed it with the events
        except RepeatedTransactionError as error:
            if error is not repeat or connection is not None:  # a transaction that is joined, its owner rolls back
                raise
        transaction.receipts += receipts

    async def find_command(self, command_id: UUID) -> tuple[CommandRecord, Receipt[None]] | None:
        """Return what is recorded of a command and the receipt that it got, or None if it has not taken effect."""
        known = await self.log.find_command(command_id.bytes)
        return known and (known[0], await self._first_receipt(known[1]))

    def _pace(self) -> Pace:
        return Pace(self.options.first_chunk, self.options.chunk, self.options.chunk_bytes)

    def _stream_reader(self, stream_id: str) -> Read[int]:
        async def follow(version: int, size: int) -> tuple[Rows, int]:
            rows = await self.log.read_stream(stream_id, after=version, limit=size)
            return rows, rows[-1].version if rows else version

        return follow

    async def _commit_at_once(self, append: Append) -> Receipt[None]:
        receipt = await self.commit(append)
        if work := UnitOfWork.current():
            work.receipt = receipt
        return receipt

    def _accepted(self, outcome: Appended | Rejected) -> Appended:
        if isinstance(outcome, Appended):
            return outcome
        raise ConflictError(
            outcome.reason,
            conflicts=self.events.decode(outcome.conflicts),
            stream_id=outcome.stream_id,
            version=outcome.version,
        )

    async def _first_receipt(self, appended: Appended) -> Receipt[None]:
        """Make the receipt of an earlier call again, from the events that it stored.

        Raises:
            OutcomeUnknownError: they could not be read. That the call took effect is certain: it must be repeated.
        """
        size = appended.last - appended.first + 1
        try:
            rows = await self.log.read(EventQuery.all(), after=appended.first - 1, before=appended.last + 1, limit=size)
        except StorageError as error:
            raise OutcomeUnknownError(f"no receipt could be read ({error}); repeat it with the same id") from error
        if damaged := [row.position for row in rows if not is_intact(row)]:
            raise CorruptEventError(damaged[0])
        tags = (tag for row in rows for tag in msgspec.json.decode(row.tags, type=list[str]))
        return Receipt(
            value=None,
            stream_id=rows[-1].stream_id,
            version=appended.version,
            position=appended.last,
            types=tuple(dict.fromkeys(row.type for row in rows)),
            tags=tuple(dict.fromkeys(tags)),
            repeated=True,
        )


def _repeated_transaction(receipts: Sequence[Receipt[None]]) -> RepeatedTransactionError | None:
    """Return the error that rolls a transaction back whose appends are stored already; None if none of them is.

    Raises:
        TransactionReusedError: some are, and others are not.
    """
    stored = [receipt.repeated for receipt in receipts]
    if not any(stored):
        return None
    if not all(stored):
        raise TransactionReusedError(stored.index(True) + 1, stored.index(False) + 1)
    return RepeatedTransactionError(receipts)


def _receipt(append: Append, appended: Appended) -> Receipt[None]:
    """Make a receipt. Of a repeat, too: an append is one only if its events are the same as those of the first."""
    events = append.events
    alone = len(events) == 1
    return Receipt(
        value=None,
        stream_id=events[-1].stream_id,
        version=appended.version,
        position=appended.last,
        types=(events[0].type,) if alone else tuple(dict.fromkeys(event.type for event in events)),
        tags=events[0].tags if alone else tuple(dict.fromkeys(tag for event in events for tag in event.tags)),
        repeated=appended.repeated,
    )
