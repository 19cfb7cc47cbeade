"""On which events an answer depends."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from twofold.messages.event import ANY_TYPE
from twofold.messages.tenant_names import shown_tags, tenant_of_tags, tenant_tag

Place = tuple[str, str | None]
"""The type of an event and a tag; None stands for events of the type whatever their tags are. With tenants, an event
is in the places of its tenant, too, whose types begin with what marks the tenant."""


class Scope(NamedTuple):
    """The events on which one answer of one read model depends."""

    types: Collection[str]
    """The stored names of the types that the read model handles; `ANY_TYPE` stands for all."""
    tags: Mapping[str, Collection[str]]
    """By type, the tags of those that matter; events of a type that is not named matter whatever their tags are."""
    tenant: str = ""
    """Whose they are; empty: they may be anybody's."""

    def places(self) -> Iterator[Place]:
        """Return each type with each tag of which one suffices; with None where the tags do not matter."""
        for name in self.types:
            wanted, own = self.tags.get(name), tenant_tag(self.tenant) + name if self.tenant else name
            if wanted:
                yield from ((own, tag) for tag in wanted)
            else:
                yield own, None


def places_of(name: str, tags: Collection[str]) -> Iterator[Place]:
    """Return the places of an event: it concerns the scopes that have one of them."""
    yield ANY_TYPE, None
    yield from _places(name, shown := shown_tags(tuple(tags)))
    if tenant := tenant_of_tags(tuple(tags)):
        yield tenant_tag(tenant) + ANY_TYPE, None
        yield from _places(tenant_tag(tenant) + name, shown)


def _places(name: str, tags: Collection[str]) -> Iterator[Place]:
    yield name, None
    for tag in tags:
        yield name, tag
