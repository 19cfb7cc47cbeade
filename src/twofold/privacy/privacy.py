"""Privacy: what an application does for the persons of whom it keeps data; `app.privacy`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import Any

from twofold.arguments import check_function, check_text
from twofold.errors import InvalidMessageTypeError
from twofold.log.codec.encrypt import Encryption
from twofold.log.event_store import EventStore
from twofold.options import Backoff
from twofold.ports.keys import Forgotten
from twofold.ports.turns import Turns
from twofold.privacy.forgetting import Forgetting
from twofold.privacy.reports import ForgetReport, ForgottenSubject, KnownSubject
from twofold.privacy.subject_events import as_shown, events_with_keys
from twofold.processes.instance import moment_of
from twofold.synchronizer.synchronizer import ReadModelSynchronizer
from twofold.tasks import end, run_in_thread, supervise


class Privacy:
    """Tells, exports and forgets what is personal. In an application with tenants, subjects are the tenant's own.

    All methods raise `InvalidMessageTypeError` if the application has no key store, and `StorageError` if a database
    fails.

    Args:
        store: where the events are.
        projections: what is made of them.
    """

    def __init__(self, store: EventStore, projections: ReadModelSynchronizer) -> None:
        self._store = store
        self._projections = projections
        self._turns = Turns()
        self._task: asyncio.Task[None] | None = None

    async def forget(self, subject: str, *, reason: str, by: str) -> ForgetReport:
        """Forget a person: destroy the key, and remove what was made of the personal fields.

        From the first moment on, readers get placeholders; when it returns, no read model, snapshot or parked event
        that this application knows holds the data. Cancelled, or killed, it is completed by the next application that
        starts. A repeat is completed at once, and changes nothing.

        Args:
            subject: the value of the field that is marked with `Subject()`.
            reason: why; it is recorded. Name no person.
            by: who asked for it; it is recorded.

        Raises:
            NoWorkerError: no worker builds the read models again; it is completed when one runs.
            RebuildFailedError: a read model could not be built again; it is completed at the next start.
        """
        for name, text in (("subject", subject), ("reason", reason), ("by", by)):
            check_text(name, text)
        encryption = self._encryption
        record = await run_in_thread(encryption.keys.forget, encryption.subject(subject), reason=reason, by=by)
        return await self._completed(record)

    async def forgotten(self) -> Sequence[ForgottenSubject]:
        """Return the forgettings, in order."""
        store, found, after = self._encryption.keys.store, list[Forgotten](), 0
        while page := await run_in_thread(store.forgotten, after=after):
            found += page
            after = page[-1].number
        return [
            ForgottenSubject(
                number=each.number, digest=each.id, at=moment_of(each.at), reason=each.reason, by=each.by,
                is_done=each.state == "done",
            )
            for each in found
        ]  # fmt: skip

    async def subjects(self) -> Sequence[KnownSubject]:
        """Return the persons of whom there may be personal data, in the order of their ids."""
        keys = self._encryption.keys

        def read() -> list[tuple[str, datetime]]:
            keys.open()
            return [(keys.subject_of(key), moment_of(key.created_at)) for key in keys.stored_keys()]

        found = [each for each in await run_in_thread(read) if each[0]]
        own = self._encryption.subject("")
        names = sorted((name[len(own) :], since) for name, since in found if name.startswith(own))
        return [KnownSubject(subject=name, since=since) for name, since in names]

    async def export(self, subject: str) -> AsyncIterator[dict[str, Any]]:
        """Iterate over the events that hold personal data of a person, in order, as plain values for JSON.

        Personal fields of other persons are left out. Nothing is found of a person who is forgotten, or never known.
        """
        check_text("subject", subject)
        encryption = self._encryption
        key_id = await run_in_thread(encryption.keys.digest, encryption.subject(subject))
        async for row in events_with_keys(self._store._of_all, [key_id]):
            await encryption.fetch([row])
            yield as_shown(row, encryption, key_id)

    async def rewrap(self, *, progress: Callable[[int], object] = lambda _: None) -> int:
        """Wrap all keys with the present master key; return how many were wrapped by a former one.

        Backups of the key store that were made before cannot be read any more once the former master key is destroyed.

        Raises:
            MasterKeyError: a key was wrapped by a master key that is not among those given.
        """
        check_function("progress", progress)
        return await run_in_thread(self._encryption.keys.rewrap, progress)

    def blind(self, tag: str, value: str) -> str:
        """Return the tag of a field that is `Personal(blind=True)`, to ask for its events.

        Args:
            tag: the name of the tag, such as `email`.
            value: the value of the field.
        """
        check_text("tag", tag)
        check_text("value", value)
        return f"{tag}:{self._encryption.keys.blind(tag, value)}"

    # ---------------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Complete what earlier processes have begun, in the background, until `end`."""
        if self._store.keys is not None:
            self._task = asyncio.create_task(
                supervise("the forgetting of persons", self._resume, Backoff()), name="twofold-privacy"
            )

    async def end(self) -> None:
        """End what `begin` began; may be repeated."""
        task, self._task = self._task, None
        if task is not None:
            await end(task)

    async def _resume(self) -> None:
        forgetting = self._forgetting
        if await forgetting.pending():
            async with self._turns:
                if records := await forgetting.pending():
                    await forgetting.complete(records)

    async def _completed(self, record: Forgotten) -> ForgetReport:
        """Complete a forgetting with all others that are not yet, and report it."""
        forgetting = self._forgetting
        async with self._turns:
            records = await forgetting.pending()
            if all(each.id != record.id for each in records):
                records = []
            removed = await forgetting.complete(records) if records else None
        return ForgetReport(
            digest=record.id,
            number=record.number,
            forgotten_at=moment_of(record.at),
            events=len(removed.found.positions) if removed else 0,
            streams=removed.found.streams if removed else 0,
            types=tuple(sorted(removed.found.types)) if removed else (),
            read_models=removed.read_models if removed else (),
            snapshots=removed.snapshots if removed else 0,
            parked=removed.parked if removed else 0,
        )

    @property
    def _encryption(self) -> Encryption:
        found = self._store.events._encryption
        if found is None:
            raise InvalidMessageTypeError(
                'there is no key store; name one: Application(…, keys_url="sqlite:///keys.db")'
            )
        return found

    @property
    def _forgetting(self) -> Forgetting:
        return Forgetting(self._store, self._encryption.keys, self._projections)
