"""How full text is searched."""
# ruff: noqa: D102  # a test's name is its sentence; asserts are its point

from __future__ import annotations

import unicodedata

import pytest

from twofold.testing.read_samples import Model, Sample

HOSTILE = [
    '"', "'", "*", "(", ")", "a AND", "NOT", "OR OR", "NEAR(", "title:", "{title}:", "^", "-", "+", "a* *", "\\", ":*",
    "&", "|", "!", "<->", "a & !", "%", "_", "__ _", "\N{SNOWMAN}", "\u0301", "\ud800", "\x00", " ", "\n", "x" * 5000,
    "; DROP TABLE samples; --", "--", "/*", "?", "%s", "$1", "a " * 5000, '"a" "', "(" * 500,
]  # fmt: skip


class SearchPromises:
    """Every word must occur, perhaps cut short; what a user types is never syntax."""

    async def test_all_words_must_occur_in_any_of_the_fields(self, samples: Model) -> None:
        await samples.write(
            Sample(id="a", title="red lamp", body="on a table"),
            Sample(id="b", title="red chair"),
            Sample(id="c", name="red lamp"),
        )
        assert await samples.ids(search="red") == "ab"
        assert await samples.ids(search="table lamp") == "a"
        assert await samples.ids(search="lamp chair") == ""

    async def test_words_may_be_cut_short_at_their_end_only(self, samples: Model) -> None:
        await samples.write(Sample(id="a", title="lampshade"))
        assert await samples.ids(search="lam") == "a"
        assert await samples.ids(search="shade") == ""

    async def test_case_and_diacritics_do_not_matter(self, samples: Model) -> None:
        await samples.write(Sample(id="a", title="Crème BRÛLÉE in Málaga"))
        composed = "CREME brûlée malaga"
        for text in (composed, unicodedata.normalize("NFD", composed)):
            assert await samples.ids(search=text) == "a"

    async def test_decomposed_text_is_found_by_composed_words(self, samples: Model) -> None:
        await samples.write(Sample(id="a", title=unicodedata.normalize("NFD", "Málaga")))
        assert await samples.ids(search="málaga") == "a"
        assert await samples.ids(search="malaga") == "a"

    async def test_punctuation_separates_words(self, samples: Model) -> None:
        await samples.write(Sample(id="a", title="e-mail: ann.lee@example.org, AB_12"))
        for text in ("ann", "example.org", "lee@example", "ab 12", "AB_12", "e-mail"):
            assert await samples.ids(search=text) == "a", text

    @pytest.mark.parametrize("hostile", HOSTILE, ids=repr)
    async def test_no_text_is_an_error(self, samples: Model, hostile: str) -> None:
        await samples.write(Sample(id="a", title="words"))
        await samples.select(search=hostile)

    async def test_a_text_without_words_finds_nothing(self, samples: Model) -> None:
        await samples.write(Sample(id="a", title="words - and * signs"))
        for text in ("-", "* ?", "_", '"'):
            assert await samples.ids(search=text) == ""

    async def test_signs_between_words_do_not_matter(self, samples: Model) -> None:
        await samples.write(Sample(id="a", title="red lamp"))
        for text in ('"red" & lamp', "red | lamp:*", "red - lamp", "(red) __ lamp", "red:lamp"):
            assert await samples.ids(search=text) == "a", text

    async def test_the_index_follows_the_rows(self, samples: Model) -> None:
        await samples.write(Sample(id="a", title="old"), Sample(id="b", title="old"))
        await samples.write(Sample(id="a", title="new"), delete=[("b",)])
        await samples.write(Sample(id="a", title="new", number=5))
        assert await samples.ids(search="old") == ""
        assert await samples.ids(search="new") == "a"
        await samples.write(Sample(id="a"))
        assert await samples.ids(search="new") == ""

    async def test_without_a_sort_the_best_comes_first_and_ties_are_broken_by_the_key(self, samples: Model) -> None:
        long = "lamp and many other words that do not matter to anybody who is looking for one"
        await samples.write(Sample(id="b", title="lamp lamp"), Sample(id="c", title=long), Sample(id="a", title=long))
        assert await samples.ids(search="lamp", sort=()) == "bac"

    async def test_a_search_is_filtered_sorted_paged_and_counted(self, samples: Model) -> None:
        await samples.write(*(Sample(id=letter, title="lamp", number=number) for number, letter in enumerate("abcdef")))
        await samples.write(Sample(id="x", title="chair", number=5))
        where = (("number", ">=", 2),)
        assert await samples.ids(search="lamp", where=where, sort=("number",), descending=True, limit=2) == "fe"
        assert await samples.ids(search="lamp", where=where, sort=("number",), beyond=(4,)) == "f"
        assert await samples.total(search="lamp", where=where, limit=1) == 4
