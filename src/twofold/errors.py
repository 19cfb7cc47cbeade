"""Every error that Twofold raises. Facts are attributes; each docstring says what happened and what to do.

Each class has a `code`, such as "TE101", which stays when the class is renamed: the command line and problem details
show it, and the reference explains it.

An error survives pickling and copying with its text, attributes and notes, so that process pools and task queues can
hand it on. A new class needs nothing for that.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self
from uuid import UUID

from twofold.error_codes import code_of

if TYPE_CHECKING:
    from twofold.messages.event import RecordedEvent
    from twofold.messages.mark import Mark
    from twofold.messages.receipt import Receipt


class TwofoldError(Exception):
    """Base of all errors of the framework. Errors of your own handlers reach you unchanged, never wrapped in it."""

    code: ClassVar[str] = code_of("TwofoldError")
    """What the error is called for ever, such as "TE101". A class of an application has that of its base."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.__module__ == __name__:
            cls.code = code_of(cls.__name__)

    @property
    def __notes__(self) -> list[str]:
        """What Python prints below the text in a traceback: the notes that were added, and what explains the code."""
        explained = [] if self.code == TwofoldError.code else [f"{self.code}: `twofold explain {self.code}` tells more"]
        return [*self.__dict__.get("_notes", ()), *explained]

    @__notes__.setter
    def __notes__(self, notes: Iterable[str]) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self.__dict__["_notes"] = list(notes)

    def add_note(self, note: str, /) -> None:
        """Add a note. Python's own would add it to the list that `__notes__` has made for it."""
        if not isinstance(note, str):
            raise TypeError(f"`note` is a text, not {note!r}")
        self.__dict__.setdefault("_notes", []).append(note)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        # `Exception` would call the class with `args`, which hold the text and not what `__init__` takes.
        facts = {name: _portable(value) for name, value in self.__dict__.items()}
        return _restored, (type(self), self.args), facts

    def __copy__(self) -> Self:
        twin: Self = _restored(type(self), self.args)
        twin.__dict__.update(self.__dict__)
        return twin


def _restored(error_type: type[TwofoldError], args: tuple[Any, ...]) -> Any:
    return error_type.__new__(error_type, *args)


def _portable(fact: object) -> object:
    """Return a fact, or its representation if it cannot leave the process, such as a handler with a connection."""
    try:
        pickle.dumps(fact)
    except Exception:  # the objects of applications raise what they like
        return repr(fact)
    return fact


# -- wiring -----------------------------------------------------------------------------------------------------


class HandlerNotFoundError(TwofoldError):
    """No handler is registered for the message. Register one before dispatching it."""

    def __init__(self, message_type: type, bus: str) -> None:
        name = message_type.__name__
        super().__init__(f"no handler for {name}; add `{bus}.register({name}, handler)` where the application is wired")
        self.message_type = message_type


class DuplicateHandlerError(TwofoldError):
    """The message has a handler already. Remove one of the two registrations."""

    def __init__(self, message_type: type, existing: object) -> None:
        name = message_type.__name__
        super().__init__(f"{name} is already handled by {existing!r}; remove one of the two registrations")
        self.message_type = message_type
        self.existing = existing


class InvalidHandlerError(TwofoldError):
    """The object given as a handler cannot handle the message. The text names the reason."""


class InvalidMessageTypeError(TwofoldError):
    """A message class cannot be stored or sent in the way it is declared; the text names the field and the remedy."""


class InvalidProjectionError(TwofoldError):
    """A projection or its row type is declared in a way that cannot work; the text names the remedy."""


class InvalidProcessError(TwofoldError):
    """A process class cannot work, or a handler gave what cannot follow. The text has the line to write."""


class OwnershipError(TwofoldError):
    """What was opened in one process and event loop is used in another one, or started twice; the text says which."""


