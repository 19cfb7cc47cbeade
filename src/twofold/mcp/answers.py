"""Answers that fit into the memory of an agent, whatever a log holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from twofold.inspection import document_of

ROOM = 40_000
"""Characters of an answer, about: ten thousand tokens."""
ROOM_OF_ITEM = 8_000
"""Characters of one event, state or group among others."""
SHORTEST = 40
"""Characters that are worth beginning to show something in."""


def fitted(thing: Any, room: int = ROOM) -> Any:
    """Return a document of what was found in at most `room` characters, about, with a word on what was left out."""
    return _fitted(document_of(thing), room)


def listed(name: str, things: Sequence[Any], count: int = 0) -> dict[str, Any]:
    """Return documents of the first things, as many as fit into an answer, under a name, and how many are left out.

    Args:
        name: of the things.
        things: the first, or all.
        count: how many there are, if these are not all.
    """
    shown = first_that_fit(things)
    return {name: shown, "left_out": max(count, len(things)) - len(shown)}


def first_that_fit(things: Sequence[Any]) -> Sequence[Any]:
    """Return documents of the first things that fit into an answer together, at least of one."""
    found, room = list[Any](), ROOM
    for thing in things:
        document = fitted(thing, ROOM_OF_ITEM)
        room -= _length(document)
        if found and room < 0:
            break
        found.append(document)
    return found


def _fitted(document: Any, room: int) -> Any:
    if _length(document) <= room:
        return document
    if isinstance(document, dict):
        kept = _first(document.items(), room, lambda pair, left: (pair[0], _fitted(pair[1], left)))
        return dict(kept) | _left_out(len(document) - len(kept))
    if isinstance(document, list):
        kept = _first(document, room, _fitted)
        return kept + ([_left_out(len(document) - len(kept))] if len(kept) < len(document) else [])
    text = str(document)
    return f"{text[:room]}… ({len(text) - room:,} more characters)"


def _first(items: Iterable[Any], room: int, fit: Any) -> list[Any]:
    kept = list[Any]()
    for item in items:
        if room < SHORTEST:
            break
        kept.append(fit(item, room))
        room -= _length(kept[-1])
    return kept


def _left_out(count: int) -> dict[str, str]:
    return {"left out": f"{count:,} more"} if count else {}


def _length(document: Any) -> int:
    return len(msgspec.json.encode(document))
