"""How the events of a batch go into a read model, for each kind of projection."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from twofold.errors import OutcomeUnknownError, StorageError
from twofold.messages.event import RecordedEvent
from twofold.ports.read_database import Changes, ReadTransaction, Style
from twofold.ports.segments import Parked, Step
from twofold.projections.projection import KeyValues, ProjectionKind

INFRASTRUCTURE = (StorageError, OutcomeUnknownError)
"""Errors that no event is to blame for."""
MAX_CAUSE, MAX_TRACEBACK = 1000, 20_000
"""Characters that are stored of an error, at most."""
_encode = msgspec.json.Encoder(order="deterministic").encode


class Handed(msgspec.Struct, frozen=True, gc=False, eq=False):
    """An event on its way into a read model."""

    recorded: RecordedEvent[Any]
    key: KeyValues

    @property
    def text(self) -> str:
        """The key as JSON."""
        return key_text(self.key)


class Failed(NamedTuple):
    """An event that did not get there, and why; without an error, it waits behind another one."""

    handed: Handed
    error: BaseException | None = None

    def parked(self) -> Parked:
        """Return what is stored of it."""
        return Parked(self.handed.recorded.position, self.handed.text, *described(self.error))


def described(error: BaseException | None) -> tuple[str, str]:
    """Return the cause and the traceback of an error, as they are stored, whatever the error is made of."""
    if error is None:
        return "", ""
    name = type(error).__name__
    try:
        cause = f"{name}: {error}"
    except Exception as also:  # its text is the user's code
        cause = f"{name}, whose text cannot be had: {type(also).__name__}"
    trace = "".join(traceback.format_exception(error))
    return storable(cause, MAX_CAUSE), storable(trace, MAX_TRACEBACK)


def storable(text: str, limit: int) -> str:
    """Return text that every engine can store; of a long one, its beginning and its end."""
    if len(text) > limit:
        text = f"{text[: limit // 2]} […] {text[-limit // 2 :]}"
    return text.replace("\0", "\\0").encode(errors="backslashreplace").decode()


class Portion(NamedTuple):
    """Events that are to go into one generation of a read model, in one transaction."""

    suffix: str
    """Of the names of the generation's tables."""
    events: Sequence[Handed]
    """In order; none is of a key that is parked."""
    step: Step
    """How the checkpoint moves."""
    changes: Changes = Changes()
    """What else is to be parked and released."""
    last_try: bool = False
    """Whether failures are parked."""
    moving: Callable[[], object] = lambda: None
    """Called after each event that takes time of its own, to tell that the work goes on."""

    def with_parked(self, failures: Iterable[Failed]) -> Changes:
        """Return its changes with failures parked, too."""
        return self.changes._replace(parked=[*self.changes.parked, *(each.parked() for each in failures)])


class Buildable(Protocol):
    """What can be built: the code of a projection, of one kind or another."""

    name: str
    version: int
    style: Style
    """Whose connection its code gets."""

    def fingerprint(self) -> Mapping[str, str]:
        """Return a digest for each part of its code; `row` is that of what its rows look like."""

    async def make(self, transaction: ReadTransaction, suffix: str) -> None:
        """Make the empty tables of a generation.

        Raises:
            InvalidProjectionError: a table of this name is there already.
        """

    async def check(self, transaction: ReadTransaction, suffix: str) -> None:
        """Make sure that a generation's tables stand as declared.

        Raises:
            InvalidProjectionError: they do not.
        """

    async def clear(self, transaction: ReadTransaction, suffix: str) -> None:
        """Delete all rows of a generation."""

    async def drop(self, transaction: ReadTransaction, suffix: str) -> None:
        """Drop the tables of a generation."""

    async def expose(self, transaction: ReadTransaction, suffix: str) -> None:
        """Let the lasting names show the tables of this generation."""


class Projector(Buildable, Protocol):
    """The code of a projection, of one kind or another, ready to run."""

    projection: Any
    kind: ProjectionKind
    batch_size: int
    """Events that it takes at once, at most."""

    def keys(self, events: Sequence[RecordedEvent[Any]]) -> list[KeyValues]:
        """Return the key of each event.

        Raises:
            Exception: whatever the projection's own code raises.
        """

    async def project(self, portion: Portion) -> Sequence[Failed]:
        """Bring a portion of events into the read model and take the step, in one transaction.

        If some fail, nothing is stored, and they are returned. On the last try they are parked instead, and so are
        the later events of their keys; the others are stored.

        Raises:
            CheckpointMovedError: nothing was stored; see `ReadDatabase.commit`.
            StorageError: nothing was stored, or it cannot be said.
        """


def handed(projector: Projector, events: Sequence[RecordedEvent[Any]]) -> list[Handed]:
    """Return events with their keys.

    Raises:
        Exception: whatever the projection's own code raises.
    """
    return list(map(Handed, events, projector.keys(events)))


def key_text(key: KeyValues) -> str:
    """Return a key as JSON. stored: version with care."""
    return _encode(key).decode()


def failed(events: Sequence[Handed], errors: Mapping[int, BaseException | None]) -> Sequence[Failed]:
    """Return the failures among some events, given by position."""
    if not errors:
        return ()
    return [Failed(each, errors[each.recorded.position]) for each in events if each.recorded.position in errors]