class TenantMissingError(TwofoldError):
    """An application with tenants was asked for something without saying on whose behalf. Nothing was done."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what} {remedy}")
        self.what = what


class InvalidTenantError(TwofoldError):
    """No tenant can have this name: letters, digits, `.`, `_` and `-`, at most 63, the first a letter or a digit."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name!r:.80} cannot be the name of a tenant: it has letters, digits, `.`, `_` and `-`, at most 63, and "
            f"begins with a letter or a digit"
        )
        self.name = name


# -- events -----------------------------------------------------------------------------------------------------


class InvalidEventError(TwofoldError):
    """The event's values do not fit its own declaration and could not be read back. Nothing was stored."""


class SubjectForgottenError(TwofoldError):
    """The person whose personal fields an event holds was forgotten. Nothing was stored.

    Events whose personal fields all hold their placeholders are stored, as those that hold none are. A person who comes
    back gets another id.
    """

    def __init__(self, type_name: str, field: str) -> None:
        super().__init__(
            f"{type_name}: the subject in {field!r} was forgotten, and no new personal data of it is stored; give a "
            f"person who comes back another id"
        )
        self.type_name = type_name
        self.field = field


class KeyMissingError(TwofoldError):
    """A key that events or snapshots need is not in the key store, and was not destroyed there.

    The key store is another one, or was restored to an older state: configure the right one, or restore it.
    """


class MasterKeyError(TwofoldError):
    """The master key is missing or malformed, or another one has wrapped the keys; the text names the remedy."""


class UnknownEventTypeError(TwofoldError):
    """The log holds an event of a type that this application has not registered.

    Register its class or an alias, or read with `unknown="raw"`, as those do who want every event, or `unknown="skip"`.
    """

    def __init__(self, type_name: str, position: int) -> None:
        super().__init__(
            f"event {position} is a {type_name!r}, which is not registered; call `store.events.register(...)` "
            f'with its class, name it in `aliases=` of the class that replaced it, or read with unknown="raw"'
        )
        self.type_name = type_name
        self.position = position


class NewerSchemaError(TwofoldError):
    """Newer code has written the event. Deploy that code to this process, which reads it."""

    def __init__(self, type_name: str, position: int, stored: int, known: int) -> None:
        super().__init__(
            f"event {position} ({type_name}) has schema version {stored}, this code knows {known}; "
            f"deploy readers before writers"
        )
        self.type_name = type_name
        self.position = position


class UnreadableEventError(TwofoldError):
    """A stored payload does not fit today's event class. Add an upcaster for its schema version."""

    def __init__(self, type_name: str, position: int, schema_version: int, reason: str) -> None:
        super().__init__(f"event {position} ({type_name}, schema version {schema_version}) cannot be read: {reason}")
        self.type_name = type_name
        self.position = position
        self.schema_version = schema_version


class TagsMissingError(TwofoldError):
    """A class of events has a tag that its stored events do not carry: a rule by it would not know them. Add it."""

    def __init__(self, type_name: str, tags: Sequence[str]) -> None:
        super().__init__(
            f"events of the type {type_name} that are stored lack the tag {', '.join(tags)} of today's class, so that "
            f"rules and queries by it would not find them; run `twofold tags add APPLICATION {type_name}`, which first "
            f"shows what it would do, or start all the same with LogOptions(changed_tags='warn')"
        )
        self.type_name = type_name
        self.tags = tuple(tags)


class UnknownTypeError(TwofoldError):
    """The application knows no class of events of this stored name. The text has those that it knows."""

    def __init__(self, type_name: str, known: Iterable[str]) -> None:
        names = ", ".join(sorted(known)) or "none"
        super().__init__(f"the application has no events of the type {type_name!r}; it has {names}")
        self.type_name = type_name


class CorruptCommandError(TwofoldError):
    """The record of a command does not match its checksum: the storage is damaged. Restore it from a backup."""

    def __init__(self, command_id: UUID) -> None:
        super().__init__(
            f"the record of the command {command_id} does not match its checksum, so that what it answers a repeat "
            f"cannot be told; restore the log from a backup"
        )
        self.command_id = command_id


