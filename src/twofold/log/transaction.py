"""A transaction in which the user's own SQL and appends to the log succeed or fail together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from twofold.log.codec.stored_names import check_name
from twofold.messages.event import Metadata
from twofold.messages.event_query import AppendCondition
from twofold.messages.receipt import Receipt
from twofold.messages.stream import ExpectedVersion, check_expected
from twofold.ports.event_log import Append


class StoreTransaction:
    """Made by `EventStore.transaction`; usable until its block ends."""

    def __init__(self, encode: Any, own_condition: Callable[[AppendCondition], AppendCondition]) -> None:
        self._encode = encode
        self._own_condition = own_condition
        self.connection: Any = None
        """The driver's connection, for your own SQL. Neither commit it nor roll it back."""
        self.appends: list[Append] = []
        self.receipts: list[Receipt[None]] = []
        """One for each append, once the block has ended."""

    def append_events(
        self,
        stream_id: str,
        stream_type: str,
        events: Sequence[object],
        *,
        expected_version: ExpectedVersion,
        condition: AppendCondition | None = None,
        event_ids: Sequence[UUID] | None = None,
        metadata: Metadata | None = None,
    ) -> None:
        """Append to a stream when the block ends; then `ConflictError` is raised if it is not as expected.

        Raises:
            TypeError, ValueError: the expected version is none.
            InvalidEventError, InvalidMessageTypeError, LimitExceededError: the events cannot be stored.
        """
        check_name("stream id", stream_id)
        check_name("stream type", stream_type)
        check_expected(expected_version)
        condition = None if condition is None else self._own_condition(condition)
        encoded = self._encode(events, stream_id, stream_type, event_ids, metadata)
        self.appends.append(Append(encoded, ((encoded[0].stream_id, expected_version),), condition))

    def append(
        self,
        events: Sequence[object],
        *,
        condition: AppendCondition | None = None,
        event_ids: Sequence[UUID] | None = None,
        metadata: Metadata | None = None,
    ) -> None:
        """Append to no stream when the block ends; then `ConflictError` is raised if the condition fails.

        Raises:
            InvalidEventError, InvalidMessageTypeError, LimitExceededError: the events cannot be stored.
        """
        condition = None if condition is None else self._own_condition(condition)
        self.appends.append(Append(self._encode(events, "", "", event_ids, metadata), condition=condition))
