"""The tags of an event: which of its fields give some, and what they are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from enum import Enum
from typing import Any
from uuid import UUID

from twofold.errors import InvalidEventError
from twofold.log.codec.fidelity import values_getter
from twofold.log.codec.stored_names import MAX_NAME, check_name
from twofold.log.event_fields import tagged_fields

_SEVERAL = (tuple, list, set, frozenset)
_ALIKE = (set, frozenset)

Blind = Callable[[str, str], str]
"""Returns the digest of a value that takes its place in a tag, given the name of the tag and the value."""


class Tags:
    """Makes the tags of the events of one class.

    Args:
        cls: the class.
        blind: the fields whose values a digest takes the place of.
        digest: makes it.
    """

    def __init__(self, cls: type, blind: Collection[str] = (), digest: Blind | None = None) -> None:
        fields = tagged_fields(cls)
        self.are_declared = bool(fields)
        self.declared = frozenset((name, field) for field, name in fields)
        """The name of each tag with the field that it is made of."""
        self._cls = cls
        self._fields = [field for field, _ in fields]
        self._prefixes = [f"{name}:" for _, name in fields]
        self._get = values_getter(tuple(self._fields))
        self._blind = {f"{name}:" for field, name in fields if field in blind}
        self._digest = digest

    @property
    def names(self) -> list[str]:
        """What the tags are called."""
        return [prefix[:-1] for prefix in self._prefixes]

    def may_hold(self, tag: str) -> bool:
        """Return whether an event of the class may carry a tag."""
        return tag.startswith(tuple(self._prefixes))

    def of(self, event: object) -> tuple[str, ...]:
        """Return the tags of an event, each once.

        Raises:
            InvalidEventError: a value is none that a tag is made of.
            LimitExceededError: a tag is too long, or cannot be stored.
        """
        tags: list[str] = []
        for prefix, value in zip(self._prefixes, self._get(event), strict=True):
            if type(value) is str and not self._blind:  # as nearly all are
                tag = prefix + value
                if len(tag) > MAX_NAME or not tag.isascii() or "\0" in tag:
                    check_name("tag", tag)
                tags.append(tag)
            elif value is not None:
                tags += self._several(prefix, value)
        return tuple(tags) if len(tags) < 2 else tuple(dict.fromkeys(tags))

    def _several(self, prefix: str, value: Any) -> Sequence[str]:
        values = value if isinstance(value, _SEVERAL) else (value,)
        tags = [prefix + self._text(each, prefix) for each in values if each is not None]
        for tag in tags:
            check_name("tag", tag)
        return sorted(tags) if isinstance(value, _ALIKE) else tags

    def _text(self, value: Any, prefix: str) -> str:
        if isinstance(value, Enum):
            value = value.value
        if not isinstance(value, str | int | UUID):
            raise InvalidEventError(
                f"{self._cls.__name__}: the tag {prefix}… is made of {value!r}, which has no one way to be written; "
                f"tags are made of text, whole numbers, UUIDs and enumerations"
            )
        if prefix in self._blind and self._digest is not None:
            return self._digest(prefix[:-1], str(value))
        return str(value)