class CorruptEventError(TwofoldError):
    """The checksum of a stored event does not match its bytes: they were changed. Restore them from a backup."""

    def __init__(self, position: int) -> None:
        super().__init__(f"event {position} does not match its checksum: the stored bytes were changed")
        self.position = position


class DamagedRowError(TwofoldError):
    """A row of a read model does not fit its class: another program has written it. Rebuild the read model."""


class LimitExceededError(TwofoldError):
    """A name, payload or batch is larger than the log accepts. Nothing was stored; the text names the limit."""


# -- appends ----------------------------------------------------------------------------------------------------


class ConflictError(TwofoldError):
    """Another append came first, and the expected version or the append condition no longer holds. Nothing was stored.

    `conflicts` holds the events that caused it (up to a hundred), so that the caller can decide again on them.
    """

    def __init__(
        self,
        reason: str,
        *,
        conflicts: Sequence[RecordedEvent[Any]] = (),
        stream_id: str = "",
        version: int = 0,
        stored_stream: str = "",
        is_complete: bool = True,
    ) -> None:
        super().__init__(reason)
        self.conflicts = tuple(conflicts)
        self.is_complete = is_complete
        """Whether no more events are in the way than those that the log has shown."""
        self.stream_id = stream_id
        self.version = version
        self.stored_stream = stored_stream or stream_id
        """The name of the stream as the log has it: with tenants, it says whose it is."""


class StreamClosedError(TwofoldError):
    """The stream takes no more events: it is closed, or tombstoned. Nothing was stored, and to try again is no use.

    Write to the stream in which it goes on, the `successor`, or begin another one.
    """

    def __init__(
        self, stream_id: str, *, reason: str = "", by: str = "", successor: str = "", is_tombstoned: bool = False
    ) -> None:
        how, why = "tombstoned" if is_tombstoned else "closed", f" ({reason})" if reason else ""
        remedy = f"it goes on in {successor!r}" if successor else "begin another stream"
        super().__init__(f"stream {stream_id!r} is {how}{why} and takes no more events; {remedy}")
        self.stream_id = stream_id
        self.reason = reason
        self.by = by
        self.successor = successor
        self.is_tombstoned = is_tombstoned


class VersionMismatchError(ConflictError):
    """The stream is not at the version that the caller expects. Nothing was stored; read the stream again."""

    def __init__(self, stream_id: str, expected: object, version: int) -> None:
        reason = f"stream {stream_id!r} is at version {version}, the caller expects {expected!r}"
        super().__init__(reason, stream_id=stream_id, version=version)
        self.expected = expected


class DuplicateEventIdError(TwofoldError):
    """An event id of this append is stored with other content. Nothing was stored; use a new id."""

    def __init__(self, event_id: UUID) -> None:
        super().__init__(f"event id {event_id} is stored with another stream, type or payload; use a new id")
        self.event_id = event_id


class ValueTakenError(TwofoldError):
    """A value that must be unique is taken. Nothing was stored; ask for another value."""

    def __init__(self, name: str, value: str) -> None:
        super().__init__(f"{name} {value!r} is taken")
        self.name = name
        self.value = value


class CommandReusedError(TwofoldError):
    """An earlier command with other content has the same command id. Nothing was stored; use a new command id."""

    def __init__(self, command_id: UUID) -> None:
        super().__init__(f"command id {command_id} belongs to an earlier command with other content; use a new one")
        self.command_id = command_id


class UnitOfWorkError(TwofoldError):
    """A write does not fit the unit of work of a command. Nothing was stored; the text names the remedy."""


class NotCommittedError(TwofoldError):
    """A receipt has no position yet: its events are stored once the command's handler has returned.

    Return what the caller needs besides; `CommandBus.execute` returns the receipt of the whole command.
    """

    def __init__(self, what: str, stream_id: str) -> None:
        events = f"the events of {stream_id!r}" if stream_id else "the events"
        super().__init__(
            f"{events} have no {what} yet: they are stored once the command's handler has returned; `execute` returns "
            f"the receipt of the whole command"
        )
        self.stream_id = stream_id


