"""The codes of errors: what each class of `errors` is called for ever, why it is raised, and what to do about it.

A code stays what it is when its class is renamed, and no code is given twice. TE1… are about wiring, TE2… about events,
TE3… about appends, TE4… about storage, TE5… about read models and processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class ErrorCode(NamedTuple):
    """A kind of error. What happened says the docstring of its class."""

    error: str
    """The name of the class."""
    why: str
    fix: str


# fmt: off
ERROR_CODES: Mapping[str, ErrorCode] = {
    "TE000": ErrorCode(
        "TwofoldError", "An application has derived an error of its own from the base class.",
        "Read the text of the error, and the docstring of its class.",
    ),
    # -- wiring
    "TE101": ErrorCode(
        "HandlerNotFoundError", "A bus finds the handler by the exact class of the message, and has none for it.",
        "Call `register(…)` of that bus where the application is wired. `twofold check` finds such classes before they "
        "are sent.",
    ),
    "TE102": ErrorCode(
        "DuplicateHandlerError", "A message has one handler, or its answer would depend on the order of registrations.",
        "Remove one of the two. If several parts must react, let them react to the event: with a projection, a "
        "reaction or a process.",
    ),
    "TE103": ErrorCode(
        "InvalidHandlerError", "A handler is a function or an object with `handle` that takes the message alone.",
        "Change what the text names, such as `async` or the parameters. Hand dependencies over in the constructor or "
        "with `functools.partial`.",
    ),
    "TE104": ErrorCode(
        "InvalidMessageTypeError", "What would not come back equal is refused when its class is declared, not when it "
        "is read.",
        "Give the field that the text names a type that can be stored, or make the class immutable.",
    ),
    "TE105": ErrorCode(
        "InvalidProjectionError", "A projection needs a name, a version and handlers that fit its row type.",
        "Write what the text says into the class of the projection or its row.",
    ),
    "TE106": ErrorCode(
        "InvalidProcessError", "Each event of a process says which instance it is about, and a step gives commands and "
        "timers alone.",
        "Write the line of the text into the class of the process.",
    ),
    "TE107": ErrorCode(
        "OwnershipError", "Connections belong to the process and the event loop that opened them.",
        "Open the application in the worker itself: after a fork, and in the lifespan of the server.",
    ),
    "TE108": ErrorCode(
        "TenantMissingError", "With tenants, what names none could show the data of one to another.",
        "Wrap the call in `with tenant(name):`, or for the work of operators in `with all_tenants():`.",
    ),
    "TE109": ErrorCode(
        "InvalidTenantError", "The name stands in streams and tags, where other characters have a meaning.",
        "Use an id of at most 63 letters, digits, `.`, `_` and `-`, and keep the display name elsewhere.",
    ),
    # -- events
    "TE201": ErrorCode(
        "InvalidEventError", "A value is not of the type that its field declares: Python does not check this itself.",
        "Correct the value where the event is made, or the declaration of the field.",
    ),
    "TE202": ErrorCode(
        "UnknownEventTypeError", "The class was renamed, removed or never imported by this process.",
        "Register the class, give the class in its place the stored name with `aliases=`, or read with "
        '`unknown="raw"`.',
    ),
    "TE203": ErrorCode(
        "NewerSchemaError", "A newer release of the application writes already, and this process is older.",
        "Deploy the processes that read before those that write.",
    ),
    "TE204": ErrorCode(
        "UnreadableEventError", "The class has changed since the event was stored, and nothing converts the old form.",
        "Raise the schema version of the class and add an upcaster from the version that the text names. "
        "`twofold schema check` finds such changes before they are deployed.",
    ),
    "TE205": ErrorCode(
        "TagsMissingError", "The class got a tag after events of it were stored. A rule by it would overlook those.",
        "Run `twofold tags add`, which adds the tag to the stored events.",
    ),
    "TE206": ErrorCode(
        "UnknownTypeError", "The name is misspelt, or the class is not registered in this application.",
        "Use one of the names in the text.",
    ),
    "TE207": ErrorCode(
        "CorruptCommandError", "The disk, or a program that writes to the database, has changed the record.",
        "Run `twofold verify`, and restore the log from a backup.",
    ),
    "TE208": ErrorCode(
        "CorruptEventError", "The disk, or a program that writes to the database, has changed the event.",
        "Run `twofold verify` to see how much is concerned, and restore the log from a backup.",
    ),
    "TE209": ErrorCode(
        "DamagedRowError", "Another program has written to the table of the read model.",
        "Run `twofold rebuild`, and let read models be written by their projections alone.",
    ),
    "TE210": ErrorCode(
        "LimitExceededError", "Names, payloads and batches have limits, so that one append cannot hold up all others.",
        "Make it smaller: split the batch, or store large contents elsewhere and their address in the event.",
    ),
    "TE211": ErrorCode(
        "SubjectForgottenError", "The key of a forgotten person is destroyed for ever, and no new one is made.",
        "Give a person who comes back another id, or store the event with the placeholders of its personal fields.",
    ),
    "TE212": ErrorCode(
        "KeyMissingError", "The key store is another one, or was restored to an older state than the log.",
        "Configure the right key store, or restore it to a state at least as new as the log.",
    ),
    "TE213": ErrorCode(
        "MasterKeyError", "The master key opens the keys of persons, and was not configured as they were wrapped.",
        "Configure the master key with which the keys were wrapped, as the text says.",
    ),
    # -- appends
    "TE301": ErrorCode(
        "ConflictError", "Two decisions were made on the same facts at once, and the other one was stored first.",
        "Read again and decide again: `CommandBus` does so by itself for commands. If it happens often, make the "
        "stream or the condition smaller.",
    ),
    "TE302": ErrorCode(
        "VersionMismatchError", "The caller has seen an older version of the stream than the one that is stored.",
        "Read the stream again, show what has changed, and let the caller decide.",
    ),
    "TE303": ErrorCode(
        "DuplicateEventIdError", "An id names one event for ever. A repeat has to bring the same content.",
        "Make a new id for each new event, or leave ids to Twofold.",
    ),
    "TE304": ErrorCode(
        "ValueTakenError", "Another stream holds the value that was to be unique.",
        "Ask for another value, or let the other stream give it up first.",
    ),
    "TE305": ErrorCode(
        "CommandReusedError", "A repeat of a command gets the first answer, and this is another command.",
        "Make a new command id, or over HTTP a new `Idempotency-Key`, for each new intent.",
    ),
    "TE306": ErrorCode(
        "UnitOfWorkError", "All that a command stores is one append with one condition.",
        "Do what the text says, for instance save each aggregate once.",
    ),
    "TE307": ErrorCode(
        "NotCommittedError", "Within a command's handler the events wait for the end of the handler.",
        "Ask the receipt of `CommandBus.execute`, outside of the handler.",
    ),
    "TE308": ErrorCode(
        "RepeatedTransactionError", "The connection broke after the commit, and the transaction was tried again.",
        "Roll back, and go on with `receipts` of the error: the work is done.",
    ),
    "TE309": ErrorCode(
        "TransactionReusedError", "A repeat has other appends than the first try, or none has fixed ids.",
        "Give each append `event_ids`, and repeat all of them unchanged.",
    ),
    "TE310": ErrorCode(
        "OutcomeUnknownError", "The connection broke during the commit, and the database was not back in time.",
        "Repeat the call with the same command id or event ids: it takes effect once.",
    ),
    "TE311": ErrorCode(
        "AggregateNotFoundError", "The id is wrong, or no event of it was stored yet, or none by the moment of "
        "`as_of`.",
        "Answer that there is no such thing, or ask with `Repository.find`, which returns None. A new aggregate is "
        "made by its class and stored with `save`.",
    ),
    "TE312": ErrorCode(
        "StreamClosedError", "Its last event says that it has ended, and what was decided on that holds.",
        "Write to the stream in which it goes on, `successor` of the error, or begin another one under another id.",
    ),
    # -- storage
    "TE401": ErrorCode(
        "EventNotFoundError", "The position is beyond the end of the log, or the id is of another log.",
        "Look for it with `twofold events search`.",
    ),
    "TE402": ErrorCode(
        "StorageError", "The database has reported a fault of its own.",
        "Read the text, then the database's own log, and repeat the call with the same ids.",
    ),
    "TE403": ErrorCode(
        "StorageUnavailableError", "The server is down or starts, the address or the password is wrong, or another "
        "process holds the file.",
        "Run `twofold doctor` with the URL. Calls may be repeated with the same ids.",
    ),
    "TE404": ErrorCode(
        "StorageFullError", "No space is left on the disk of the database.",
        "Free some space; the application goes on without a restart.",
    ),
    "TE405": ErrorCode(
        "ReadOnlyStorageError", "The user of this process may not write to the file and its folder, or the server is a "
        "standby.",
        "Change the rights of the file and its folder, or connect to the primary.",
    ),
    "TE406": ErrorCode(
        "MissingTableError", "A generation of a read model was dropped while it was read, or its table by hand.",
        "Ask again; if it stays, run `twofold rebuild`.",
    ),
    "TE407": ErrorCode(
        "StorageReplacedError", "A program has moved, deleted or restored the file under a running application.",
        "Stop the application, put the right file in its place, and start again.",
    ),
    "TE408": ErrorCode(
        "UnsafeStorageError", "With the setting that the text names, a crash could lose what was acknowledged.",
        "Change the setting of the server. The text says how to accept the risk on purpose.",
    ),
    "TE409": ErrorCode(
        "NewerStorageError", "The tables have a form that this release does not know.",
        "Upgrade Twofold in this process.",
    ),
    "TE410": ErrorCode(
        "HistoryChangedError", "The log was restored from a backup, or the read models belong to another log.",
        "Run `twofold rebuild` for read models and `twofold projections rewind` for reactions, or connect the right "
        "log.",
    ),
    "TE411": ErrorCode(
        "LogsDifferError", "A copy goes on only where source and target have the same events.",
        "Copy to an empty database.",
    ),
    "TE412": ErrorCode(
        "LogFileError", "The file is damaged, incomplete, of another kind, or there already.",
        "Do what the text says of the line or the file, or export the log again.",
    ),
    "TE413": ErrorCode(
        "TransformFailedError", "The function has raised on an event, or has returned what cannot be stored.",
        "Mend the function and run the copy again; it goes on where it ended.",
    ),
    "TE414": ErrorCode(
        "ForeignEventError", "The row has no form that the importer knows, or the log has limits that it exceeds.",
        "Do what the text says, for instance with a transform.",
    ),
    "TE415": ErrorCode(
        "ArchiveError", "The file was moved, changed or belongs to another log, or the folder is not named here.",
        "Put the file back, from a backup of the folder; `twofold verify` tells which events need it.",
    ),
    # -- read models and processes
    "TE501": ErrorCode(
        "ProjectionFailedError", "The projection's own code has raised; the first error is its `__cause__`.",
        "Mend the code. What is parked is tried again with `twofold parked retry`.",
    ),
    "TE502": ErrorCode(
        "ProcessNotStartedError", "The event came before the one that starts the process, or belongs to none.",
        'Start the process with an earlier event, or write `missing="ignore"` at the handler.',
    ),
    "TE503": ErrorCode(
        "UnknownProcessError", "The name is misspelt, or this application lacks the class of the process.",
        "Use one of the names in the text; `twofold processes` lists them.",
    ),
    "TE504": ErrorCode(
        "RowNotFoundError", "The event that begins the row is not handled or came before the projection began, or the "
        "row was deleted.",
        "Add a method with `@on` for the event that begins the row, or let this one take `None` for the row.",
    ),
    "TE505": ErrorCode(
        "StaleReadError", "The projection is behind, stands still on an event, or no synchronizer runs.",
        "Ask again, or allow more time. `twofold status` shows the lag, and `twofold parked list` what holds it up.",
    ),
    "TE506": ErrorCode(
        "InvalidTokenError", "The token was changed on its way, or the log is another one, or was restored from a "
        "backup.",
        "Ask again without it. After a restore, tokens and receipts of events that came after the backup are void.",
    ),
    "TE507": ErrorCode(
        "InvalidCursorError", "The filters or the sort have changed between two pages, or the cursor was cut.",
        "Begin with the first page, and pass cursors on unchanged.",
    ),
    "TE508": ErrorCode(
        "CheckpointMovedError", "Another worker has taken over the projection.",
        "Nothing; the worker goes on by itself. In an own loop, read the checkpoint again.",
    ),
    "TE509": ErrorCode(
        "LeaseLostError", "This worker was too slow to renew its lease, or an operator paused the read model.",
        "Nothing; the new holder goes on. If it happens often, look for code that blocks the event loop.",
    ),
    "TE510": ErrorCode(
        "NoWorkerError", "A rebuild is done by the workers, and none with this code runs.",
        "Start the application, which goes on with the rebuild that was begun.",
    ),
    "TE511": ErrorCode(
        "InvalidChangeError", "Another process, or an operator, has changed the read model first.",
        "Look at `twofold projections`, and choose again.",
    ),
    "TE512": ErrorCode(
        "SegmentsApartError", "Two segments become one only where both have handled the same events.",
        "Nothing; it is tried again.",
    ),
    "TE513": ErrorCode(
        "TimeLimitError", "A call to another service, or a slow query, took longer than allowed.",
        "Give the call a shorter limit of its own, or raise the limit that the text names.",
    ),
    "TE514": ErrorCode(
        "UnknownProjectionError", "The name is misspelt, or this application lacks the class of the projection.",
        "Use one of the names in the text.",
    ),
    "TE515": ErrorCode(
        "ReadModelBuildingError", "New code asks for columns that only the generation under way has.",
        "Wait, or let the workers of the new code build it before the rest is deployed.",
    ),
    "TE516": ErrorCode(
        "RebuildFailedError", "A check refused the rows, an operator cancelled the rebuild or began another one, or no "
        "earlier generation of this version was kept for a roll-back.",
        "Read the reason in the text. Where the rows are wrong, mend the projection, and run `twofold rebuild` again. "
        "Where a difference is meant, rebuild without `--expect-same`, or correct `verify` of the projection.",
    ),
    "TE517": ErrorCode(
        "InvalidFilterError", "The comparison or the value does not fit the type of the column.",
        "Change the filter as the text says.",
    ),
    "TE518": ErrorCode(
        "UnknownFieldError", "Only fields that are declared for it can be filtered and sorted, so that each has an "
        "index.",
        "Use a field that the text names, or declare the field in the row.",
    ),
    "TE519": ErrorCode(
        "FuturePositionError", "The position is beyond the end of the log, or the time is still to come.",
        "Ask as of an earlier moment, or wait until the log has reached it.",
    ),
    "TE520": ErrorCode(
        "PastUnknownError", "The rows follow from other projections, the projection began in the midst of the log, too "
        "many events would be folded for one row, or the rows have no place.",
        "Do what the text says; if it names no remedy, ask the read model as of now.",
    ),
}
"""Each code with its error. Stored in monitors and tickets of users: never change the meaning of a code."""
# fmt: on

_CODES = {each.error: code for code, each in ERROR_CODES.items()}


def code_of(error: str) -> str:
    """Return the code of a class of errors.

    Args:
        error: the name of the class.

    Raises:
        KeyError: the class has no code yet.
    """
    return _CODES[error]
