"""From `module:attribute` to the application of an operator's choice."""

from __future__ import annotations

import inspect
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

from twofold.application import Application
from twofold.engines.looking import looking_only
from twofold.inspection.databases import opened_databases
from twofold.log.event_store import EventStore

FORM = "module:attribute, such as orders.app:build"


def load(name: str, url: str = "") -> Application:
    """Return the application that a module holds, or that a function of it makes.

    Args:
        name: where it is, as `module:attribute`; modules of the present folder are found as well.
        url: given to the function, if there is one.

    Raises:
        ValueError: there is no such thing, or it is no application.
    """
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise ValueError(f"{name!r} names no application; write {FORM}")
    found = _attribute(_module(module), name, attribute)
    if not isinstance(found, Application) and callable(found):
        found = _called(found, name, url)
    if not isinstance(found, Application):
        raise ValueError(f"{name} is {found!r}, no Application and no function that returns one")
    return found


@asynccontextmanager
async def opened_store(name: str, url: str = "", *, looks: bool = True) -> AsyncIterator[EventStore]:
    """Load an application and open the log of its event store, and nothing else of it.

    Args:
        name: as for `load`.
        url: as for `load`.
        looks: nothing is to be written: no file is made, and no schema brought up to date.

    Raises:
        ValueError: as `load`.
        StorageError: the log cannot be opened, or is not up to date.
    """
    with looking_only(for_a_moment=True) if looks else nullcontext():
        store = load(name, url).store
    await store.log.open()
    try:
        yield store
    finally:
        await store.log.close()


@asynccontextmanager
async def looked_at(name: str, url: str = "") -> AsyncIterator[Application]:
    """Load an application and open its databases so that nothing of them is changed or made; start nothing of it.

    Raises:
        ValueError: as `load`.
        StorageError: a database is missing, not up to date, or cannot be read; the text names the remedy.
    """
    with looking_only(for_a_moment=True):
        app = load(name, url)
    async with opened_databases(app.store.log, app.projections.databases):
        yield app


def _module(name: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # as `python -m` does
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # one that it needs itself
        raise ValueError(
            f"there is no module {name!r} here; run this in the folder of the code, or name that in PYTHONPATH"
        ) from error


def _attribute(module: Any, name: str, attribute: str) -> Any:
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise ValueError(f"{name}: the module has no {attribute!r}; write {FORM}") from None


def _called(function: Any, name: str, url: str) -> Any:
    arguments = [url] if url else []
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError as error:
        remedy = "leave out --url" if url else "give it the database with --url"
        raise ValueError(f"{name} cannot be called: {error}; {remedy}") from None
    return function(*arguments)
