"""Every error that Twofold raises by itself. Facts are attributes; a docstring says what happened and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from twofold.messages.event import RecordedEvent


class TwofoldError(Exception):
    """Base of all errors of the framework; the errors of your own handlers are never wrapped in it."""


# -- wiring -----------------------------------------------------------------------------------------------------


class HandlerNotFoundError(TwofoldError):
    """No handler is registered for this message; register one before dispatching it."""

    def __init__(self, message_type: type, bus: str) -> None:
        name = message_type.__name__
        super().__init__(f"no handler for {name}; add `{bus}.register({name}, handler)` where the application is wired")
        self.message_type = message_type


class DuplicateHandlerError(TwofoldError):
    """A message has one handler; a second registration is refused."""

    def __init__(self, message_type: type, existing: object) -> None:
        name = message_type.__name__
        super().__init__(f"{name} is already handled by {existing!r}; remove one of the two registrations")
        self.message_type = message_type
        self.existing = existing


class InvalidHandlerError(TwofoldError):
    """The object given as a handler cannot handle the message."""


class InvalidMessageTypeError(TwofoldError):
    """A message class cannot be stored or sent as it is declared; the text names the field and the remedy."""


class InvalidProjectionError(TwofoldError):
    """A projection or its row type is declared in a way that cannot work; the text names the remedy."""


class OwnershipError(TwofoldError):
    """What was opened in one process and event loop is used in another one, or started twice; the text says which."""


# -- events -----------------------------------------------------------------------------------------------------


class InvalidEventError(TwofoldError):
    """This event's values do not fit its own declaration, so that it could never be read back. Nothing was stored."""


class UnknownEventTypeError(TwofoldError):
    """The log holds an event of a type that this application has not registered."""

    def __init__(self, type_name: str, position: int) -> None:
        super().__init__(
            f"event {position} is a {type_name!r}, which is not registered; call `store.events.register(...)` "
            f"with its class, or name it in `aliases=` of the class that replaced it"
        )
        self.type_name = type_name
        self.position = position


class NewerSchemaError(TwofoldError):
    """The event was written by newer code than this; deploy the newer code before reading it."""

    def __init__(self, type_name: str, position: int, stored: int, known: int) -> None:
        super().__init__(
            f"event {position} ({type_name}) has schema version {stored}, this code knows {known}; "
            f"deploy readers before writers"
        )
        self.type_name = type_name
        self.position = position


class UnreadableEventError(TwofoldError):
    """A stored payload does not fit the event type of today; add an upcaster for its schema version."""

    def __init__(self, type_name: str, position: int, schema_version: int, reason: str) -> None:
        super().__init__(f"event {position} ({type_name}, schema version {schema_version}) cannot be read: {reason}")
        self.type_name = type_name
        self.position = position
        self.schema_version = schema_version


class CorruptEventError(TwofoldError):
    """The checksum of a stored event does not match its bytes: the storage changed them. Restore from a backup."""

    def __init__(self, position: int) -> None:
        super().__init__(f"event {position} does not match its checksum: the stored bytes were changed")
        self.position = position


class DamagedRowError(TwofoldError):
    """A row of a read model does not fit its class: something else has written it. Build the read model again."""


class LimitExceededError(TwofoldError):
    """A name, payload or batch is larger than the log accepts. Nothing was stored."""


# -- appends ----------------------------------------------------------------------------------------------------


class ConflictError(TwofoldError):
    """Somebody else wrote first: the expected version or the append condition no longer holds. Nothing was stored.

    `conflicts` holds the events that caused it (up to a hundred), so that the decision can be taken again on them.
    """

    def __init__(
        self,
        reason: str,
        *,
        conflicts: Sequence[RecordedEvent[Any]] = (),
        stream_id: str = "",
        version: int = 0,
    ) -> None:
        super().__init__(reason)
        self.conflicts = tuple(conflicts)
        self.stream_id = stream_id
        self.version = version


class VersionMismatchError(ConflictError):
    """The stream is not at the version that the caller expects it to be. Nothing was stored; look at it again."""

    def __init__(self, stream_id: str, expected: object, version: int) -> None:
        reason = f"stream {stream_id!r} is at version {version}, the caller expects {expected!r}"
        super().__init__(reason, stream_id=stream_id, version=version)
        self.expected = expected


class DuplicateEventIdError(TwofoldError):
    """An event id of this append is stored already with other content. Nothing was stored; use a new id."""

    def __init__(self, event_id: UUID) -> None:
        super().__init__(f"event id {event_id} is stored already with another stream, type or payload")
        self.event_id = event_id


