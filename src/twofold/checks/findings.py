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
