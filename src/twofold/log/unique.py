"""A value that only one of many may have, as a rule in one line."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Any
from uuid import UUID

from twofold.arguments import check_items, check_text, shown
from twofold.errors import ValueTakenError
from twofold.log.event_fields import check_record, tagged_fields
from twofold.log.folding.decision_model import DecisionModel
from twofold.messages.event import RecordedEvent
from twofold.messages.event_query import EventQuery

Classes = type | Iterable[type]


def unique(
    name: str, *, of: Classes, value: object, released_by: Classes = (), unless: str | None = None
) -> DecisionModel[bool]:
    """Return the decision model of the rule that a value is taken once.

    `await store.decide(unique("email", of=GuestRegistered, value=email))` in a command handler raises `ValueTakenError`
    if the value is taken; and if another command takes it in between, the handler runs again.

    Args:
        name: of the tag that holds the value: `email: Annotated[str, Tag("email")]`.
        of: the class of the events that take the value, or several.
        value: what must be free. Bring it into one form first, such as lower case; the events must have that form, too.
        released_by: the class of the events after which it is free again, or several.
        unless: a tag, such as `guest:g1`; what an event with this tag took may be taken again.

    Raises:
        TypeError: an argument is of another type.
        ValueError: a class has no field with this tag, so that its events would never be found.
    """
    check_text("name", name)
    _check_value(value)
    if unless is not None:
        check_text("unless", unless)
        if ":" not in unless:
            raise ValueError(f"`unless` is a tag, such as guest:g1, not {unless!r}")
    taking, releasing = _classes("of", of), _classes("released_by", released_by)
    if not taking:
        raise ValueError("`of` names no class of events; write of=GuestRegistered")
    for each in (*taking, *releasing):
        if name not in {tag for _, tag in tagged_fields(each)}:
            raise ValueError(
                f"{each.__qualname__} has no field that is tagged {name!r}, the name; declare one: "
                f'{name}: Annotated[str, Tag("{name}")]'
            )
    freeing = EventQuery.of(*releasing).items[0].types if releasing else ()

    def evolve(is_taken: bool, recorded: RecordedEvent[Any]) -> bool:
        if recorded.type in freeing:
            return False
        return is_taken or unless is None or unless not in recorded.tags

    def require(is_taken: bool) -> None:
        if is_taken:
            raise ValueTakenError(name, str(value))

    text = value.value if isinstance(value, Enum) else value
    query = EventQuery.of(*taking, *releasing, tags=[f"{name}:{text}"])
    return DecisionModel(query=query, initial_state=False, evolve=evolve, require=require)


def _check_value(value: object) -> None:
    text = value.value if isinstance(value, Enum) else value
    if not isinstance(text, str | int | UUID) or text == "":
        raise TypeError(f"`value` is a text, a whole number or a UUID, as tags are, and not empty; got {shown(value)}")


def _classes(name: str, given: Classes) -> tuple[type, ...]:
    classes = (given,) if isinstance(given, type) else given
    check_items(name, classes, lambda each: isinstance(each, type), "classes of events")
    for each in classes:
        check_record(each)
    return tuple(classes)