class CommandReusedError(TwofoldError):
    """A command id was used again for a command with other content. Nothing was stored; use a new command id."""

    def __init__(self, command_id: UUID) -> None:
        super().__init__(f"command id {command_id} was used before for a command with other content")
        self.command_id = command_id


class OutcomeUnknownError(TwofoldError):
    """The database could not be asked in time whether an append was committed. Repeat it with the same ids."""


class AggregateNotFoundError(TwofoldError):
    """There is no aggregate with this id: its stream is empty."""

    def __init__(self, stream_type: str, id: str) -> None:
        super().__init__(f"there is no {stream_type} {id!r}")
        self.stream_type = stream_type
        self.id = id


# -- storage ----------------------------------------------------------------------------------------------------


class StorageError(TwofoldError):
    """The database refused or failed; nothing was stored. The text names the remedy."""


class StorageUnavailableError(StorageError):
    """The database cannot be reached, is locked by another process, or refuses the credentials."""


class StorageFullError(StorageError):
    """The disk is full. The append was rolled back; free some space and try again."""


class ReadOnlyStorageError(StorageError):
    """The database file, its folder or the server is read-only for this process."""


class MissingTableError(StorageError):
    """A table is not there (any more): the read model was dropped, or another generation of it serves by now."""


class UnsafeStorageError(StorageError):
    """The server is configured so that it may lose what it acknowledged; the text names the setting."""


class NewerStorageError(StorageError):
    """The database was migrated by a newer release than this one; upgrade this process."""


class LogsDifferError(TwofoldError):
    """The target of a copy holds something else than its source. Copy to an empty database, or find out who wrote."""

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(f"the logs differ at position {position}: {reason}; copy to an empty database")
        self.position = position


# -- read side --------------------------------------------------------------------------------------------------


class ProjectionFailedError(TwofoldError):
    """A projection's code raised on an event. It stands still there, and tries again, until the code is mended.

    Raised by an append, it says that an inline projection cannot fold one of the append's own events; then nothing of
    the append is stored, and the position is given to another event. Raised by a question, it says that a live
    projection cannot fold an event that the answer depends on.
    """

    def __init__(self, projection: str, recorded: RecordedEvent[Any], remark: str = "") -> None:
        text = f"projection {projection} failed on event {recorded.position} ({recorded.type})"
        super().__init__(f"{text}: {remark}" if remark else text)
        self.projection = projection
        self.position = recorded.position


class RowNotFoundError(TwofoldError):
    """An event changes a row that no earlier event created; the projection is missing a handler for it."""


class StaleReadError(TwofoldError):
    """The read models did not reach the position in time; ask again, or look at the synchronizer's status."""

    def __init__(self, position: int, behind: dict[str, int]) -> None:
        where = ", ".join(f"{name} at {at}" for name, at in behind.items())
        super().__init__(f"the read models have not reached position {position} in time: {where or 'none is running'}")
        self.position = position
        self.behind = behind


class InvalidTokenError(TwofoldError):
    """A consistency token is damaged, forged, from another log, or from the future. Go on without it."""


class InvalidCursorError(TwofoldError):
    """A page cursor is damaged or belongs to another query; begin again at the first page."""


class CheckpointMovedError(TwofoldError):
    """Another worker has moved this projection's checkpoint. Nothing was written; go on from where it stands now."""

    def __init__(self, projection: str) -> None:
        super().__init__(f"another worker has moved the checkpoint of {projection!r}")
        self.projection = projection


class UnknownProjectionError(TwofoldError):
    """There is no read model of this name, or this application does not have the code of its projection."""

    def __init__(self, projection: str, known: Iterable[str]) -> None:
        super().__init__(f"there is no projection {projection!r}; there are: {', '.join(sorted(known)) or 'none'}")
        self.projection = projection


class ReadModelBuildingError(TwofoldError):
    """The read model of this version of the code is still being built, and what serves has other columns; wait."""

    def __init__(self, projection: str, version: int, position: int) -> None:
        super().__init__(
            f"version {version} of the read model {projection} is being built and has come to position {position}; "
            f"it can be asked once it is complete. Let workers of the new code build it before others are deployed"
        )
        self.projection = projection
        self.version = version
        self.position = position


class RebuildFailedError(TwofoldError):
    """What was built anew did not pass the verification. The earlier read model serves on; the report says why."""

    def __init__(self, projection: str, reason: str) -> None:
        super().__init__(f"the new read model {projection} does not serve: {reason}")
        self.projection = projection
        self.reason = reason


class InvalidFilterError(TwofoldError):
    """A filter compares a field in a way, or with a value, that its type does not allow; the text names the remedy."""


class UnknownFieldError(TwofoldError):
    """A filter or sort names a field that the row does not have or that was not declared for it."""
