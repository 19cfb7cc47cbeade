"""The ids of the instances that an event is about."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

from twofold.errors import InvalidProcessError
from twofold.log.codec.fidelity import field_names
from twofold.log.event_fields import tagged_fields

KeyOf = str | Callable[[Any], Any]
"""A field of the event, a tag, or a function from the event to one id or several."""

_SEVERAL = (tuple, list, set, frozenset)
_PLAIN = (str, int, UUID)


def key_of(event: type, key: KeyOf) -> Callable[[Any], Iterable[str]]:
    """Return how to get the ids of the instances that an event of a class is about.

    Raises:
        InvalidProcessError: the class has no such field, and no such tag.
    """
    if callable(key):
        return lambda instance: _ids(event, key(instance))
    fields = [key] if key in (field_names(event) or ()) or hasattr(event, key) else _tagged(event, key)
    if not fields:
        raise InvalidProcessError(
            f"{event.__name__} has neither a field nor a tag {key!r}, which is the key of the process; name one of "
            f"{', '.join(field_names(event) or ()) or 'its fields'}, or write key=lambda event: …"
        )

    def ids(instance: Any) -> Iterable[str]:
        return [each for field in fields for each in _ids(event, getattr(instance, field))]

    return ids


def _tagged(event: type, tag: str) -> list[str]:
    return [field for field, name in tagged_fields(event) if name == tag]


def _ids(event: type, value: Any) -> Iterable[str]:
    if type(value) is str:
        return (value,)
    if value is None:
        return ()
    if isinstance(value, _SEVERAL):
        ordered = sorted(value, key=str) if isinstance(value, set | frozenset) else value
        return [one for each in ordered for one in _ids(event, each)]
    if isinstance(value, _PLAIN):
        return (str(value),)
    raise InvalidProcessError(
        f"the key of {event.__name__} gave {value!r}, a {type(value).__name__}; an id is a str, an int or a UUID"
    )
