"""A read database for what one process has for itself, for as long as it runs."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from uuid import uuid4

from twofold.engines.sqlite.database import SqliteDatabase
from twofold.engines.sqlite.read_models.read_database import SqliteReadDatabase


class ScratchDatabase(SqliteReadDatabase):
    """A `ReadDatabase` in a temporary file that only this user can read; closing it deletes the file."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.gettempdir()) / f"twofold-{uuid4().hex}"
        super().__init__(SqliteDatabase(self._folder / "rows.db", synchronous="OFF"))

    async def open(self) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        await super().open()

    async def close(self) -> None:
        await super().close()
        shutil.rmtree(self._folder, ignore_errors=True)
