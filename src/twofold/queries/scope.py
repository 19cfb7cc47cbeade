"""On which events an answer depends."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from twofold.messages.event import ANY_TYPE

Place = tuple[str, str | None]
"""The type of an event and a tag; None stands for events of the type whatever their tags are."""


class Scope(NamedTuple):
    """The events on which one answer of one read model depends."""

    types: Collection[str]
    """The stored names of the types that the read model handles; `ANY_TYPE` stands for all."""
    tags: Mapping[str, Collection[str]]
    """By type, the tags of those that matter; events of a type that is not named matter whatever their tags are."""

    def places(self) -> Iterator[Place]:
        """Return each type with each tag of which one suffices; with None where the tags do not matter."""
        for name in self.types:
            wanted = self.tags.get(name)
            if wanted:
                yield from ((name, tag) for tag in wanted)
            else:
                yield name, None


def places_of(name: str, tags: Collection[str]) -> Iterator[Place]:
    """Return the places of an event: it concerns the scopes that have one of them."""
    yield ANY_TYPE, None
    yield name, None
    for tag in tags:
        yield name, tag