class RepeatedTransactionError(TwofoldError):
    """An earlier try of this transaction is committed. Roll this one back; `receipts` are those of the earlier try."""

    def __init__(self, receipts: Sequence[Receipt[Any]]) -> None:
        super().__init__(
            "the appends of this transaction are stored by an earlier try; roll back the connection that it has "
            "joined, and go on with `receipts`"
        )
        self.receipts = tuple(receipts)


class TransactionReusedError(TwofoldError):
    """Some appends of a transaction are stored and others are not. Nothing was stored; repeat it with the same ids.

    The events of each append of a transaction need `event_ids`, and a repeat has the same appends.
    """

    def __init__(self, stored: int, missing: int) -> None:
        super().__init__(
            f"append {stored} of the transaction is stored by an earlier call, append {missing} is not; give each "
            f"append of a transaction `event_ids`, and repeat the transaction with the same appends and ids"
        )
        self.stored = stored
        self.missing = missing


class OutcomeUnknownError(TwofoldError):
    """It could not be learnt whether an append was committed. Repeat the append or command with the same ids."""


class AggregateNotFoundError(TwofoldError):
    """No aggregate has this id: its stream is empty."""

    def __init__(self, stream_type: str, id: str) -> None:
        super().__init__(f"there is no {stream_type} {id!r}")
        self.stream_type = stream_type
        self.id = id


# -- storage ----------------------------------------------------------------------------------------------------


class EventNotFoundError(TwofoldError):
    """The log holds no event at this position, or with this id; nor, if a trace was asked for, such a command."""


class StorageError(TwofoldError):
    """The database refused or failed. This call stored nothing; the text names the remedy.

    An earlier call with the same ids may have stored something: a repeat of it must keep the ids.
    """


class StorageUnavailableError(StorageError):
    """The database cannot be reached, is locked by another process, or refuses the credentials."""


class StorageFullError(StorageError):
    """The disk is full. Nothing was stored; free some space and try again."""


class ReadOnlyStorageError(StorageError):
    """The database file, its folder or the server is read-only for this process. Nothing was stored."""


class MissingTableError(StorageError):
    """A table does not exist: its read model was dropped, or another generation of it serves now."""


class StorageReplacedError(StorageError):
    """The database file was deleted or replaced while it was in use. Put the right one in its place and start again."""


class UnsafeStorageError(StorageError):
    """The server's configuration may lose acknowledged data. The text names the setting to change."""


class NewerStorageError(StorageError):
    """A newer release has migrated the database. Upgrade this process."""


class HistoryChangedError(TwofoldError):
    """A consumer has read events that are not, or not so, in the log any more; the text names the consumer.

    The log was restored to an older state, or is another log. The consumer stands still: it skips nothing and repeats
    nothing by itself. Rebuild the read model, set the consumer back, or give it the log that it has read.
    """

    def __init__(self, read: Mark, found: Mark | None, head: int, consumer: str = "") -> None:
        who = consumer or "this consumer"
        where = f"it has {found} there" if found else f"it ends at {head}"
        remedy = f"`twofold rebuild` builds a read model again, `twofold projections rewind` sets {who} back"
        super().__init__(
            f"{who} has read up to event {read}, and the log has another history: {where}. It was restored to an older "
            f"state, or is another log; nothing is skipped. {remedy}"
        )
        self.read = read
        """What the consumer has read last."""
        self.found = found
        """What stands in the log at that position; None: the log ends before it."""
        self.head = head
        self.consumer = consumer

    def of(self, consumer: str) -> HistoryChangedError:
        """Return the error with the name of the consumer that it stops."""
        return HistoryChangedError(self.read, self.found, self.head, consumer)


