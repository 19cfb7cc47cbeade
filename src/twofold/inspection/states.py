"""The state of a stream after any of its events, as the aggregate or the decider of the application folds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twofold.arguments import check_instance, check_text, check_whole
from twofold.errors import EventNotFoundError
from twofold.log.event_store import EventStore
from twofold.log.folding.as_of import AsOf
from twofold.log.folding.streams import Fold


@dataclass(frozen=True, kw_only=True)
class StreamState:
    """What the events of a stream lead to, up to one of them."""

    stream: str
    version: int
    """Of the last event that is folded."""
    fold: str
    """What folds it, such as `aggregate Order`."""
    state: Any
    """The aggregate, or the state of the decider."""


async def stream_state(
    store: EventStore, stream: str, *, version: int | None = None, fold: str = "", as_of: AsOf | None = None
) -> StreamState:
    """Return the state of a stream after one of its events, by default after the last.

    The aggregates and deciders are those of which the application has made repositories and handlers. All events up to
    the version are read and folded; neither a snapshot nor a kept state is believed.

    Args:
        store: of the application.
        stream: its id, such as "Order-7f3".
        version: of the last event that is folded; 0 for the state before the first.
        fold: which one, where several fold streams of the type, such as `decider Order evolve`.
        as_of: an earlier moment, a position or a time; then later events are not folded.

    Raises:
        FuturePositionError, InvalidTokenError: as `EventStore.position_at`.
        EventNotFoundError: the stream has no such version.
        ValueError: nothing folds such streams, or several do.
        CorruptEventError, UnknownEventTypeError, NewerSchemaError, UnreadableEventError: on the event concerned.
        TenantMissingError: there are tenants, and this code does not run on behalf of all.
        StorageError: the database failed.
    """
    check_instance("store", store, EventStore)
    check_text("stream", stream)
    if version is not None:
        check_whole("version", version)
    check_text("fold", fold, may_be_empty=True)
    position = None if as_of is None else await store.position_at(as_of)
    first = await store.log.read_stream(stream, limit=1)
    if not first:
        raise EventNotFoundError(f"the stream {stream!r} is empty; `twofold events search` finds those that there are")
    found = _fold_of(store, stream, first[0].stream_type, fold)
    state, reached = await store._streams.state_at(stream, found, version, position=position)
    if version is not None and reached < version:
        raise EventNotFoundError(f"the stream {stream!r} has {reached} events, and no version {version}")
    return StreamState(stream=stream, version=reached, fold=found.name, state=state)


def _fold_of(store: EventStore, stream: str, stream_type: str, name: str) -> Fold[Any]:
    folds = [make(stream) for make in store._folds.values()]
    suitable = {each.name: each for each in folds if each.owner.stream_type == stream_type}
    if name and name in suitable:
        return suitable[name]
    if len(suitable) == 1 and not name:
        return next(iter(suitable.values()))
    there = f"there are {', '.join(sorted(suitable))}" if suitable else "there is none"
    raise ValueError(
        f"`fold`: name the one aggregate or decider of the application that folds streams of the type {stream_type!r}; "
        f"{there}{f', and no {name}' if name else ''}"
    )
