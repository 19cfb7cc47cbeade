"""How rows and checkpoint move together."""
# ruff: noqa: D102  # a test's name is its sentence; asserts are its point

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from twofold.errors import CheckpointMovedError
from twofold.messages.mark import Mark
from twofold.ports.checkpoints import SQL
from twofold.ports.held_back import HeldBack
from twofold.ports.read_database import ReadDatabase
from twofold.ports.segments import Parked
from twofold.testing.read_samples import EVENT_ID, Model, Pair, Sample


class CommitPromises:
    """All of a commit is stored, with its checkpoint, or nothing is."""

    async def test_rows_are_inserted_updated_and_deleted(self, samples: Model) -> None:
        await samples.write(*(Sample(id=each, number=1) for each in "abc"))
        await samples.write(Sample(id="b", number=2), delete=[("c",)])
        assert await samples.select() == [Sample(id="a", number=1), Sample(id="b", number=2)]
        assert await samples.checkpoint() == 2

    async def test_deleting_what_is_not_there_is_no_error(self, samples: Model) -> None:
        await samples.write(delete=[("a",)])
        assert await samples.checkpoint() == 1

    async def test_a_checkpoint_may_move_without_rows(self, samples: Model) -> None:
        await samples.commit(samples.step(0, 1000))
        assert await samples.checkpoint() == 1000

    async def test_a_commit_may_stay_where_it_is(self, samples: Model) -> None:
        await samples.commit(samples.step(0, 0))
        assert await samples.checkpoint() == 0

    async def test_a_checkpoint_that_was_moved_refuses_rows_and_deletes(self, samples: Model) -> None:
        await samples.write(Sample(id="a"))
        with pytest.raises(CheckpointMovedError) as caught:
            await samples.commit(samples.step(0, 5), Sample(id="b"), delete=[("a",)])
        assert caught.value.projection == "samples"
        assert (await samples.ids(), await samples.checkpoint()) == ("a", 1)

    async def test_another_epoch_is_refused(self, samples: Model, read_database: ReadDatabase) -> None:
        async with read_database.transaction() as transaction:
            await transaction.run(SQL["fence"], name="samples", generation=samples.segment.generation)
        with pytest.raises(CheckpointMovedError):
            await samples.commit(samples.step(0, 5), Sample(id="a"), parked=[Parked(3, "[]", EVENT_ID)])
        assert (await samples.ids(), await samples.checkpoint(), await samples.parked()) == ("", 0, [])
        await samples.commit(samples.step(0, 5, epoch=1), Sample(id="a"))
        assert (await samples.ids(), await samples.checkpoint()) == ("a", 5)

    async def test_events_are_parked_and_released_with_the_step(self, samples: Model) -> None:
        first, second = Parked(1, '["a"]', EVENT_ID, "ValueError: no", "Traceback"), Parked(2, '["a"]', EVENT_ID)
        await samples.commit(samples.step(0, 2), Sample(id="b"), parked=[first, second])
        assert await samples.parked() == [(1, '["a"]', "ValueError: no"), (2, '["a"]', "")]
        await samples.commit(
            samples.step(2, 2), Sample(id="a"), released=[(1, first.key)], parked=[second._replace(cause="again")]
        )
        assert await samples.parked() == [(2, '["a"]', "again")]
        assert await samples.ids() == "ab"

    async def test_an_event_is_parked_once_for_each_thing_that_it_is_about(self, samples: Model) -> None:
        both = [Parked(1, '["a"]', EVENT_ID, "ValueError: no"), Parked(1, '["b"]', EVENT_ID, "ValueError: neither")]
        await samples.commit(samples.step(0, 1), parked=both)
        assert await samples.parked() == [(1, '["a"]', "ValueError: no"), (1, '["b"]', "ValueError: neither")]
        await samples.commit(samples.step(1, 1), released=[(1, '["a"]')])
        assert await samples.parked() == [(1, '["b"]', "ValueError: neither")]

    async def test_a_step_is_taken_once_also_if_only_those_move_that_are_not_held_back(self, samples: Model) -> None:
        held = HeldBack(Mark(3), {"acme": Mark(1)})
        begun = samples.step(0, 1)._replace(held_after=held.text)
        await samples.commit(begun, Sample(id="a"))
        further = samples.step(1, 1)._replace(held_before=held.text, held_after=held.moved("", Mark(7)).text)
        await samples.commit(further, Sample(id="b"))
        with pytest.raises(CheckpointMovedError):
            await samples.commit(further, Sample(id="c"))
        with pytest.raises(CheckpointMovedError):
            await samples.commit(samples.step(1, 8), Sample(id="c"))
        ended = samples.step(1, 7)._replace(held_before=further.held_after)
        await samples.commit(ended, Sample(id="d"))
        assert (await samples.ids(), await samples.checkpoint()) == ("abd", 7)

    @pytest.mark.parametrize("bad", [{"number": "no number"}, {"title": object()}, {"number": 2**70}])
    async def test_a_row_that_cannot_be_stored_stores_nothing_of_its_commit(
        self, samples: Model, bad: dict[str, Any]
    ) -> None:
        with pytest.raises(Exception):  # noqa: B017, PT011  # the driver's, the database's or ours
            await samples.write(Sample(id="a"), Sample(id="b", **bad))
        assert (await samples.ids(), await samples.checkpoint()) == ("", 0)
        await samples.write(Sample(id="c"))
        assert (await samples.ids(), await samples.checkpoint()) == ("c", 1)

    async def test_of_two_at_one_moment_one_wins(self, samples: Model) -> None:
        step = samples.step(0, 1)
        outcomes = await asyncio.gather(
            *(samples.commit(step, Sample(id=each)) for each in "abcd"), return_exceptions=True
        )
        assert sorted(type(each) is CheckpointMovedError for each in outcomes) == [False, True, True, True]
        assert len(await samples.ids()) == 1

    async def test_of_two_databases_at_one_moment_one_wins(
        self, samples: Model, another: Callable[[], ReadDatabase]
    ) -> None:
        other = another()
        await other.open()
        try:
            twin = Model(other)
            await twin.prepare()
            for position in range(10):
                step = samples.step(position, position + 1)
                outcomes = await asyncio.gather(
                    *(model.commit(step, Sample(id=str(position))) for model in (samples, twin)),
                    return_exceptions=True,
                )
                assert sum(outcome is None for outcome in outcomes) == 1
        finally:
            await other.close()
        assert await samples.checkpoint() == 10

    async def test_reads_see_rows_and_checkpoint_of_whole_commits(self, samples: Model) -> None:
        async def write() -> None:
            for number in range(1, 40):
                await samples.write(*(Sample(id=each, number=number) for each in "abc"))

        async def read() -> None:
            while (before := await samples.checkpoint()) < 39:
                numbers = {row.number for row in await samples.load(("a",), ("b",), ("c",))}
                assert len(numbers) <= 1, "half a commit was seen"
                assert max(numbers, default=0) >= before, "the checkpoint was seen before its rows"
                await asyncio.sleep(0)

        await asyncio.gather(write(), read())

    async def test_rows_are_loaded_by_key(self, samples: Model) -> None:
        await samples.write(*(Sample(id=each) for each in "abc"))
        assert await samples.load(("c",), ("x",), ("a",)) == [Sample(id="a"), Sample(id="c")]
        assert await samples.load() == []

    async def test_rows_that_are_read_at_once_are_those_that_are_loaded(self, samples: Model) -> None:
        await samples.write(Sample(id="a"), Sample(id="b"), Sample(id="c"))
        for keys in ([("a",)], [("c",), ("x",), ("a",)], [("x",)], []):
            loaded = await samples.load(*keys)
            assert samples.load_at_once(*keys) in (None, loaded)

    async def test_thousands_of_rows_are_written_and_loaded_at_once(self, samples: Model) -> None:
        rows = [Sample(id=f"{n:05}", number=n) for n in range(5000)]
        await samples.write(*rows)
        assert await samples.load(*((row.id,) for row in rows)) == rows

    async def test_keys_of_several_fields_are_told_apart(self, pairs: Model) -> None:
        await pairs.write(*(Pair(group=group, order=order) for group in "ab" for order in (1, 2)))
        await pairs.write(Pair(group="a", order=2, where=7), delete=[("b", 1)])
        assert await pairs.load(("a", 2), ("b", 1), ("b", 2)) == [
            Pair(group="a", order=2, where=7),
            Pair(group="b", order=2),
        ]
        assert [(row.group, row.order) for row in await pairs.select()] == [("a", 1), ("a", 2), ("b", 2)]

    async def test_words_of_sql_may_be_names(self, pairs: Model) -> None:
        await pairs.write(Pair(group="from", order=1, select="where group by", where=3))
        await pairs.write(Pair(group="from", order=1, select="having", where=4))
        assert len(await pairs.select(search="having", where=(("where", ">", 3),), sort=("where",))) == 1
        assert await pairs.select(search="group") == []
