"""The application that is looked at: opened for each question, and compared with the files that its code came from."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import twofold
from twofold.application import Application
from twofold.inspection import masked
from twofold.inspection.databases import opened_databases
from twofold.ports.turns import Turns
from twofold.tenants import all_tenants


class LookedAt:
    """An application whose code is loaded, and whose databases are open only while a question is answered.

    Nothing of it is started: no projection, reaction or process runs. Between two questions no connection and no file
    is held, so that the application may be started, migrated or restored by others.

    Args:
        app: made within `looking_only()`, so that its databases refuse to be changed.
    """

    def __init__(self, app: Application) -> None:
        self.app = app
        self._turn = Turns()
        self._loaded = dict(_files_of_the_application())

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Application]:
        """Open the databases for one question, on behalf of all tenants, with personal fields masked.

        Questions take turns: they share the application's connections.

        Raises:
            StorageError: a database is missing, not up to date, or cannot be read; the text names the remedy.
        """
        async with self._turn, AsyncExitStack() as stack:
            stack.enter_context(all_tenants())
            stack.enter_context(masked())
            await stack.enter_async_context(opened_databases(self.app.store.log, self.app.projections.databases))
            yield self.app

    def changed_files(self) -> list[str]:
        """Return the files of the application that were changed since they were loaded."""
        return sorted(file for file, time in self._loaded.items() if _changed_at(file) != time)


def _files_of_the_application() -> Iterator[tuple[str, int]]:
    """Yield the files of all loaded modules that are neither a library's nor Twofold's, with their times."""
    libraries = [sysconfig.get_path(each) for each in ("stdlib", "platstdlib", "purelib", "platlib")]
    others = {Path(each).resolve() for each in (*libraries, str(Path(twofold.__file__).parent))}
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file and others.isdisjoint(Path(file).resolve().parents):
            yield file, _changed_at(file)


def _changed_at(file: str) -> int:
    try:
        return Path(file).stat().st_mtime_ns
    except OSError:
        return 0
