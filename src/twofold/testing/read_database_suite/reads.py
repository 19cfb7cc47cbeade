"""How an answer and the position of its generation belong together."""
# ruff: noqa: D102  # a test's name is its sentence; asserts are its point

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from twofold.errors import MissingTableError
from twofold.messages.mark import Mark
from twofold.ports.checkpoints import SQL
from twofold.ports.held_back import HeldBack
from twofold.ports.read_database import Lookup, Question, ReadDatabase, Selection, Source, Sums
from twofold.ports.segments import Parked, slot_of
from twofold.testing.read_samples import EVENT_ID, Model, Sample

KEY = '["a"]'
QUESTIONS: list[Question] = [Lookup((("a",),)), Selection(sort=("id",)), Sums((), ("number",))]


def source(model: Model, key: str = "") -> Source:
    """Return the generation that a test writes by hand, or one row of it."""
    return Source(*model.segment[:2], key)


class ReadPromises:
    """A question and the position of the generation that answers it are of one snapshot."""

    async def test_a_read_answers_what_the_single_questions_answer(
        self, read_database: ReadDatabase, samples: Model
    ) -> None:
        await samples.write(Sample(id="a", number=1), Sample(id="b", number=2))
        lookup, selection, sums = [
            (await read_database.read(samples.table, each, source(samples))).answer for each in QUESTIONS
        ]
        assert list(lookup) == list(await read_database.load(samples.table, [("a",)]))
        assert selection == await read_database.select(samples.table, Selection(sort=("id",)))
        assert sums == await read_database.totals(samples.table, (), ("number",))

    @pytest.mark.parametrize("question", QUESTIONS, ids=lambda each: type(each).__name__)
    async def test_a_read_tells_how_far_its_source_had_come(
        self, read_database: ReadDatabase, samples: Model, question: Question
    ) -> None:
        assert (await read_database.read(samples.table, question, source(samples)))[1:] == (0, 0, False)
        await samples.commit(samples.step(0, 7), Sample(id="b"), parked=[Parked(3, KEY, EVENT_ID)])
        for of, has_parked in ((source(samples), True), (source(samples, KEY), True), (source(samples, "[]"), False)):
            assert (await read_database.read(samples.table, question, of))[1:] == (7, 7, has_parked)
        serving = Source("samples")
        assert (await read_database.read(samples.table, question, serving))[1:] == (7, 7, True)

    @pytest.mark.parametrize("question", QUESTIONS, ids=lambda each: type(each).__name__)
    async def test_a_read_tells_the_lowest_and_the_furthest_of_the_segments(
        self, read_database: ReadDatabase, samples: Model, question: Question
    ) -> None:
        place = {"name": "samples", "generation": samples.segment.generation}
        async with read_database.transaction() as transaction:
            [(epoch,)] = await transaction.run(SQL["end_segment"], **place, first=0, epoch=0, end=100)
            await transaction.run(SQL["split_off"], **place, parent=0, first=100, end=256)
        samples.segment = samples.segment._replace(end=100)
        await samples.commit(samples.step(0, 9, epoch))
        assert (await read_database.read(samples.table, question, source(samples)))[1:] == (0, 9, False)
        own = {slot_of(f'["{name}"]') < 100: f'["{name}"]' for name in "abcdefgh"}
        assert (await read_database.read(samples.table, question, source(samples, own[True])))[1:] == (9, 9, False)
        assert (await read_database.read(samples.table, question, source(samples, own[False])))[1:] == (0, 0, False)

    @pytest.mark.parametrize("question", QUESTIONS, ids=lambda each: type(each).__name__)
    async def test_a_read_is_of_one_moment_while_rows_and_checkpoint_move(
        self, read_database: ReadDatabase, samples: Model, question: Question
    ) -> None:
        """The row `a` always holds the position up to which its read model is complete."""
        await samples.write(Sample(id="a", number=1))
        done = asyncio.Event()

        async def keep_writing() -> None:
            while not done.is_set():
                await samples.write(Sample(id="a", number=await samples.checkpoint() + 1))
                await asyncio.sleep(0)  # an engine in memory does not wait for anything

        writing = asyncio.create_task(keep_writing())
        seen: list[int] = []
        try:
            async with asyncio.timeout(30):  # on a slow disk, many reads come before the second write
                while len(seen) < 60 or seen[0] == seen[-1]:
                    found = await read_database.read(samples.table, question, source(samples))
                    assert found.position == shown_by(samples, found.answer)
                    seen.append(found.position)
                    await asyncio.sleep(0)
        finally:
            done.set()
            await writing

    @pytest.mark.parametrize("question", QUESTIONS, ids=lambda each: type(each).__name__)
    async def test_a_read_of_a_missing_table_fails_alone(
        self, read_database: ReadDatabase, samples: Model, question: Question
    ) -> None:
        for _ in range(12):
            with pytest.raises(MissingTableError):
                await read_database.read(samples.table._replace(name="gone"), question, source(samples))
        assert (await read_database.read(samples.table, question, source(samples))).position == 0

    @pytest.mark.parametrize("question", QUESTIONS, ids=["lookup", "page", "totals"])
    async def test_an_answer_for_a_tenant_is_as_far_as_those_of_the_tenant_are_in(
        self, read_database: ReadDatabase, samples: Model, question: Question
    ) -> None:
        held = HeldBack(Mark(9), {"acme": Mark(4), "a.b-c": Mark(6)})
        await samples.commit(samples.step(0, 4)._replace(held_after=held.text), Sample(id="a"))
        found = {}
        for tenant in ("", "acme", "a.b-c", "zen"):
            its = source(samples)._replace(tenant=tenant)
            answer = await read_database.read(samples.table, question, its)
            found[tenant] = (answer.position, answer.furthest)
        assert found == {"": (4, 9), "acme": (4, 4), "a.b-c": (6, 6), "zen": (9, 9)}


def shown_by(model: Model, answer: Any) -> int:
    """Return the number in the one row that was read, or the sum of it."""
    if isinstance(answer, tuple):
        rows, total = answer
        assert total == len(rows)
        return shown_by(model, rows)
    [row] = answer
    if hasattr(row, "sums"):
        return int(row.sum)
    return int(row[[column.name for column in model.table.columns].index("number")])
