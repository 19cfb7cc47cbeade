"""Where in the rows of a page the words of a search were found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twofold.ports.full_text import MAX_TEXT, Range, find_words
from twofold.ports.table import Table


def highlights_of(
    table: Table, rows: Sequence[Sequence[Any]], search: str, bound: int
) -> Sequence[Mapping[str, Sequence[Range]]]:
    """Return for each row where its fields hold the words. Texts may be of any length: it is a thread's to do.

    Args:
        table: of the rows.
        rows: their values, in the order of the columns.
        search: the words.
        bound: characters of all texts together that are looked at.
    """
    names = [column.name for column in table.columns]
    places = [(name, names.index(name)) for name in table.full_text]
    highlights, left = list[Mapping[str, Sequence[Range]]](), bound
    for values in rows:
        marked = {}
        for name, place in places:
            text = (values[place] or "")[: min(left, MAX_TEXT)]
            left -= len(text)
            if ranges := find_words(text, search):
                marked[name] = ranges
        highlights.append(marked)
    return highlights
