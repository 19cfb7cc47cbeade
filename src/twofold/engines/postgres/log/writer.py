"""The connection that commits: it does not rest before the outcome of a batch is known."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from copy import copy

import psycopg

from twofold.engines.postgres.database import PostgresDatabase
from twofold.engines.postgres.errors import (
    STANDBY_GAVE_UP,
    STATEMENT_IS_GONE,
    UNIQUE_VIOLATION,
    connection_is_lost,
    is_about_the_data,
    translate,
    was_rolled_back,
)
from twofold.engines.postgres.log.batch import (
    APPEND,
    APPEND_ONE,
    Batch,
    Outcome,
    head_after,
    is_plain,
    plain_arguments,
    plain_outcome,
)
from twofold.engines.postgres.log.inline import fold_in, in_transaction
from twofold.engines.postgres.pauses import pauses
from twofold.engines.postgres.wire.arrays import UnfitError
from twofold.engines.postgres.wire.connection import Wire
from twofold.errors import (
    OutcomeUnknownError,
    ProjectionFailedError,
    StorageError,
    StorageUnavailableError,
    TwofoldError,
)
from twofold.ports.inline import Inline
from twofold.ports.watermark import Watermark


class Writer:
    """Commits one batch at a time on a connection of its own.

    1. Send the batch, and wait for its answer, but not for a silent connection; then its outcome is unknown.
    2. Unknown: send the same batch over a new connection. The ids of events and commands make that harmless.
    3. A value of one append is at fault: commit each append alone, so that the others do not suffer.
    4. No answer until the deadline: if the batch was never sent, it has failed for certain; else say that the outcome
       is unknown.

    Nothing here is ever cancelled while a COMMIT may be under way.

    Args:
        database: where the log is.
        head: told of each answer.
        on_unknown: called when an answer is lost, and the head may be further than it was told.
    """

    def __init__(self, database: PostgresDatabase, head: Watermark, on_unknown: Callable[[], None]) -> None:
        self._database = database
        self._options = database.options
        self._head = head
        self._on_unknown = on_unknown
        self._wire: Wire | None = None
        self._doubtful = False
        self.inline: list[Inline] = []
        """What is to be folded in the transactions of the appends."""

    async def commit(self, batch: Batch) -> Sequence[Outcome | Exception]:
        """Return what became of each append, or the error to raise for it."""
        failure: Exception
        try:
            return await self._settle(batch)
        except psycopg.Error as error:
            failure, theirs = translate(error), is_about_the_data(error)
        except UnfitError as error:
            failure, theirs = error.reason, True
        except ProjectionFailedError as error:
            failure, theirs = error, True
        except TwofoldError as error:
            failure, theirs = error, False
        if theirs and len(batch.appends) > 1:  # one of them is to blame; the others must not suffer
            return [outcome for append in batch.appends for outcome in await self.commit(Batch([append]))]
        return [failure] if len(batch.appends) == 1 else [_copy(failure) for _ in batch.appends]

    def commits_on(self, backend: int) -> bool:
        """Return whether a server process is that of its connection, each commit of which moves the head here."""
        return self._wire is not None and self._wire.connection.pgconn.backend_pid == backend

    async def close(self) -> None:
        """Close the connection."""
        wire, self._wire = self._wire, None
        if wire is not None:
            await wire.close()

    async def _settle(self, batch: Batch) -> Sequence[Outcome]:
        """Call until there is an answer."""
        started, unknown = time.monotonic(), False
        failure: Exception = StorageUnavailableError("PostgreSQL was not asked")
        for pause in pauses(self._options):
            self._doubtful = False
            try:
                wire = await self._connected()
                # Half of it at the most, so that another connection has the time to learn the outcome.
                wire.connection.silence = max((started + self._options.append_timeout - time.monotonic()) / 2, 0.01)
                outcomes = await self._call(wire, batch)
            except psycopg.Error as error:
                failure = error
                if connection_is_lost(error):
                    unknown = True
                    await self.close()
                    self._on_unknown()
                elif error.sqlstate == STATEMENT_IS_GONE:  # the driver dropped it, when a fold went back to a savepoint
                    await self.close()
                    continue
                elif error.sqlstate == UNIQUE_VIOLATION and not batch.careful:
                    batch = Batch(batch.appends, careful=True)  # an id is known: have each append judged by itself
                    continue
                elif is_about_the_data(error) or not (unknown or was_rolled_back(error)):
                    raise
            except StorageError as error:  # while connecting
                failure = error
                if not (unknown or isinstance(error, StorageUnavailableError)):
                    raise
            else:
                if not self._doubtful:
                    return outcomes
                unknown, failure = True, RuntimeError("an operator ended the wait for the synchronous standby")
            deadline = started + (self._options.append_timeout if unknown else self._options.unsent_timeout)
            if time.monotonic() + pause > deadline:
                break
            await asyncio.sleep(pause)
        if not unknown:
            raise failure
        raise OutcomeUnknownError(
            f"the outcome of an append could not be learnt within {self._options.append_timeout:g} s ({failure}); "
            f"repeat it with the same ids"
        )

    async def _call(self, wire: Wire, batch: Batch) -> Sequence[Outcome]:
        known = self._head.position
        if not self.inline:
            outcomes = await self._append(wire, batch)
        else:
            async with in_transaction(wire, self._options):
                outcomes = await self._append(wire, batch)
                with wire.lent() as connection:
                    await fold_in(connection, outcomes, self.inline)
        self._head.read(head_after(outcomes), known)
        return outcomes

    async def _append(self, wire: Wire, batch: Batch) -> Sequence[Outcome]:
        appends = batch.appends
        if len(appends) == 1 and not batch.careful and is_plain(appends[0]):
            row = await wire.call(APPEND_ONE, plain_arguments(appends[0]))
            if outcome := plain_outcome(row):
                return [outcome]
        return batch.outcomes(await wire.call(APPEND, batch.arguments))

    async def _connected(self) -> Wire:
        if self._wire is None or self._wire.connection.closed:
            await self.close()
            connection = await self._database.connect()
            connection.add_notice_handler(self._notice)
            connection.prepare_threshold = None if self._database.pooled else 1
            self._wire = Wire(connection, prepare=not self._database.pooled)
        return self._wire

    def _notice(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        if diagnostic.sqlstate in STANDBY_GAVE_UP:
            self._doubtful = True


def _copy(error: Exception) -> Exception:
    """Return an error for one caller: a shared one would collect the tracebacks of all."""
    own = copy(error)
    own.__cause__ = error.__cause__
    return own
