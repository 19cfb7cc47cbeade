"""Words are found in a text by the rules of the index, and the text itself stays what it was."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold import marked_html
from twofold.ports.full_text import MAX_FOUND, MAX_TEXT, find_words, searchable, words_of


def marked(text: str, search: str) -> str:
    return marked_html(text, find_words(text, search), "[", "]")


@pytest.mark.parametrize(
    ("text", "search", "expected"),
    [
        ("red lamp", "lamp", "red [lamp]"),
        ("Lampshades, lamps", "LAMP shade", "[Lampshades], [lamps]"),
        ("Crème BRÛLÉE in Málaga", "brulee malaga", "Crème [BRÛLÉE] in [Málaga]"),
        (unicodedata.normalize("NFD", "Café!"), "café", unicodedata.normalize("NFD", "[Café]!")),
        ("e-mail: ann.lee@example.org", "lee example", "e-mail: ann.[lee]@[example].org"),
        ("AB_12", "ab", "[AB]_12"),
        ("ΟΔΟΣ", "οδος", "[ΟΔΟΣ]"),
        ("ﬁne", "fi", "[ﬁne]"),
        ("İzmir", "izmir", "[İzmir]"),
        ("½ lamp", "1 2", "[½] lamp"),
        ("red lamp", "", "red lamp"),
        ("red lamp", "?", "red lamp"),
        ("", "lamp", ""),
    ],
)
def test_the_words_that_a_search_finds_are_marked(text: str, search: str, expected: str) -> None:
    assert marked(text, search) == expected


def test_what_is_no_markup_is_escaped() -> None:
    assert marked_html("<b>tea & 'cup'</b>", find_words("<b>tea & 'cup'</b>", "tea")) == (
        "&lt;b&gt;<mark>tea</mark> &amp; &#x27;cup&#x27;&lt;/b&gt;"
    )


@given(st.text(), st.text())
def test_ranges_are_in_order_and_within_the_text_for_any_text(text: str, search: str) -> None:
    end = 0
    for start, stop in find_words(text, search):
        assert end <= start < stop <= len(text)
        end = stop


@given(st.text())
def test_every_word_that_is_indexed_is_found_in_the_text(text: str) -> None:
    words = words_of(text)
    assert searchable([text, None]) == " ".join(words)
    for word in words:
        assert find_words(text, word)


MARKED = st.text(st.characters(codec="utf-8") | st.sampled_from("aeo\u0300\u0308\u0345\u1e69\ufb03\u00bd"))


@given(MARKED)
def test_words_are_those_of_the_text_without_each_of_its_marks(text: str) -> None:
    letters = [each for each in unicodedata.normalize("NFKD", text) if not unicodedata.combining(each)]
    assert words_of(text) == words_of("".join(letters)) == re.findall(r"[^\W_]+", "".join(letters).lower())


def test_only_the_beginning_of_a_long_text_is_looked_at() -> None:
    for letter in ("t", "\u00e4"):
        found = find_words(f"{letter}ea " * 100_000, "tea \u00e4ea")
        assert len(found) == MAX_FOUND
        late = "-" * MAX_TEXT + f" {letter}ea"
        assert find_words(late, "tea \u00e4ea") == []


def test_plain_text_is_marked_as_any_other() -> None:
    text = "Earl Grey TEA, tea-pot: teas"
    assert find_words(text, "tea") == find_words(f"{text} \u00e4", "tea") == [(10, 13), (15, 18), (24, 28)]
