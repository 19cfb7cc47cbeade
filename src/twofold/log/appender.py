"""How events get into the log: encoded, then staged with a command or stored at once, and answered with a receipt."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import chain
from typing import Any, NamedTuple, cast
from uuid import UUID

import msgspec

from twofold.arguments import check_instance, check_items
from twofold.errors import (
    ConflictError,
    CorruptEventError,
    DuplicateEventIdError,
    InvalidEventError,
    LimitExceededError,
    RepeatedTransactionError,
    StreamClosedError,
    TransactionReusedError,
    UnitOfWorkError,
)
from twofold.log.codec.event_types import EventTypes, encode_metadata
from twofold.log.codec.unknown import decoder
from twofold.log.query_check import matchable_condition
from twofold.log.staged_receipt import StagedReceipt
from twofold.log.tagged_types import TaggedTypes
from twofold.log.transaction import StoreTransaction
from twofold.log.unit_of_work import writing_unit
from twofold.messages.context import current_metadata
from twofold.messages.endings import ENDINGS, StreamClosed, StreamTombstoned
from twofold.messages.event import Metadata, RecordedEvent
from twofold.messages.event_query import AppendCondition
from twofold.messages.ids import new_event_ids
from twofold.messages.position import Position
from twofold.messages.receipt import Receipt
from twofold.messages.stored_event import NewEvent, is_intact
from twofold.messages.stream import ExpectedVersion
from twofold.messages.tenant_names import own_events, own_id, own_uuid, shown_stream, shown_tags
from twofold.options import LogOptions
from twofold.ports.event_log import MAX_CONFLICTS, Append, Appended, CommandRecord, EventLog, JoinableLog, Rejected
from twofold.slices import Slices
from twofold.telemetry import count_append, is_observed, trace_append, with_trace
from twofold.tenants import current_tenant, own_condition


class Committed(NamedTuple):
    """An append that is durable, or an earlier one that this one repeats."""

    receipt: Receipt[Any]
    result: bytes
    """What is recorded as the result of the command."""


class StreamPart(NamedTuple):
    """What one stream gets of an append to several."""

    stream_id: str
    stream_type: str
    events: Sequence[object]
    expected: ExpectedVersion
    is_closed: bool = False
    """Whether the last event closes the stream."""


class Appender:
    """Encodes events, stages or commits them, and makes receipts. `EventStore` and the command bus write through it.

    Args:
        log: where the events go.
        events: the classes of events that can be stored.
        options: how much an append may hold.
        note: takes the position of what was committed.
        tenants: whether each event is that of the tenant on whose behalf the code runs.
    """

    def __init__(
        self,
        log: EventLog,
        events: EventTypes,
        options: LogOptions,
        note: Callable[[Position], None],
        *,
        tenants: bool = False,
    ) -> None:
        self._log = log
        self._types = events
        self._options = options
        self._note = note
        self._has_tenants = tenants
        self.tagged_types = TaggedTypes(log, events, options)

    @property
    def has_tenants(self) -> bool:
        """Whether everything belongs to a tenant."""
        return self._has_tenants

    async def write(
        self,
        events: Sequence[object],
        stream_id: str,
        stream_type: str,
        expected: ExpectedVersion | None,
        condition: AppendCondition | None,
        event_ids: Sequence[UUID] | None,
        metadata: Metadata | None,
    ) -> Receipt[None]:
        """Stage events with the command that is being handled; elsewhere, store them at once.

        Args:
            events: at least one.
            stream_id: the stream to which they belong; empty for none.
            stream_type: its type.
            expected: the version of the stream; None for events of no stream.
            condition: what else must hold.
            event_ids: one for each event.
            metadata: of all of them.

        Raises:
            UnitOfWorkError: the command's handler has returned.
            Exception: what `EventStore.append_events` raises.
        """
        unit = writing_unit()
        if type(events) is not list and type(events) is not tuple:
            _check_events(events)
        if self._has_tenants and unit is not None:
            unit.refuse_other_tenant(current_tenant("an append"))
        if condition is not None:
            condition = self.own_condition(condition)
        if self._types._encryption is not None:
            await self._types._prepare_keys(events)
        make_ids = unit.event_ids if unit else None
        if len(events) <= self._options.encoded_at_once:
            encoded = self.encode(events, stream_id, stream_type, event_ids, metadata, make_ids)
        else:
            encoded = await self._encode_in_slices(events, stream_id, stream_type, event_ids, metadata, make_ids)
        if self._types.unrecorded:
            await self.tagged_types.record()
        if unit is not None:
            unit.stage(encoded, events, expected, condition)
            return staged_receipt(None, encoded)
        of_stream = () if expected is None else ((encoded[0].stream_id, expected),)
        append = Append(encoded, of_stream, condition)
        appended = await self._accepted(await self._append(append))
        receipt = _receipt(append, appended)
        if not appended.repeated:
            self._note(receipt.position)
            count_append(len(encoded))
        return receipt

    async def write_streams(
        self, parts: Sequence[StreamPart], condition: AppendCondition | None = None, metadata: Metadata | None = None
    ) -> Receipt[None]:
        """Stage or store events of several streams in one append, as `write` does with those of one.

        Raises:
            UnitOfWorkError: the command's handler has returned.
            Exception: what `EventStore.append_events` raises.
        """
        unit = writing_unit()
        condition = None if condition is None else self.own_condition(condition)
        await self._types._prepare_keys([event for part in parts for event in part.events])
        make_ids = unit.event_ids if unit else None
        all_encoded = [self.encode(each.events, *each[:2], None, metadata, make_ids, each.is_closed) for each in parts]
        if self._types.unrecorded:
            await self.tagged_types.record()
        if unit is not None:
            for part, encoded in zip(parts, all_encoded, strict=True):
                unit.stage(encoded, part.events, part.expected, condition)
            return staged_receipt(None, all_encoded[-1])
        expected = tuple((new[0].stream_id, part.expected) for part, new in zip(parts, all_encoded, strict=True))
        append = Append(tuple(chain.from_iterable(all_encoded)), expected, condition)
        return (await self.commit(append)).receipt

    def encode(
        self,
        events: Sequence[object],
        stream_id: str,
        stream_type: str,
        event_ids: Sequence[UUID] | None = None,
        metadata: Metadata | None = None,
        make_ids: Callable[[int], list[bytes]] | None = None,
        is_closed: bool = False,
    ) -> tuple[NewEvent, ...]:
        """Return events as an `Append` wants them; only a part `is_closed` ends its stream.

        Raises:
            TypeError: an argument is of another type.
            ValueError: there is no event, or the ids do not match the events one by one.
            DuplicateEventIdError: one id is given twice.
            InvalidEventError, InvalidMessageTypeError, LimitExceededError: an event cannot be stored.
        """
        if type(events) is not list and type(events) is not tuple:
            _check_events(events)
        ids, data = self._prepare(events, event_ids, metadata, make_ids)
        return self._own(self._fitting(self._types.encode_all(events, ids, stream_id, stream_type, data), is_closed))

    async def _encode_in_slices(
        self,
        events: Sequence[object],
        stream_id: str,
        stream_type: str,
        event_ids: Sequence[UUID] | None,
        metadata: Metadata | None,
        make_ids: Callable[[int], list[bytes]] | None,
    ) -> tuple[NewEvent, ...]:
        """Encode as `encode` does, and let other tasks run meanwhile."""
        events = tuple(events)  # as they are now
        ids, data = self._prepare(events, event_ids, metadata, make_ids)

        def encode(places: Sequence[int]) -> tuple[NewEvent, ...]:
            part = slice(places[0], places[-1] + 1)
            return self._types.encode_all(events[part], ids[part], stream_id, stream_type, data)

        return self._own(self._fitting(tuple(await Slices(encode).of(range(len(events))))))

    def _prepare(
        self,
        events: Sequence[object],
        event_ids: Sequence[UUID] | None,
        metadata: Metadata | None,
        make_ids: Callable[[int], list[bytes]] | None,
    ) -> tuple[list[bytes], bytes]:
        """Return the ids of events, and their metadata in its stored form."""
        if not events:
            raise ValueError("`events` is empty; an append needs at least one event")
        if len(events) > (most := self._options.max_events):
            raise LimitExceededError(f"an append takes at most {most} events, got {len(events)}; split it")
        if event_ids is None:
            ids = (make_ids or new_event_ids)(len(events))
        else:
            check_items("event_ids", event_ids, lambda each: isinstance(each, UUID), "UUIDs")
            ids = [each.bytes for each in event_ids]
            if len(ids) != len(events):
                raise ValueError(f"{len(events)} events need as many ids, got {len(ids)}")
            if len(set(ids)) < len(ids):
                raise DuplicateEventIdError(next(each for each in event_ids if ids.count(each.bytes) > 1))
        if metadata is not None:
            check_instance("metadata", metadata, Metadata, "such as Metadata(user='ann')")
        if self._has_tenants:
            tenant = current_tenant("an append")
            metadata = _of_tenant(metadata or current_metadata(), tenant)
            if event_ids is not None:
                ids = [own_id(tenant, each) for each in ids]
        return ids, encode_metadata(with_trace(metadata or current_metadata()))

    def _own(self, encoded: tuple[NewEvent, ...]) -> tuple[NewEvent, ...]:
        """Return encoded events as those of the tenant on whose behalf the code runs, if there are tenants."""
        return own_events(current_tenant("an append"), encoded) if self._has_tenants else encoded

    def own_condition(self, condition: AppendCondition) -> AppendCondition:
        """Return what can match of a condition, as the log is to check it.

        Raises:
            ValueError: no event of its types carries one of its tags.
            TenantMissingError: there are tenants, and none is set.
        """
        matching = matchable_condition(condition, self._types)
        return own_condition(current_tenant("an append"), matching) if self._has_tenants else matching

    def own_id(self, command_id: UUID) -> UUID:
        """Return the id under which a command is recorded: with tenants, each has ids of its own.

        Raises:
            TenantMissingError: there are tenants, and none is set.
        """
        return own_uuid(current_tenant("a command"), command_id) if self._has_tenants else command_id

    def _fitting(self, encoded: tuple[NewEvent, ...], is_closed: bool = False) -> tuple[NewEvent, ...]:
        """Return encoded events if they are not too large together, and none ends its stream but the last of a closed.

        An end that was made by hand would skip what `close_stream` and `tombstone_stream` check and remove.
        """
        for event in encoded:
            if event.type in ENDINGS and not (is_closed and event is encoded[-1]):
                raise InvalidEventError(
                    f"{event.type} is the last event of its stream; append none by hand, but call "
                    f"store.close_stream(…) or store.tombstone_stream(…)"
                )
        if len(encoded) < 2:
            return encoded
        largest = self._options.max_bytes
        if (size := sum(len(event.payload) for event in encoded)) > largest:
            raise LimitExceededError(f"an append takes at most {largest} bytes of payload, got {size}; split it")
        return encoded

    async def commit(self, append: Append, value: Any = None) -> Committed:
        """Store the append of a command durably.

        Args:
            append: what is stored.
            value: what the command handler returned, for the receipt. The receipt of a repeat has none.

        Raises:
            ConflictError, DuplicateEventIdError, CommandReusedError, OutcomeUnknownError, StorageError: see
                `EventLog.append`.
        """
        appended = await self._accepted(await self._append(append))
        if appended.repeated:  # a repeat of a command may have made other events than the first
            own = append.command.result if append.command else b""  # the record of the first may be removed by now
            return Committed(self._receipt_of(appended), appended.result or own)
        receipt = _receipt(append, appended, value)
        self._note(receipt.position)
        count_append(len(append.events))
        return Committed(receipt, appended.result)

    async def find_command(self, command_id: UUID) -> tuple[CommandRecord, Receipt[None]] | None:
        """Return what is recorded of a command and the receipt that it got, or None if it has not taken effect.

        Raises:
            CorruptEventError: an event that it stored is damaged.
            StorageError: the database failed.
        """
        known = await self._log.find_command(command_id.bytes)
        return known and (known.record, self._receipt_of(known.appended._replace(rows=known.rows)))

    @asynccontextmanager
    async def transaction(self, connection: Any) -> AsyncIterator[StoreTransaction]:
        """Open a transaction for SQL and appends; see `EventStore.transaction`."""
        if writing_unit() is not None:
            raise UnitOfWorkError(
                "a command handler cannot open store.transaction(): each attempt would commit it, "
                "apart from the command; write your rows in an inline projection, or open the transaction elsewhere"
            )
        if not hasattr(self._log, "transaction"):
            raise TypeError(f"{type(self._log).__name__} is not in a SQL database; there is no transaction to join")
        transaction, receipts = StoreTransaction(self.encode, self.own_condition), list[Receipt[None]]()
        repeat: RepeatedTransactionError | None = None
        try:
            async with cast(JoinableLog, self._log).transaction(connection) as joined:
                transaction.connection = joined.connection
                yield transaction
                if self._types.unrecorded:
                    await self.tagged_types.compare()  # without recording: the transaction has the log's lock, maybe
                receipts = [
                    _receipt(each, await self._accepted(await joined.append(each))) for each in transaction.appends
                ]
                if repeat := _repeated_transaction(receipts):
                    raise repeat  # which rolls back the user's SQL: the earlier try has committed it with the events
        except RepeatedTransactionError as error:
            if error is not repeat or connection is not None:  # a transaction that is joined, its owner rolls back
                raise
        transaction.receipts += receipts
        for receipt in receipts if connection is None else ():  # one that is joined is committed by its owner, or not
            self._note(receipt.position)

    def _append(self, append: Append) -> Awaitable[Appended | Rejected]:
        appending = self._log.append(append)
        return trace_append(appending, len(append.events)) if is_observed() else appending

    async def _accepted(self, outcome: Appended | Rejected) -> Appended:
        if isinstance(outcome, Appended):
            return outcome
        conflicts = await decoder(self._types, "raw").events_of(outcome.conflicts)
        if outcome.is_ended:
            raise self._closed(outcome.stream_id, conflicts)
        raise ConflictError(
            outcome.reason,
            conflicts=conflicts,
            stream_id=self.shown(outcome.stream_id),
            version=outcome.version,
            stored_stream=outcome.stream_id,
            is_complete=len(outcome.conflicts) < MAX_CONFLICTS,
        )

    def _closed(self, stream_id: str, conflicts: Sequence[RecordedEvent[Any]]) -> StreamClosedError:
        """Return the error for an append to a stream that takes no more events."""
        ending = conflicts[-1].event if conflicts else None
        shown = self.shown(stream_id)
        if isinstance(ending, StreamClosed):
            return StreamClosedError(shown, reason=ending.reason, by=ending.by, successor=ending.successor)
        if isinstance(ending, StreamTombstoned):
            return StreamClosedError(shown, reason=ending.reason, by=ending.by, is_tombstoned=True)
        return StreamClosedError(shown)

    def shown(self, stream_id: str) -> str:
        """Return the name of a stream of the present tenant as the application knows it."""
        return stream_id[len(current_tenant("a stream")) + 1 :] if self._has_tenants and stream_id else stream_id

    def _receipt_of(self, appended: Appended) -> Receipt[None]:
        """Make the receipt of an earlier call again, from the events that it stored.

        Raises:
            CorruptEventError: one of them is damaged.
        """
        rows = appended.rows
        if damaged := [row.position for row in rows if not is_intact(row)]:
            raise CorruptEventError(damaged[0])
        stored = [tuple(msgspec.json.decode(row.tags, type=list[str])) for row in rows]
        return Receipt(
            value=None,
            stream_id=shown_stream(rows[-1].stream_id, stored[-1]),
            version=appended.version,
            position=Position(appended.last, rows[-1].event_id),
            types=tuple(dict.fromkeys(row.type for row in rows)),
            tags=tuple(dict.fromkeys(tag for tags in stored for tag in shown_tags(tags))),
            repeated=True,
        )


def _check_events(events: Any) -> None:
    if isinstance(events, str | bytes) or not isinstance(events, Sequence):
        raise TypeError(f"`events` is a list, not {events!r:.60}; write [event]")


def staged_receipt(value: Any, events: Sequence[NewEvent]) -> StagedReceipt[Any]:
    """Return the receipt of events that are stored once the command's handler has returned."""
    last = events[-1]
    return StagedReceipt(value, shown_stream(last.stream_id, last.tag_names), *_types_and_tags(events))


