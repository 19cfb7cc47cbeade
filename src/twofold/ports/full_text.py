"""The words of a text: how they are told apart, searched for, and found again in what they were taken from."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from html import escape

from twofold.arguments import check_items, check_text

MAX_WORDS, MAX_LETTERS = 50, 500
"""A search looks at no more words than these, and at no more letters of a word."""

MAX_TEXT, MAX_FOUND = 20_000, 200
"""Words are marked in no more characters of a text than these, and no more of them."""

Range = tuple[int, int]
"""Where a word begins in a text, and where it has ended, in characters as Python counts them."""

_WORD = re.compile(r"[^\W_]+")


def words_of(text: str) -> list[str]:
    """Return the words of a text, in lower case and without diacritics."""
    return _WORD.findall(_plain(text))


def searchable(texts: Iterable[str | None]) -> str:
    """Return the words of some texts as engines without an index of their own keep and search them."""
    return " ".join(word for text in texts if text for word in words_of(text))


def search_words(text: str) -> list[str]:
    """Return what a search looks for: the beginnings of words, all of which must occur."""
    return [word[:MAX_LETTERS] for word in words_of(text)[:MAX_WORDS]]


def find_words(text: str, search: str) -> Sequence[Range]:
    """Return where the beginning of a text, up to `MAX_TEXT`, holds words that a search looks for, in order."""
    wanted = tuple(search_words(search))
    if not wanted:
        return ()
    plain, origins = _plain_with_origins(text[:MAX_TEXT])
    found = list[Range]()
    for match in _WORD.finditer(plain):
        if match.group().startswith(wanted):
            start, last = origins[match.start()], origins[match.end() - 1]
            if not found or start >= found[-1][1]:  # one character may hold two words, such as a fraction
                found.append((start, max(origins[match.end()], last + 1)))
                if len(found) == MAX_FOUND:
                    break
    return found


def marked_html(text: str, ranges: Iterable[Range], before: str = "<mark>", after: str = "</mark>") -> str:
    """Return a text as HTML, escaped, with ranges of it marked.

    Raises:
        TypeError: an argument is of another type.
        ValueError: a range is not within the text, or begins before the one in front of it ends.
    """
    for name, given in (("text", text), ("before", before), ("after", after)):
        check_text(name, given, may_be_empty=True)
    check_items("ranges", ranges, _is_range, "ranges such as (0, 5)")
    parts, end = list[str](), 0
    for start, stop in ranges:
        if not end <= start <= stop <= len(text):
            raise ValueError(f"`ranges`: {start} to {stop} is not behind {end} and within the {len(text)} characters")
        parts += escape(text[end:start]), before, escape(text[start:stop]), after
        end = stop
    return "".join([*parts, escape(text[end:])])


def _plain(text: str) -> str:
    return (text if text.isascii() else _without_diacritics(text)).lower()


def _without_diacritics(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text)
    for mark in filter(unicodedata.combining, set(decomposed)):  # few are different; a text may have many characters
        decomposed = decomposed.replace(mark, "")
    return decomposed


def _plain_with_origins(text: str) -> tuple[str, Sequence[int]]:
    """Return a text as its words are compared, and for each character of that where it comes from."""
    if text.isascii():
        return text.lower(), range(len(text) + 1)
    letters = [(each, place) for place, character in enumerate(text) for each in _without_diacritics(character)]
    plain = "".join(each for each, _ in letters).lower()  # as a whole: the last sigma of a Greek word is another one
    return plain, [*(place for _, place in letters), len(text)]


def _is_range(given: object) -> bool:
    return isinstance(given, tuple | list) and [type(each) for each in given] == [int, int]
