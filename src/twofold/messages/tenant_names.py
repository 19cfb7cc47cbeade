"""How the names of streams and tags say whose they are, in an application with tenants.

What is stored bears the tenant in its name: the stream `acme/Order-1`, the tag `acme/customer:c1`, and as the first tag
of each event `acme/`. No class of events makes a tag without a colon, so this first tag tells for certain whose it is,
also to code that knows nothing of tenants. stored: change it with care.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any
from uuid import UUID

from twofold.messages.stored_event import EventNames, NewEvent, StoredEvent, covered_names, new_event

MARK = "/"
"""stored: stands between a tenant and a name; no tenant's name holds one."""
TENANT_COLUMN = "twofold_tenant"
"""stored: the first column, and the first of the key, of each read model of an application with tenants."""


def own_name(tenant: str, name: str) -> str:
    """Return the name under which a tenant's stream or tag is stored. A name that is empty stays so."""
    return f"{tenant}{MARK}{name}" if name else name


def tenant_tag(tenant: str) -> str:
    """Return the tag that all events of a tenant carry."""
    return f"{tenant}{MARK}"


def own_id(tenant: str, given: bytes) -> bytes:
    """Return the id that stands for a tenant's own one: no other tenant can choose an id that becomes the same.

    stored: change it with care.
    """
    return blake2b(given, digest_size=16, key=tenant.encode()).digest()


def own_uuid(tenant: str, given: UUID) -> UUID:
    """Return `own_id` of an id."""
    return UUID(bytes=own_id(tenant, given.bytes))


def own_events(tenant: str, events: Sequence[NewEvent]) -> tuple[NewEvent, ...]:
    """Return encoded events as those of a tenant."""
    prefix = tenant_tag(tenant)
    known = dict[tuple[Any, ...], tuple[EventNames, bytes]]()  # most events of an append are of one stream and class
    own = []
    for event in events:
        if (found := known.get(event[:4])) is None:
            names = EventNames(own_name(tenant, event.stream_id), *event[1:4])
            found = known[event[:4]] = names, covered_names(names)
        tags = (prefix, *[prefix + tag for tag in event.tag_names])
        own.append(new_event(*found, event.event_id, event.payload, event.metadata, tags))
    return tuple(own)


def tenant_of(row: StoredEvent) -> str:
    """Return whose event a row is, empty if it is no tenant's."""
    tags = row.tags
    end = tags.find(b'"', 2)
    return tags[2 : end - 1].decode() if tags[end - 1 : end] == b"/" and b":" not in tags[2:end] else ""


def tenant_of_tags(tags: Sequence[str]) -> str:
    """Return whose event it is that carries these stored tags, empty if it is no tenant's."""
    return tags[0][:-1] if tags and tags[0][-1] == MARK and ":" not in tags[0] else ""


def shown_tags(tags: tuple[str, ...]) -> tuple[str, ...]:
    """Return stored tags without what says whose they are."""
    if not tags or tags[0][-1] != MARK or not (tenant := tenant_of_tags(tags)):  # most have none: no further call
        return tags
    return tuple(tag[len(tenant) + 1 :] for tag in tags[1:])


def shown_stream(stream_id: str, tags: Sequence[str]) -> str:
    """Return the name of the stream of an event with these stored tags, without what says whose it is."""
    if MARK not in stream_id:
        return stream_id
    return stream_id[len(tenant) + 1 :] if (tenant := tenant_of_tags(tags)) else stream_id