def _of_tenant(metadata: Metadata, tenant: str) -> Metadata:
    """Return metadata that name the tenant.

    Raises:
        UnitOfWorkError: they name another one.
    """
    if metadata.tenant not in (None, tenant):
        raise UnitOfWorkError(
            f"the metadata name the tenant {metadata.tenant!r}, and the code runs on behalf of {tenant!r}; write "
            f"`with twofold.metadata(tenant={metadata.tenant!r}): ...` around the append"
        )
    return msgspec.structs.replace(metadata, tenant=tenant)


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


def _receipt(append: Append, appended: Appended, value: Any = None) -> Receipt[Any]:
    """Make a receipt. Of a repeat, too: an append is one only if its events are the same as those of the first."""
    last = append.events[-1]
    types, tags = _types_and_tags(append.events)
    return Receipt(
        value=value,
        stream_id=shown_stream(last.stream_id, last.tag_names),
        version=appended.version,
        position=Position(appended.last, last.event_id),
        types=types,
        tags=tags,
        repeated=appended.repeated,
    )


def _types_and_tags(events: Sequence[NewEvent]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if len(events) == 1:
        return (events[0].type,), shown_tags(events[0].tag_names)
    return (
        tuple(dict.fromkeys(event.type for event in events)),
        tuple(dict.fromkeys(tag for event in events for tag in shown_tags(event.tag_names))),
    )
