"""What stands before the first worker starts: the tables of all read models, and what is said of changed code."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal

from twofold.errors import InvalidProjectionError
from twofold.log.event_store import EventStore
from twofold.messages.mark import START
from twofold.ports.maintenance import fork_of
from twofold.projections.runner import ProjectionRunner
from twofold.synchronizer.generations import prepare
from twofold.synchronizer.registry import Registry

log = logging.getLogger(__name__)

ChangedCode = Literal["warn", "refuse", "ignore"]
"""What to do about a projection whose code changed and whose version did not."""


async def prepare_all(store: EventStore, registry: Registry, changed_code: ChangedCode) -> None:
    """Make the tables of all read models, or begin to build those of a new version, and wait for the replicas.

    Inline ones that serve are brought up to the head of the log. On a fork of a log, reactions and processes stand
    still until an operator resumes them: what they would do elsewhere concerns the log that the fork was made of.

    Raises:
        InvalidProjectionError: a projection's rows changed and its version did not, or its code did and that is to be
            refused.
        StorageError: a database failed.
    """
    fork = await fork_of(store.log)
    for registered in registry.stored.values():
        start = await store.log.mark(await store.head()) if registered.start == "now" else None
        is_held = fork is not None and not registered.runner.has_read_model
        changed = await prepare(registered.database, registered.runner, start or START, paused=is_held)
        if changed and changed_code != "ignore":
            _complain(registered.runner, changed, changed_code)
        await registered.runner.drive.catch_up(registered.runner, store.events, registered.database)
    for registered in registry.stored.values():
        if registered.served is not registered.written:
            await registered.served.appear()


def _complain(runner: ProjectionRunner, changed: Sequence[str], changed_code: ChangedCode) -> None:
    text = (
        f"the code of {runner.name} changed ({', '.join(changed)}) and its version did not: what is stored may "
        f"differ from what it would make now. Raise `version`, or call rebuild_projection({runner.name!r})"
    )
    if changed_code == "refuse":
        raise InvalidProjectionError(text)
    log.warning("%s", text)
