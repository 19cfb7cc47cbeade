"""Key stores against their suite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from tests.postgres_servers import PostgresServer

from twofold.engines.sqlite.keys import SqliteKeySession, sqlite_key_store
from twofold.ports.keys import Forgotten, KeyStore, StoredKey
from twofold.ports.keys.sql_keys import SqlKeyStore
from twofold.testing import KeyStoreConformance


@pytest.fixture(scope="module")
def address(postgres_server: Callable[[int], PostgresServer]) -> Iterator[str]:
    with postgres_server(18).database() as address:
        yield address


class TestMemory(KeyStoreConformance):
    @pytest.fixture
    def keys(self) -> KeyStore:
        return opened(sqlite_key_store(None, timeout=5))


class TestSqlite(KeyStoreConformance):
    @pytest.fixture
    def keys(self, tmp_path: Path) -> Iterator[KeyStore]:
        yield (store := opened(sqlite_key_store(tmp_path / "keys.db", timeout=5)))
        store.close()


class TestPostgres(KeyStoreConformance):
    @pytest.fixture
    def keys(self, address: str) -> Iterator[KeyStore]:
        from twofold.engines.postgres.keys import postgres_key_store

        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute("DROP SCHEMA IF EXISTS twofold_keys CASCADE")
        yield (store := opened(postgres_key_store(address, timeout=5)))
        store.close()


def opened(store: SqlKeyStore) -> KeyStore:
    store.open()
    return store


class MadeAgain(SqlKeyStore):
    def destroy(self, id: str, *, at: int, reason: str, by: str, also: str) -> Forgotten:
        found = super().destroy(id, at=at, reason=reason, by=by, also=also)
        with self._session.writing() as run:
            run("DELETE FROM twofold_keys WHERE id = :id", id=id)
        return found


class StatesStay(SqlKeyStore):
    def destroy(self, id: str, *, at: int, reason: str, by: str, also: str) -> Forgotten:
        return super().destroy(id, at=at, reason=reason, by=by, also="none of them")


class LateStates(SqlKeyStore):
    def add(self, keys: list[StoredKey], *, forgotten: int | None = None) -> None:
        super().add(keys)


@pytest.mark.parametrize(
    ("broken", "name"),
    [
        (MadeAgain, "test_a_destroyed_key_is_gone_and_cannot_be_added_again"),
        (StatesStay, "test_other_keys_go_with_it_and_come_only_as_of_the_last_forgetting"),
        (LateStates, "test_other_keys_go_with_it_and_come_only_as_of_the_last_forgetting"),
    ],
)
def test_the_suite_sees_a_planted_bug(broken: type[SqlKeyStore], name: str) -> None:
    store = broken(SqliteKeySession(None, 5))
    with pytest.raises(AssertionError):
        getattr(KeyStoreConformance(), name)(opened(store))
