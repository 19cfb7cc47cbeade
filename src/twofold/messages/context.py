"""What code runs on behalf of: the metadata that events get, the client's session, and the command being handled.

All three are one context, which follows a task and the tasks that it begins.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import Any

import msgspec

from twofold.messages.event import Metadata, RecordedEvent


class Context(msgspec.Struct, frozen=True):
    """On whose behalf, for which client and within which command the code runs."""

    metadata: Metadata | None = Metadata()
    """None: that of the unit, which makes it when it is asked for."""
    session: Any = None
    """The `Session` of the client; see `twofold.messages.session`."""
    unit: Any = None
    """The `UnitOfWork` of the command that is being handled; see `twofold.log.unit_of_work`."""
    event: RecordedEvent[Any] | None = None
    """The event that a projection or a reaction handles: the metadata follows from it, once it is asked for."""


_NOTHING = Context()
_context: ContextVar[Context] = ContextVar("twofold_context", default=_NOTHING)


current_context = _context.get
"""Return the context in which this code runs. Each message asks several times: a function around it would cost more."""


def enter_context(metadata: Metadata | None, session: Any, unit: Any) -> Token[Context]:
    """Begin to run in a context of these parts; `leave_context` ends it.

    Each request and each command enters one. This takes a fifth of the time of `context`, which goes through a
    generator.
    """
    return _context.set(Context(metadata, session, unit))


def enter_event(recorded: RecordedEvent[Any]) -> Token[Context]:
    """Begin to run on behalf of an event, within no session and no command; `leave_context` ends it."""
    return _context.set(Context(event=recorded))


leave_context = _context.reset
"""Go back to the context before that of a token."""


@contextmanager
def context(**parts: Any) -> Iterator[Context]:
    """Run the block in a context of which these parts are other ones."""
    if "metadata" in parts:
        parts["event"] = None
    inner = msgspec.structs.replace(_context.get(), **parts)
    token = _context.set(inner)
    try:
        yield inner
    finally:
        _context.reset(token)


def current_metadata() -> Metadata:
    """Return the metadata that an event recorded here and now would get."""
    return metadata_in(_context.get())


def metadata_in(here: Context) -> Metadata:
    """Return the metadata that an event recorded in a context would get."""
    if here.event is not None:
        return caused_by(here.event)
    if here.metadata is not None:
        return here.metadata
    found: Metadata = here.unit.metadata
    return found


def caused_by(recorded: RecordedEvent[Any]) -> Metadata:
    """Return the metadata of what an event causes: on whose behalf it was, and the event as the cause."""
    given = recorded.metadata
    return msgspec.structs.replace(
        given, correlation_id=given.correlation_id or recorded.event_id, causation_id=recorded.event_id, command_id=None
    )


@contextmanager
def metadata(**fields: Any) -> Iterator[Metadata]:
    """Set fields of `Metadata` for all that is recorded within the block, such as `user="ann", tenant="t1"`.

    Raises:
        TypeError: there is no such field, or its value is of another type than it declares.
    """
    for name, value in fields.items():
        _check_field(name, value)
    inner = msgspec.structs.replace(current_metadata(), **fields)
    with context(metadata=inner):
        yield inner


def _check_field(name: str, value: object) -> None:
    if name not in Metadata.__struct_fields__:
        raise TypeError(f"metadata has no field {name!r}; it has {', '.join(Metadata.__struct_fields__)}")
    try:
        msgspec.convert({name: value}, Metadata)
    except msgspec.ValidationError as error:
        raise TypeError(f"metadata({name}={value!r}): {error}; further values go into `extra`, as texts") from error
