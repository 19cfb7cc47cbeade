"""Which tags the events of one row have, so that what was written without them is not waited for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any
from uuid import UUID

from twofold.log.event_fields import tagged_fields
from twofold.messages.event import event_type_of
from twofold.ports.table import Kind, Table
from twofold.projections.projection import KeyValues, Projection

KeyTags = Mapping[str, Sequence[tuple[str, int]]]
"""For types of events, by stored name: the names of the tags that hold a part of the row's key, and which part."""

_TEXTS: Mapping[Kind, tuple[type, ...]] = {Kind.TEXT: (str, Enum), Kind.INTEGER: (int,), Kind.UUID: (UUID,)}
"""The kinds of key fields whose values are written in one way only, so that equal keys have equal tags."""


def key_tags(projection: Projection[Any], table: Table) -> KeyTags:
    """Return which tags of a projection's events hold a part of the row's key; none for types that have no such tag."""
    if projection.reads or type(projection).key is not Projection.key:
        return {}
    found: dict[str, Sequence[tuple[str, int]]] = {}
    for cls in set(projection.handles()).difference(projection.finds_rows()):
        tagged = [(tag, table.key.index(field)) for field, tag in tagged_fields(cls) if field in table.key]
        declared = event_type_of(cls)
        if tagged:
            found |= dict.fromkeys(declared.names, tagged)
    return found


def tags_of(known: KeyTags, table: Table, key: KeyValues) -> Mapping[str, Sequence[str]]:
    """Return the tags that the events of the row with this key have, for each type of which that is known."""
    kinds = {column.name: column.kind for column in table.columns}
    texts = [_text(kinds[name], value) for name, value in zip(table.key, key, strict=True)]
    return {
        name: [f"{tag}:{text}" for tag, place in parts if (text := texts[place]) is not None]
        for name, parts in known.items()
    }


def _text(kind: Kind, value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, _TEXTS.get(kind, ())):
        return None
    return str(value.value if isinstance(value, Enum) else value)
