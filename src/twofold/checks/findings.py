"""What checks can find: a code for each kind, why it matters, and what to do about it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

Level = Literal["error", "warning"]
"""Whether the application cannot work as declared, or has something that may be left over."""


class CheckCode(NamedTuple):
    """A kind of finding. The reference page of the checks is made of these."""

    level: Level
    what: str
    why: str
    fix: str


CODES: Mapping[str, CheckCode] = {
    "TF001": CheckCode(
        "error", "A command has no handler.",
        "A caller that dispatches it gets `HandlerNotFoundError`, at run time.",
        "Register one with `app.commands.register`, or delete the class.",
    ),
    "TF002": CheckCode(
        "error", "A query has no handler.",
        "A caller that dispatches it gets `HandlerNotFoundError`, at run time.",
        "Register one with `app.queries.register`, or delete the class.",
    ),
    "TF003": CheckCode(
        "warning", "No read model, reaction or process takes an event.",
        "It is stored, and changes nothing that can be seen: often a projection was forgotten when it was added.",
        "Add a method for it to a projection; if it is for the history or for decisions alone, ignore the finding.",
    ),
    "TF004": CheckCode(
        "error", "A decision asks for a tag that events of the type do not carry.",
        "No event ever matches the pair, so that a rule that depends on it would not see the events it is about.",
        "Mark the event's field with `Tag(…)`, or leave the type out of the event query.",
    ),
    "TF005": CheckCode(
        "warning", "No query reads a read model.",
        "It is kept in step with the log and answers no question.",
        "Register a query whose handler asks it, or remove the projection; if others read it, ignore the finding.",
    ),
    "TF006": CheckCode(
        "error", "A query says that it reads what is no projection.",
        "The application does not start.",
        "Correct the name in `reads=`, or add the projection.",
    ),
    "TF101": CheckCode(
        "error", "The log holds events of a type that no class has.",
        "Whatever reads them fails with `UnknownEventTypeError`, and a projection stands still right before them.",
        "Bring the class back, or give the class in its place the old name as an alias: `@event_type(aliases=(…))`.",
    ),
    "TF102": CheckCode(
        "error", "Stored events lack a tag of today's class.",
        "Decisions and queries by the tag do not find them; the application does not start.",
        "Run `twofold tags add APPLICATION TYPE`.",
    ),
    "TF103": CheckCode(
        "warning", "The database holds a read model of which the application has no projection.",
        "Its rows stay where they are and grow old; nothing keeps them in step.",
        "Add the projection, or drop what is left of it once no older process needs it.",
    ),
    "TF201": CheckCode(
        "error", "A database cannot be opened, or is not up to date.",
        "An application does not start on it.",
        "Do what the text says; `twofold migrate URL` brings a database up to date.",
    ),
    "TF202": CheckCode(
        "error", "A clock is wrong.",
        "Events get times that are not theirs, and timers of processes fire too early or too late.",
        "Let all machines keep their clocks by NTP.",
    ),
    "TF203": CheckCode(
        "warning", "The disk is nearly full.",
        "Appends are refused when it is full, and backups and rebuilds need space of their own.",
        "Free space, or move the file to a larger disk.",
    ),
    "TF204": CheckCode(
        "error", "A SQLite file is on a file system over a network.",
        "Locks and shared memory do not hold there: processes of several machines damage the file.",
        "Move the file to a local disk; for several machines, use PostgreSQL.",
    ),
    "TF205": CheckCode(
        "warning", "The write-ahead log of a SQLite file is large.",
        "Reads become slow. Most often a process keeps a transaction open, so that the log cannot be emptied.",
        "Find the process that reads without end, such as a shell, and close it.",
    ),
    "TF206": CheckCode(
        "error", "The role lacks a privilege.",
        "Appends or workers fail with it.",
        "Grant it to the role, or let the role that owns the tables do so.",
    ),
    "TF207": CheckCode(
        "warning", "The role is a superuser.",
        "A program that gets hold of the application's password may then do anything on the server.",
        "Use a role of its own that owns the database, or is granted what it needs.",
    ),
    "TF208": CheckCode(
        "warning", "The server has few connections left.",
        "Processes that start, and operators, are refused when there are none.",
        "Raise `max_connections`, use a pooler, or run fewer processes.",
    ),
    "TF209": CheckCode(
        "warning", "A transaction has been open for long.",
        "Until it ends, dead versions of rows are kept, and tables that change often become slow.",
        "Look for it in `pg_stat_activity`; set `idle_in_transaction_session_timeout`.",
    ),
    "TF210": CheckCode(
        "warning", "Autovacuum is off.",
        "Tables that change often, such as checkpoints, grow without end.",
        "Set `autovacuum` to on.",
    ),
    "TF211": CheckCode(
        "warning", "The version of the server gets no corrections any more.",
        "Faults that lose data and holes in its security stay.",
        "Upgrade the server.",
    ),
    "TF212": CheckCode(
        "error", "A file of the archive is missing, damaged or another one.",
        "Whatever needs an event whose payload is in it fails with `ArchiveError`.",
        "Put the file back, from a backup of the folder, or name the folder: `TWOFOLD_ARCHIVE`.",
    ),
    "TF301": CheckCode(
        "error", "A stored name vanished: no class has it.",
        "Stored events of it are not read any more.",
        "Give the class in its place the name as an alias, or register a `RetiredType` with it.",
    ),
    "TF302": CheckCode(
        "error", "A class does not read what was stored under its name and version.",
        "Such events fail with `UnreadableEventError`, or are read as something else.",
        "Raise the version of the class, and add an upcaster from the version that is stored.",
    ),
    "TF303": CheckCode(
        "warning", "Yesterday's code does not read what today's writes under the same version.",
        "While both run, as during a deployment, the older processes stop at new events.",
        "Raise the version and deploy readers first, or give the new field a default and keep the old one.",
    ),
    "TF304": CheckCode(
        "error", "A field was renamed without an upcaster.",
        "Stored events that hold the old field are refused, as the new one would be filled in by its default.",
        "Raise the version of the class, and add an upcaster that renames the field.",
    ),
    "TF305": CheckCode(
        "error", "The tags of a class have changed.",
        "Decisions and queries by a new tag do not find stored events; new events are not found by one that is gone.",
        "Bring the tag back; or run `twofold tags add` for a new one, then `twofold schema lock --force`.",
    ),
    "TF306": CheckCode(
        "error", "A version is stored that no upcaster leads on from.",
        "Events of it fail with `NewerSchemaError`.",
        "Declare the newest version that was stored, or a later one, with an upcaster for each before it.",
    ),
    "TF307": CheckCode(
        "error", "A field is not personal any more.",
        "New events hold it in plain text, for ever, and forgetting the person does not touch it.",
        "Mark the field with `Personal()` again; where it is about no person, run `twofold schema lock --force`.",
    ),
    "TF308": CheckCode(
        "error", "A sample of the log cannot be read by today's code.",
        "The stored events that are like it fail in the same way.",
        "Correct the class or its upcasters.",
    ),
    "TF309": CheckCode(
        "warning", "The lock is behind the code.",
        "What is not in the lock is not checked.",
        "Run `twofold schema lock`, and commit the file.",
    ),
    "TF310": CheckCode(
        "error", "A stream type vanished: no aggregate and no decider has it.",
        "What was stored is not found: its streams count as empty, and new ones begin beside them.",
        "Say `stream_type = ...` with the stored name in the class that was renamed; or rename the streams with "
        "`twofold copy --transform`, or let them go, and run `twofold schema lock --force`.",
    ),
}  # fmt: skip
"""All kinds. A code is never given to another kind."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that a check has found."""

    code: str
    subject: str
    """The class or the name that it is about."""
    text: str
    """What is wrong with it, in one sentence."""

    @property
    def level(self) -> Level:
        """Whether it is an error or a warning."""
        return CODES[self.code].level

    @property
    def why(self) -> str:
        """Why it matters."""
        return CODES[self.code].why

    @property
    def fix(self) -> str:
        """What to do about it."""
        return CODES[self.code].fix

    def __str__(self) -> str:
        return f"{self.code} {self.text} {self.fix}"


def facts_of(finding: Finding) -> dict[str, str]:
    """Return all that is known of a finding, also what its code says, under the names of the fields."""
    return {name: getattr(finding, name) for name in ("code", "level", "subject", "text", "why", "fix")}


def without(findings: Iterable[Finding], ignore: Collection[str]) -> list[Finding]:
    """Return findings in the order of their codes, without those of some codes, or codes with a subject.

    Args:
        findings: all of them.
        ignore: codes such as `TF003`, or `TF003:OrderPrinted` for one subject alone.

    Raises:
        ValueError: there is no such code.
    """
    unknown = sorted({each.partition(":")[0] for each in ignore}.difference(CODES))
    if unknown:
        raise ValueError(f"`ignore`: there is no check {', '.join(unknown)}; the codes are {', '.join(CODES)}")
    kept = {each: None for each in findings if each.code not in ignore and f"{each.code}:{each.subject}" not in ignore}
    return sorted(kept, key=lambda each: (each.code, each.subject, each.text))