class LogsDifferError(TwofoldError):
    """The target of a copy holds other events than its source. Copy to an empty database."""

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(f"the logs differ at position {position}: {reason}; copy to an empty database")
        self.position = position


class ArchiveError(StorageError):
    """A file of the archive, which holds payloads of events, is missing, damaged or another one.

    The events themselves are in order, and are read again when the file is.
    """

    def __init__(self, path: Path | None, reason: str) -> None:
        super().__init__(f"{path or 'the archive'}: {reason}")
        self.path = path


class LogFileError(TwofoldError):
    """A file that a log was exported to cannot be used as was asked."""

    def __init__(self, path: Path, reason: str, line: int | None = None) -> None:
        place = f"{path}, {'row' if path.suffix == '.parquet' else 'line'} {line}" if line else str(path)
        super().__init__(f"{place}: {reason}")
        self.path = path
        self.line = line
        """Which line is wrong, or which row of a file of Parquet; None if it is the whole file."""


class TransformFailedError(TwofoldError):
    """The function that changes the events of a copy or an import raised, or returned what no log can hold.

    Mend it and run the copy again: what was stored before is compared with what it returns then.
    """

    def __init__(self, position: int, type_name: str, event_id: UUID, reason: str) -> None:
        super().__init__(f"the transform failed on event {position} ({type_name}, {event_id}): {reason}")
        self.position = position
        self.type_name = type_name
        self.event_id = event_id


class ForeignEventError(TwofoldError):
    """A row of another event store cannot be imported. The text says which, why and what to do."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place}: {reason}")
        self.place = place
        """Which row: its table, and its number there."""


# -- read side --------------------------------------------------------------------------------------------------


class ProjectionFailedError(TwofoldError):
    """A projection's code raised on an event. Mend the code; the projection then goes on with that event.

    An append raises it when an inline projection cannot fold one of its events; nothing of the append is stored, and
    the position goes to another event. A query raises it when a projection that folds on demand cannot fold an event
    on which the answer depends.
    """

    def __init__(self, projection: str, recorded: RecordedEvent[Any], remark: str = "") -> None:
        text = f"projection {projection} failed on event {recorded.position} ({recorded.type})"
        super().__init__(f"{text}: {remark}" if remark else text)
        self.projection = projection
        self.position = recorded.position


class ProcessNotStartedError(TwofoldError):
    """An event continues a process that no event has started. Start it, or let the handler say `missing="ignore"`."""

    def __init__(self, process: str, process_id: str, event: str) -> None:
        super().__init__(
            f"{event} is about {process} {process_id!r}, which was never started; if that may be, write "
            f'@on({event}, …, missing="ignore")'
        )
        self.process = process
        self.process_id = process_id
        self.event = event


class UnknownProcessError(TwofoldError):
    """There is no process, or no instance of it, under this name. The text lists what there is."""


class RowNotFoundError(TwofoldError):
    """An event changes a row that no earlier event created. Add a handler for the event that begins the row."""


class StaleReadError(TwofoldError):
    """The read models did not reach the position in time. Ask again, or look at the synchronizer's status."""

    def __init__(self, position: int, behind: dict[str, int], faults: Mapping[str, str] | None = None) -> None:
        faults = {name: fault for name, fault in (faults or {}).items() if name in behind and fault}
        texts = [f"{name} at {at}" + (f" ({faults[name]})" if name in faults else "") for name, at in behind.items()]
        where = ", ".join(texts) or "none is running"
        super().__init__(f"the read models have not reached position {position} in time: {where}")
        self.position = position
        self.behind = behind
        self.faults = faults


class FuturePositionError(TwofoldError):
    """What was asked for as of a moment cannot be told yet: the log has not come there. Ask as of an earlier one."""

    def __init__(self, moment: str, head: int) -> None:
        super().__init__(f"the log ends at position {head}; it has not come to {moment} yet")
        self.head = head


