from __future__ import annotations

from pathlib import Path

import pytest

from twofold.errors import NewerStorageError
from twofold.ports.migrations import Migration, load, pending

THREE = [Migration(n, f"step_{n}", "") for n in (1, 2, 3)]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """Make a package with the migration files that the test names."""
    name = f"engine_{abs(hash(request.node.name))}"
    folder = tmp_path / name / "migrations"
    folder.mkdir(parents=True)
    (tmp_path / name / "__init__.py").touch()
    for file in getattr(request, "param", ()):
        (folder / file).write_text(f"-- {file} ü", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return name


@pytest.mark.parametrize("package", [("0002_more.sql", "0001_first.sql", "notes.md", "__init__.py")], indirect=True)
def test_migrations_are_loaded_in_the_order_of_their_numbers(package: str) -> None:
    assert load(package) == [
        Migration(1, "first", "-- 0001_first.sql ü"),
        Migration(2, "more", "-- 0002_more.sql ü"),
    ]


@pytest.mark.parametrize(
    "package",
    [("0002_a.sql",), ("0001_a.sql", "0003_b.sql"), ("0001_a.sql", "0001_b.sql"), ("0000_a.sql",)],
    indirect=True,
)
def test_a_gap_or_a_double_number_is_refused(package: str) -> None:
    with pytest.raises(ValueError, match="not numbered from 1 without a gap"):
        load(package)


@pytest.mark.parametrize("package", [("0001_a.sql", "0002-b.sql"), ("1_a.sql",), ("0001_a b.sql",)], indirect=True)
def test_a_file_with_another_kind_of_name_is_refused_not_ignored(package: str) -> None:
    with pytest.raises(ValueError, match="is not named like"):
        load(package)


@pytest.mark.parametrize("applied", [0, 1, 2, 3])
def test_what_is_pending_starts_behind_what_was_applied(applied: int) -> None:
    assert pending(THREE, applied) == THREE[applied:]


def test_a_database_that_is_ahead_of_the_code_is_refused() -> None:
    with pytest.raises(NewerStorageError, match="at migration 4, this release of twofold knows 3"):
        pending(THREE, 4)


def test_one_number_is_one_change_on_every_engine() -> None:
    sqlite, postgres = (load(f"twofold.engines.{engine}") for engine in ("sqlite", "postgres"))
    assert [each[:2] for each in sqlite] == [each[:2] for each in postgres]
