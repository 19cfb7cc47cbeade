"""What inline projections ask for within a transaction."""
# ruff: noqa: D102  # a test's name is its sentence; asserts are its point

from __future__ import annotations

import pytest

from twofold.errors import CheckpointMovedError
from twofold.ports.inline import Ask, FindRows, LoadRows, LockSegments, Steps, WriteStep
from twofold.ports.read_database import Changes, ReadDatabase, Selection
from twofold.testing.read_samples import SAMPLES, Model, Sample

TOO_LARGE = 2**70


class RequestPromises:
    """Requests are carried out in order and in the transaction, and what a row is to blame for is thrown into them.

    For databases that may hold an event log, beside `ReadDatabaseConformance`.
    """

    async def test_requests_are_answered_in_the_transaction(self, samples: Model, read_database: ReadDatabase) -> None:
        def steps() -> Steps[object]:
            rows = yield Ask("SELECT CAST(:number AS INTEGER) + 1", {"number": 1})
            yield WriteStep(samples.table, _rows(Sample(id="a", number=rows[0][0])), samples.step(0, 7))
            values = yield LoadRows(samples.table, [("a",), ("b",)])
            found = yield FindRows(samples.table, Selection(where=(("id", "in", ("a", "b")),)))
            segments = yield LockSegments("samples", 0)
            assert found == values
            return [SAMPLES.load(each) for each in values], [row[7] for row in segments]

        async with read_database.transaction() as transaction:
            await transaction.run("SAVEPOINT before_it")
            assert await transaction.carry_out(steps()) == ([Sample(id="a", number=2)], [7])
            await transaction.run("ROLLBACK TO SAVEPOINT before_it")
        assert (await samples.ids(), await samples.checkpoint()) == ("", 0)
        async with read_database.transaction() as transaction:
            await transaction.carry_out(steps())
        assert (await samples.ids(), await samples.checkpoint()) == ("a", 7)

    async def test_a_row_that_cannot_be_stored_is_told_to_who_asked(
        self, samples: Model, read_database: ReadDatabase
    ) -> None:
        def steps() -> Steps[None]:
            yield Ask("SAVEPOINT before_it")
            with pytest.raises(Exception, match=r".") as told:
                yield WriteStep(samples.table, _rows(Sample(id="a", number=TOO_LARGE)), samples.step(0, 5))
            assert not isinstance(told.value, CheckpointMovedError)
            yield Ask("ROLLBACK TO SAVEPOINT before_it")
            yield WriteStep(samples.table, _rows(Sample(id="b")), samples.step(0, 5))

        async with read_database.transaction() as transaction:
            await transaction.carry_out(steps())
        assert (await samples.ids(), await samples.checkpoint()) == ("b", 5)

    async def test_a_step_from_another_place_ends_the_work(self, samples: Model, read_database: ReadDatabase) -> None:
        def steps() -> Steps[None]:
            yield WriteStep(samples.table, _rows(Sample(id="a")), samples.step(3, 5))

        with pytest.raises(CheckpointMovedError):
            async with read_database.transaction() as transaction:
                await transaction.carry_out(steps())
        assert (await samples.ids(), await samples.checkpoint()) == ("", 0)


def _rows(*rows: Sample) -> Changes:
    return Changes([SAMPLES.dump(row) for row in rows])
