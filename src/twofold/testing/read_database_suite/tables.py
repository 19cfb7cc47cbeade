"""How the tables of read models are made, kept, and made again."""
# ruff: noqa: D102  # a test's name is its sentence; asserts are its point

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import pytest

from twofold.errors import InvalidProjectionError, MissingTableError
from twofold.ports.checkpoints import SQL
from twofold.ports.read_database import ReadDatabase
from twofold.projections.rows.row_type import FullText, Index, Key, RowType
from twofold.testing.read_samples import PAIR_TABLE, SAMPLES, Model, Pair, Sample


@dataclass(frozen=True)
class Plain:
    """A row of a table named `things`; the others of this module are changes to it."""

    id: Annotated[str, Key()]
    group: str = ""
    text: str = ""


@dataclass(frozen=True)
class WithAnotherColumn:
    """One column more."""

    id: Annotated[str, Key()]
    group: str = ""
    text: str = ""
    more: int = 0


@dataclass(frozen=True)
class WithAnotherKind:
    """A column of another kind."""

    id: Annotated[str, Key()]
    group: int = 0
    text: str = ""


@dataclass(frozen=True)
class WithNone:
    """A column that may be None."""

    id: Annotated[str, Key()]
    group: str | None = None
    text: str = ""


@dataclass(frozen=True)
class WithAnotherKey:
    """A key of two fields."""

    id: Annotated[str, Key()]
    group: Annotated[str, Key()] = ""
    text: str = ""


@dataclass(frozen=True)
class WithFullText:
    """A field that is searched."""

    id: Annotated[str, Key()]
    group: str = ""
    text: Annotated[str, FullText()] = ""


@dataclass(frozen=True)
class WithIndex:
    """An index."""

    id: Annotated[str, Key()]
    group: Annotated[str, Index()] = ""
    text: str = ""


CHANGES = [WithAnotherColumn, WithAnotherKind, WithNone, WithAnotherKey, WithFullText]


