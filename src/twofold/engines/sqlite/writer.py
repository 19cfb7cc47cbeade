"""The connection of a SQLite file that writes: jobs that wait at one moment share one commit.

1. `submit` takes a job; at the end of the loop's turn, the jobs that came in it are one group.
2. While commits are fast and the jobs brief, the loop commits the group by itself, without waiting for a lock.
3. Otherwise, or if that fails, the loop hands the jobs over to the writer's thread, which commits them in groups.
4. If a job of a group fails, the group is rolled back, and the thread runs each of its jobs again, alone and careful.
5. After each commit, the writer looks whether the file is still at its path; only then it answers the callers.
6. `lend` gives the connection to a task once the jobs before it are done; the thread waits until it is back.
7. What waits behind others for the lock of another process has waited for it, too: it gets the rest of the time-out.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

from twofold.engines.sqlite.errors import DRIVER_ERRORS, commit_failed, translate
from twofold.engines.sqlite.file_identity import FileIdentity
from twofold.engines.sqlite.transaction import LogMemory, Transaction
from twofold.errors import OutcomeUnknownError, StorageError
from twofold.options import SqliteOptions

T = TypeVar("T")


class _Job(NamedTuple):
    run: Callable[[Transaction], Any]
    brief: bool
    future: asyncio.Future[Any]
    since: float
    """By `time.monotonic`."""


class Loan(NamedTuple):
    """The connection is lent to a task, and the thread waits until it has it back."""

    begin: bool
    """Whether a transaction is open then."""
    lent: asyncio.Future[sqlite3.Connection]
    back: SimpleQueue[str]
    """Takes the statement that ends the transaction."""
    ended: asyncio.Future[None]
    since: float
    """By `time.monotonic`."""


class Writer:
    """Commits jobs in groups, in the order in which they came.

    A thread holds the connection while it has jobs to do, and the event loop otherwise. Handing jobs over and back
    takes as long as a fast commit, so the loop commits brief jobs by itself. It never waits: if another process has the
    lock, if anything fails, or if a checkpoint may be due, the thread does it all again.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path, file: FileIdentity, options: SqliteOptions) -> None:
        self._connection = connection
        self._path = path
        self._file = file
        self._options = options
        self._lock_timeout = round(options.lock_timeout * 1000)
        self._loop = asyncio.get_running_loop()
        self._waiting: list[_Job] = []
        self._handed_over = 0
        self._queue: SimpleQueue[_Job | Loan | None] = SimpleQueue()
        self._loan: Loan | None = None
        self._average = 2 * options.fast_commit
        self._cost = 0.0
        """Seconds that the thread held the lock for a job of the last group, on average: inline projections may be
        slow."""
        self._unanswered: list[tuple[list[_Job], list[Any]]] = []
        self._seen_changes = 0
        self._patient: bool | None = None
        self._file_in_doubt = False
        self._memory = LogMemory()
        self._thread = threading.Thread(target=self._work, name="twofold-sqlite-writer", daemon=True)
        self._thread.start()

    def submit(self, run: Callable[[Transaction], T], *, brief: bool) -> asyncio.Future[T]:
        """Accept a job for the commit at the end of this turn of the loop; its result comes once that is durable."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._waiting.append(_Job(run, brief, future, time.monotonic()))
        if len(self._waiting) == 1:
            self._loop.call_soon(self._commit_waiting)
        return future

    def lend(self, *, begin: bool) -> Loan:
        """Lend the connection once all that was accepted before is done; until it is back, nothing is committed."""
        self._hand_over()
        self._handed_over += 1
        loan = Loan(begin, self._loop.create_future(), SimpleQueue(), self._loop.create_future(), time.monotonic())
        self._queue.put(loan)
        return loan

    async def close(self) -> None:
        """Finish the accepted jobs and close the connection."""
        self._hand_over()
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        self._connection.close()

    # -- in the event loop --------------------------------------------------------------------------------------

    def _commit_waiting(self) -> None:
        committed = not self._waiting
        try:
            committed = committed or (self._may_commit_here() and self._commit_here())
        finally:
            if not committed:
                self._hand_over()

    def _may_commit_here(self) -> bool:
        return (
            self._handed_over == 0
            and self._average < self._options.fast_commit
            and self._connection.total_changes - self._seen_changes < self._options.checkpoint_changes
            and len(self._waiting) <= self._options.loop_group
            and not self._file_in_doubt
            and all(job.brief for job in self._waiting)
        )

    def _commit_here(self) -> bool:
        """Commit in the loop, and return whether it went without waiting and without an error."""
        group = self._waiting
        try:
            self._set_patience(False)
            self._connection.execute("BEGIN IMMEDIATE")
            results = self._run(group, careful=False)
            self._end()
        except BaseException as error:
            self._roll_back()
            if not isinstance(error, Exception):
                raise
            return False
        self._waiting = []
        _resolve(group, self._checked(results))
        return True

    def _hand_over(self) -> None:
        group, self._waiting = self._waiting, []
        self._handed_over += len(group)
        for job in group:
            self._queue.put(job)

    def _take_back(self, answers: list[tuple[list[_Job], list[Any]]]) -> None:
        for group, outcomes in answers:
            self._handed_over -= len(group)
            _resolve(group, outcomes)

    def _end_loan(self, future: asyncio.Future[Any], outcome: object) -> None:
        self._handed_over -= 1
        _settle(future, outcome)

    # -- in the writer's thread ---------------------------------------------------------------------------------

    def _work(self) -> None:
        while group := self._next_group():
            if isinstance(group, Loan):
                self._lend_out(group)
                continue
            if not all(job.brief for job in group):
                self._answer()
            try:
                outcomes = self._commit(group)
            except BaseException as error:  # a roll-back that fails, or a fault of this class: no caller waits for ever
                outcomes = [OutcomeUnknownError(f"{self._path}: {error}; repeat it with the same ids") for _ in group]
            self._seen_changes = self._connection.total_changes
            self._unanswered.append((group, outcomes))
            if self._cost * len(group) > self._options.lock_time / 2:
                self._answer()
                time.sleep(self._options.turn)
        self._answer()

    def _next_group(self) -> list[_Job] | Loan:
        """Wait for jobs and return them, at most about half of all that are under way; none at the end.

        The callers of one half go on, once they are answered, while the other half is being committed.
        """
        if self._loan is not None:
            loan, self._loan = self._loan, None
            return loan
        if self._queue.empty():
            self._answer()
        group: list[_Job] = []
        while (job := self._queue.get()) is not None:
            if isinstance(job, Loan):
                self._loan = job if group else None
                return group or job
            group.append(job)
            half = max((self._handed_over + 1) // 2, self._options.min_group)
            is_long = (len(group) + 1) * self._cost > self._options.lock_time
            if is_long or self._queue.empty() or len(group) >= min(half, self._options.max_group):
                return group
        self._queue.put(None)  # the end is to be found once more, behind this group
        return group

    def _lend_out(self, loan: Loan) -> None:
        self._answer()
        try:
            self._set_patience(True)
            self._file.check()
            if loan.begin:
                self._wait_since(loan.since)
                self._connection.execute("BEGIN IMMEDIATE")
        except (StorageError, *DRIVER_ERRORS) as error:
            self._call(self._end_loan, loan.lent, self._translated(error))
            return
        self._call(_settle, loan.lent, self._connection)
        outcome = self._take_in(loan.back.get())
        self._memory = LogMemory()  # what the task has done is not known
        self._seen_changes = self._connection.total_changes
        self._call(self._end_loan, loan.ended, outcome)

    def _take_in(self, ending: str) -> BaseException | None:
        """End the transaction of a loan, and return the error to raise from it."""
        try:
            if self._connection.in_transaction:
                self._connection.execute(ending)
        except DRIVER_ERRORS as error:
            self._roll_back()
            return commit_failed(error, self._path) if ending == "COMMIT" else translate(error, self._path)
        return self._file.after_commit() if ending == "COMMIT" else None

    def _answer(self) -> None:
        """Answer the callers of the groups that were committed."""
        unanswered, self._unanswered = self._unanswered, []  # first: the loop may go on before the call returns
        if unanswered:
            self._call(self._take_back, unanswered)

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)

    def _commit(self, group: list[_Job], *, careful: bool = False) -> list[Any]:
        """Return each job's result, or the error that it is to raise."""
        committing = False
        try:
            self._begin(group[0].since)
        except (StorageError, *DRIVER_ERRORS) as error:
            return [self._translated(error) for _ in group]
        began = time.perf_counter()
        try:
            results = self._run(group, careful=careful)
            self._cost = (time.perf_counter() - began) / len(group)
            self._answer()  # so that those who were answered go on while the disk is at work
            committing = True
            self._end()
        except BaseException as error:
            self._roll_back()
            if not careful:
                return [self._commit([job], careful=True)[0] for job in group]
            if committing and isinstance(error, DRIVER_ERRORS):
                return [commit_failed(error, self._path)]
            return [translate(error, self._path) if isinstance(error, sqlite3.Error | MemoryError) else error]
        return self._checked(results)

    def _begin(self, since: float) -> None:
        """Wait for the write lock in the thread; those who were answered do not wait for it.

        Args:
            since: when the first of the jobs came, which has waited from then on.
        """
        if self._file_in_doubt:
            self._file.check()
            self._file_in_doubt = False
        if self._unanswered:
            self._set_patience(False)
            try:
                self._connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                self._answer()
        self._wait_since(since)
        if not self._connection.in_transaction:
            self._connection.execute("BEGIN IMMEDIATE")

    # -- in either ----------------------------------------------------------------------------------------------

    def _run(self, group: list[_Job], *, careful: bool) -> list[Any]:
        transaction = Transaction(self._connection, careful=careful, memory=self._memory, options=self._options)
        results = [job.run(transaction) for job in group]
        if transaction.before_commit is not None:
            transaction.before_commit(transaction)
        transaction.flush()
        return results

    def _end(self) -> None:
        start = time.perf_counter()
        self._connection.execute("COMMIT")
        self._average += (time.perf_counter() - start - self._average) / 8

    def _checked(self, results: list[Any]) -> list[Any]:
        """Return the results of a commit, or errors if it may have gone to a file that has no name any more."""
        if (lost := self._file.after_commit()) is None:
            return results
        self._file_in_doubt = True
        self._memory = LogMemory()
        return [OutcomeUnknownError(str(lost)) for _ in results]

    def _roll_back(self) -> None:
        self._memory = LogMemory()
        if self._connection.in_transaction:  # some errors, such as a full disk, have rolled back by themselves
            self._connection.execute("ROLLBACK")

    def _set_patience(self, patient: bool) -> None:
        """Have the connection wait for locks and look after the write-ahead log, or do neither."""
        if patient != self._patient:
            pages = self._options.checkpoint_pages if patient else 0
            self._connection.execute(f"PRAGMA busy_timeout = {self._lock_timeout if patient else 0}")
            self._connection.execute(f"PRAGMA wal_autocheckpoint = {pages}")
            self._patient = patient

    def _wait_since(self, since: float) -> None:
        """Have the connection wait for locks as long as is left of the time-out."""
        self._set_patience(True)
        if (waited := time.monotonic() - since) > self._options.noticed_wait:
            self._patient = None  # to be set again for those who come later
            self._connection.execute(f"PRAGMA busy_timeout = {max(self._lock_timeout - round(waited * 1000), 1)}")

    def _translated(self, error: BaseException) -> BaseException:
        return error if isinstance(error, StorageError) else translate(error, self._path)


def _resolve(group: list[_Job], outcomes: list[Any]) -> None:
    for job, outcome in zip(group, outcomes, strict=True):
        _settle(job.future, outcome)


def _settle(future: asyncio.Future[Any], outcome: object) -> None:
    if future.done():  # its caller was cancelled
        return
    if isinstance(outcome, BaseException):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