class PastUnknownError(TwofoldError):
    """The rows of a read model as of an earlier moment cannot be told; the text says why, and the remedy if any."""

    def __init__(self, projection: str, reason: str) -> None:
        super().__init__(f"{projection} cannot be read as of an earlier moment: {reason}")
        self.projection = projection


class InvalidTokenError(TwofoldError):
    """A consistency token is damaged, forged, from another log, or beyond the log's end. Ask again without it."""


class InvalidCursorError(TwofoldError):
    """A page cursor is damaged or belongs to another query. Begin again with the first page."""


class CheckpointMovedError(TwofoldError):
    """Another worker has moved the projection's checkpoint. Nothing was written; go on from the new checkpoint."""

    def __init__(self, projection: str) -> None:
        super().__init__(f"another worker has moved the checkpoint of {projection!r}")
        self.projection = projection


class LeaseLostError(TwofoldError):
    """Another worker, a takeover or an operator has taken the segment. Nothing was written; its new holder goes on."""

    def __init__(self, projection: str) -> None:
        super().__init__(
            f"a segment of {projection!r} was taken by another worker, a takeover or an operator; try again"
        )
        self.projection = projection


class NoWorkerError(TwofoldError):
    """No worker runs that has the code of this projection. What was begun is kept; it goes on when a worker starts."""

    def __init__(self, projection: str, seconds: float) -> None:
        super().__init__(
            f"no worker that has this version of {projection!r} has run for {seconds:g} s; start an `Application` or a "
            f"`ReadModelSynchronizer` with it, which goes on with the rebuild: that is begun"
        )
        self.projection = projection


class InvalidChangeError(TwofoldError):
    """A generation of a read model is in a state that does not allow this change. Look at its status again."""

    def __init__(self, projection: str, generation: int, change: str, state: str) -> None:
        super().__init__(
            f"generation {generation} of {projection!r} is {state}, or was changed by another process at this moment; "
            f"{change!r} is not possible; look at its status"
        )
        self.projection = projection
        self.generation = generation
        self.change = change
        self.state = state


class SegmentsApartError(TwofoldError):
    """Two segments that are to be one do not stand at the same position. Both go on, and it is tried again."""

    def __init__(self, projection: str) -> None:
        super().__init__(f"two segments of {projection!r} do not stand at the same position, and stay two for now")
        self.projection = projection


class TimeLimitError(TwofoldError):
    """A step or a reaction took longer than its time limit and was given up. It is tried again; see its limit."""

    def __init__(self, projection: str, what: str, seconds: float, remedy: str) -> None:
        super().__init__(f"{what} of {projection} took longer than its time limit of {seconds:g} s; {remedy}")
        self.projection = projection


class UnknownProjectionError(TwofoldError):
    """No read model has this name, or this application lacks the code of its projection."""

    def __init__(self, projection: str, known: Iterable[str]) -> None:
        super().__init__(f"there is no projection {projection!r}; there are: {', '.join(sorted(known)) or 'none'}")
        self.projection = projection


class ReadModelBuildingError(TwofoldError):
    """The read model of this code's version is still being built, and the one that serves has other columns. Wait."""

    def __init__(self, projection: str, version: int, position: int) -> None:
        super().__init__(
            f"version {version} of the read model {projection} is being built and has reached position {position}; "
            f"it answers queries once it is complete. Let workers of the new code build it before you deploy the rest"
        )
        self.projection = projection
        self.version = version
        self.position = position


class RebuildFailedError(TwofoldError):
    """A generation of a read model cannot serve. The one that serves goes on; the text says why."""

    def __init__(self, projection: str, reason: str) -> None:
        super().__init__(f"the new read model {projection} does not serve: {reason}")
        self.projection = projection
        self.reason = reason


class InvalidFilterError(TwofoldError):
    """A filter compares a field in a way, or with a value, that its type does not allow. The text names the remedy."""


class UnknownFieldError(TwofoldError):
    """A filter or sort names a field that the row lacks, or that was not declared for it. The text names the remedy."""