class TablePromises:
    """A table stands as its version of the projection wants it."""

    async def test_a_new_read_model_is_empty_and_at_the_beginning(self, samples: Model) -> None:
        assert await samples.checkpoint() == 0
        assert await samples.select() == []

    async def test_preparing_again_keeps_rows_and_checkpoint(self, samples: Model) -> None:
        await samples.write(Sample(id="a"))
        await samples.prepare()
        assert await samples.ids() == "a"
        assert await samples.checkpoint() == 1

    async def test_a_higher_version_is_built_beside_the_one_that_serves(
        self, samples: Model, read_database: ReadDatabase
    ) -> None:
        await samples.write(Sample(id="a", title="word"))
        later = Model(read_database)
        await later.prepare(version=2)
        assert (await later.select(), await later.select(search="word"), await later.checkpoint()) == ([], [], 0)
        await later.write(Sample(id="b", title="word"))
        assert (await later.ids(search="word"), await samples.ids(search="word")) == ("b", "a")

    @pytest.mark.parametrize("changed", CHANGES)
    async def test_a_higher_version_may_change_everything(self, read_database: ReadDatabase, changed: type) -> None:
        model, later = Model(read_database, RowType(Plain), "things"), Model(read_database, RowType(changed), "things")
        await model.prepare()
        await model.write(Plain("a"))
        await later.prepare(version=2)
        await later.write(changed("b"))
        assert await later.select() == [changed("b")]

    @pytest.mark.parametrize("changed", CHANGES)
    async def test_a_change_without_a_new_version_is_refused(self, read_database: ReadDatabase, changed: type) -> None:
        model = Model(read_database, RowType(Plain), "things")
        await model.prepare()
        await model.write(Plain("a"))
        for _ in range(2):
            with pytest.raises(InvalidProjectionError, match=r"things__1 changed .* raise `version`"):
                await Model(read_database, RowType(changed), "things").prepare()
        assert await model.select() == [Plain("a")]

    async def test_a_new_index_needs_no_new_version(self, read_database: ReadDatabase) -> None:
        model = Model(read_database, RowType(Plain), "things")
        await model.prepare()
        await model.write(Plain("a"))
        later = Model(read_database, RowType(WithIndex), "things")
        await later.prepare()
        assert await later.select(sort=("group", "id")) == [WithIndex("a")]

    async def test_a_lower_version_is_refused_and_changes_nothing(self, samples: Model) -> None:
        await samples.prepare(version=3)
        await samples.write(Sample(id="a"))
        with pytest.raises(InvalidProjectionError, match=r"built by version 3 .* this code has 2"):
            await samples.prepare(version=2)
        assert await samples.ids() == "a"

    async def test_a_table_of_the_frameworks_own_is_not_taken(self, read_database: ReadDatabase) -> None:
        with pytest.raises(InvalidProjectionError, match="rename the projection"):
            await Model(read_database, SAMPLES, "twofold_projections").prepare()

    async def test_a_view_shows_the_table_that_it_was_last_told_to(
        self, samples: Model, read_database: ReadDatabase
    ) -> None:
        later = Model(read_database)
        await later.prepare(version=2)
        await samples.write(Sample(id="a"))
        await later.write(Sample(id="b"), Sample(id="c"))
        assert await read_database.query("SELECT id FROM samples") == [("a",)]
        async with read_database.transaction() as transaction:
            await transaction.expose("samples", later.table.name)
        assert await read_database.query("SELECT id FROM samples ORDER BY id") == [("b",), ("c",)]

    async def test_a_view_leaves_a_table_of_its_name_alone(self, samples: Model, read_database: ReadDatabase) -> None:
        async with read_database.transaction() as transaction:
            await transaction.expose("twofold_workers", samples.table.name)
        assert await read_database.query("SELECT worker FROM twofold_workers") == []

    async def test_what_was_dropped_is_missing_and_says_so(self, samples: Model, read_database: ReadDatabase) -> None:
        later = Model(read_database)
        await later.prepare(version=2)
        async with read_database.transaction() as transaction:
            await transaction.drop(later.table.name)
            await transaction.drop(later.table.name)
            assert later.table.name not in await transaction.names()
        for question in (later.load(("a",)), later.select(), later.select(search="word")):
            with pytest.raises(MissingTableError):
                await question
        assert await samples.select() == []

    async def test_tables_that_refer_to_each_other_are_emptied_and_dropped_as_one_set(
        self, read_database: ReadDatabase
    ) -> None:
        made = [
            "CREATE TABLE parents (id INTEGER PRIMARY KEY)",
            "CREATE TABLE children (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES parents (id))",
            "CREATE TABLE toys (id INTEGER PRIMARY KEY, child INTEGER NOT NULL REFERENCES children (id))",
            "CREATE INDEX toys_by_child ON toys (child)",
        ]
        filled = [
            "INSERT INTO parents VALUES (1)",
            "INSERT INTO children VALUES (2, 1)",
            "INSERT INTO toys VALUES (3, 2)",
        ]
        for order in ("parents", "children", "toys"), ("toys", "parents", "children"):
            async with read_database.transaction() as transaction:
                for sql in made:
                    await transaction.run(sql)
            for _ in range(2):
                async with read_database.transaction() as transaction:
                    for sql in filled:
                        await transaction.run(sql)
                async with read_database.transaction() as transaction:
                    await transaction.empty(*order)
                for name in order:
                    assert await read_database.query(f"SELECT * FROM {name}") == []
            async with read_database.transaction() as transaction:
                await transaction.drop(*order)
                assert not {*order} & {*await transaction.names()}

    async def test_what_a_transaction_writes_is_seen_by_others_when_it_has_ended(
        self, samples: Model, read_database: ReadDatabase
    ) -> None:
        async with read_database.transaction() as transaction:
            await transaction.run("CREATE TABLE own (id INTEGER PRIMARY KEY)")
        async with read_database.transaction() as transaction:
            await transaction.run("INSERT INTO own VALUES (1)")
            assert await transaction.run("SELECT id FROM own") == [(1,)]
            assert await read_database.query("SELECT id FROM own") == []
            assert await samples.select() == []
        assert await read_database.query("SELECT id FROM own") == [(1,)]

    async def test_a_transaction_that_raises_leaves_nothing_behind(
        self, samples: Model, read_database: ReadDatabase
    ) -> None:
        with pytest.raises(ArithmeticError):  # noqa: PT012  # the block is what is tested
            async with read_database.transaction() as transaction:
                await transaction.run("DELETE FROM twofold_checkpoints")
                await transaction.create(PAIR_TABLE._replace(name="pairs"))
                raise ArithmeticError
        async with read_database.transaction() as transaction:
            assert "pairs" not in await transaction.names()
            assert len(await transaction.run(SQL["checkpoints"])) == 1

    async def test_transactions_with_one_lock_wait_for_each_other(
        self, samples: Model, another: Callable[[], ReadDatabase], read_database: ReadDatabase
    ) -> None:
        other, inside = another(), 0

        async def enter(database: ReadDatabase) -> None:
            nonlocal inside
            async with database.transaction() as transaction:
                await transaction.lock("samples")
                inside += 1
                assert inside == 1
                await transaction.run(SQL["now"])
                await asyncio.sleep(0)
                inside -= 1

        await other.open()
        try:
            await asyncio.gather(*(enter(database) for _ in range(5) for database in (read_database, other)))
        finally:
            await other.close()

    async def test_read_models_do_not_see_each_other(self, samples: Model, pairs: Model) -> None:
        await samples.write(Sample(id="a"))
        assert await pairs.checkpoint() == 0
        await pairs.write(Pair(group="g", order=1))
        assert (await samples.ids(), len(await pairs.select())) == ("a", 1)

    async def test_all_outlives_the_object(self, samples: Model, another: Callable[[], ReadDatabase]) -> None:
        await samples.write(Sample(id="a", title="word"))
        other = another()
        await other.open()
        try:
            model = Model(other)
            await model.prepare()
            assert await model.ids(search="word") == "a"
            assert await model.checkpoint() == 1
        finally:
            await other.close()

    async def test_several_may_prepare_at_once(
        self, read_database: ReadDatabase, another: Callable[[], ReadDatabase]
    ) -> None:
        others = [another() for _ in range(3)]
        try:
            for other in others:
                await other.open()
            await asyncio.gather(*(Model(each).prepare() for each in (read_database, *others)))
        finally:
            for other in others:
                await other.close()
        model = Model(read_database)
        await model.prepare()
        await model.write(Sample(id="a"))
