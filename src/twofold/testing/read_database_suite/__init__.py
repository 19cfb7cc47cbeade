"""The promises of `twofold.ports.read_database.ReadDatabase`, one test for each.

An adapter passes when a subclass of `ReadDatabaseConformance` is green:

    class TestMyReadDatabase(ReadDatabaseConformance):
        @pytest_asyncio.fixture
        async def read_database(self, tmp_path):
            database = MyReadDatabase(tmp_path / "rows")
            await database.open()
            yield database
            await database.close()

        @pytest.fixture
        def another(self, tmp_path):
            return lambda: MyReadDatabase(tmp_path / "rows")
"""

from __future__ import annotations

from collections.abc import Callable

try:
    import pytest
    import pytest_asyncio
except ImportError as error:
    raise ImportError(
        "twofold.testing.ReadDatabaseConformance is a pytest suite; `pip install pytest pytest-asyncio`"
    ) from error

from twofold.ports.read_database import ReadDatabase
from twofold.testing.read_database_suite.commits import CommitPromises
from twofold.testing.read_database_suite.pages import PagePromises
from twofold.testing.read_database_suite.reads import ReadPromises
from twofold.testing.read_database_suite.searches import SearchPromises
from twofold.testing.read_database_suite.selections import SelectionPromises
from twofold.testing.read_database_suite.tables import TablePromises
from twofold.testing.read_database_suite.totals import TotalPromises
from twofold.testing.read_database_suite.values import ValuePromises
from twofold.testing.read_samples import PAIRS, Model

__all__ = ["ReadDatabaseConformance"]


class ReadDatabaseConformance(
    TablePromises,
    CommitPromises,
    ReadPromises,
    ValuePromises,
    SelectionPromises,
    PagePromises,
    SearchPromises,
    TotalPromises,
):
    """Subclass it, override the fixture `read_database` and, where data outlives the object, `another`."""

    pytestmark = pytest.mark.asyncio

    @pytest.fixture
    def read_database(self) -> ReadDatabase:
        """Return an opened, empty read database; close it afterwards."""
        raise NotImplementedError(
            f"{type(self).__name__} overrides the fixture `read_database`: an opened, empty ReadDatabase"
        )

    @pytest.fixture
    def another(self) -> Callable[[], ReadDatabase]:
        """Return a function that gives a further database, not yet opened, on the same data."""
        pytest.skip("the data of this read database does not outlive the object")

    @pytest_asyncio.fixture
    async def samples(self, read_database: ReadDatabase) -> Model:
        """Return an empty read model with a column of every kind."""
        model = Model(read_database)
        await model.prepare()
        return model

    @pytest_asyncio.fixture
    async def pairs(self, read_database: ReadDatabase) -> Model:
        """Return an empty read model with a key of two fields, whose names are words of SQL."""
        model = Model(read_database, PAIRS, "table")
        await model.prepare()
        return model
