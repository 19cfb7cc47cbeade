"""Rules of retention: which streams are ended, how, and when. They are data, given in code or in a file of TOML."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, Literal

from twofold.arguments import check_age, check_choice, check_flag, check_instance, check_text
from twofold.messages.stream import RESERVED

RetentionAction = Literal["close", "archive", "tombstone"]

_UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}


@dataclass(frozen=True, kw_only=True)
class RetentionRule:
    """What becomes of streams whose last event is older than an age.

    Raises:
        TypeError, ValueError: a field cannot work.
    """

    name: str
    """What the rule is called, in the plan and in the events that it appends."""
    action: RetentionAction
    """`close`: the stream takes no more events. `archive`: of a closed one, the payloads move into files, from which
    they are read. `tombstone`: its events are removed."""
    stream_type: str
    """Of the streams, such as "Order"."""
    older_than: timedelta
    """The age of the last event, at least; of a closed stream, that is the time since it was closed."""
    last: str = ""
    """Only streams whose last event has this type, such as "OrderDelivered", but for the one that closes them."""
    open_too: bool = False
    """Whether streams are tombstoned that are not closed."""

    def __post_init__(self) -> None:
        check_text("name", self.name)
        check_text("stream_type", self.stream_type)
        check_text("last", self.last, may_be_empty=True)
        check_flag("open_too", self.open_too)
        check_age("older_than", self.older_than)
        check_choice("action", self.action, RetentionAction)
        if self.stream_type.startswith(RESERVED):
            raise ValueError(
                f"`stream_type`: {self.stream_type!r} are streams of Twofold's own, which end by themselves"
            )

    @property
    def reason(self) -> str:
        """What is recorded with the end of a stream."""
        return f"retention rule {self.name!r}"


def rules_of(text: str) -> Sequence[RetentionRule]:
    """Return the rules that a text in TOML says: a table `[[rule]]` for each, `older_than` as `"730d"`.

    Raises:
        ValueError: it says none; the text names the rule.
    """
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"the rules are no TOML: {error}") from None
    tables = found.get("rule")
    if not isinstance(tables, list) or not tables or set(found) != {"rule"}:
        raise ValueError("the file of rules has a table [[rule]] for each, and nothing else")
    return checked_rules([_rule(number, table) for number, table in enumerate(tables, 1)])


def checked_rules(rules: Sequence[Any]) -> Sequence[RetentionRule]:
    """Return rules, if they are some, and each has a name of its own.

    Raises:
        TypeError, ValueError: they are not.
    """
    if isinstance(rules, str) or not isinstance(rules, Sequence) or not rules:
        raise TypeError(f"`rules` is a list of RetentionRule, not {rules!r:.60}")
    for each in rules:
        check_instance("rules", each, RetentionRule)
    names = [each.name for each in rules]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"two rules are called {twice!r}; give each a name of its own")
    return tuple(rules)


def _rule(number: int, table: Any) -> RetentionRule:
    known = {each.name for each in fields(RetentionRule)}
    if not isinstance(table, Mapping):
        raise ValueError(f"rule {number} is no table; a rule has {', '.join(sorted(known))}")
    if unknown := set(table) - known:
        raise ValueError(f"rule {number} has no {min(unknown)!r}; a rule has {', '.join(sorted(known))}")
    if missing := [name for name in ("name", "action", "stream_type", "older_than") if name not in table]:
        raise ValueError(f"rule {number} lacks {missing[0]!r}")
    try:
        return RetentionRule(**{**table, "older_than": _age(table["older_than"])})
    except (TypeError, ValueError) as error:
        raise ValueError(f"rule {number}: {error}") from None


def _age(text: object) -> timedelta:
    if not isinstance(text, str) or not (parts := re.fullmatch(r"(\d{1,6})([dhms])", text)):
        raise ValueError(f"`older_than` {text!r} is no age; write 730d, 12h, 30m or 10s")
    return timedelta(**{_UNITS[parts[2]]: int(parts[1])})
