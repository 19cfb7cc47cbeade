"""The connection of a SQLite file that writes: what waits at one moment shares one commit."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

from twofold.engines.sqlite.errors import commit_failed, translate
from twofold.engines.sqlite.transaction import Seen, Transaction
from twofold.errors import OutcomeUnknownError

T = TypeVar("T")

MIN_GROUP, MAX_GROUP = 16, 1000
"""A group is not split below the one, and never grows beyond the other."""
MAX_HERE = 8
"""The loop commits at most so many jobs by itself: from then on it gains by going on while the thread commits."""
FAST = 0.0005
"""Seconds of a commit, on average, up to which the loop may commit by itself: not much more than two thread hops."""
CHECKPOINT_PAGES = 4000
"""From so many pages on in the write-ahead log, the thread moves them into the file behind a commit."""
CHECKPOINT_CHANGES = 250
"""After so many changed rows the loop leaves a commit to the thread, which looks whether a checkpoint is due."""


class _Job(NamedTuple):
    run: Callable[[Transaction], Any]
    brief: bool
    future: asyncio.Future[Any]


class Loan(NamedTuple):
    """The connection is lent to a task, and the thread waits until it has it back."""

    begin: bool
    """Whether a transaction is open then."""
    lent: asyncio.Future[sqlite3.Connection]
    back: SimpleQueue[str]
    """Takes the statement that ends the transaction."""
    ended: asyncio.Future[None]


class Writer:
    """Commits jobs in groups, in the order in which they came.

    A thread holds the connection while it has jobs to do, and the event loop otherwise. While the disk is fast, the
    loop commits brief jobs by itself, since handing them over and back takes as long as the commit. It never waits: if
    another process has the lock, if anything fails, or if a checkpoint may be due, the thread does it all again.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path, lock_timeout: float) -> None:
        self._connection = connection
        self._path = path
        self._lock_timeout = round(lock_timeout * 1000)
        self._loop = asyncio.get_running_loop()
        self._waiting: list[_Job] = []
        self._handed_over = 0
        self._queue: SimpleQueue[_Job | Loan | None] = SimpleQueue()
        self._loan: Loan | None = None
        self._average = 2 * FAST
        self._untold: list[tuple[list[_Job], list[Any]]] = []
        self._seen_changes = 0
        self._patient: bool | None = None
        self._seen = Seen()
        self._thread = threading.Thread(target=self._work, name="twofold-sqlite-writer", daemon=True)
        self._thread.start()

    def submit(self, run: Callable[[Transaction], T], *, brief: bool) -> asyncio.Future[T]:
        """Accept a job for the commit at the end of this turn of the loop; its result comes once that is durable."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._waiting.append(_Job(run, brief, future))
        if len(self._waiting) == 1:
            self._loop.call_soon(self._commit_waiting)
        return future

    def lend(self, *, begin: bool) -> Loan:
        """Lend the connection once all that was accepted before is done; until it is back, nothing is committed."""
        self._hand_over()
        self._handed_over += 1
        loan = Loan(begin, self._loop.create_future(), SimpleQueue(), self._loop.create_future())
        self._queue.put(loan)
        return loan

    async def close(self) -> None:
        """Finish the accepted jobs and close the connection."""
        self._hand_over()
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        self._connection.close()

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
            and self._average < FAST
            and self._connection.total_changes - self._seen_changes < CHECKPOINT_CHANGES
            and len(self._waiting) <= MAX_HERE
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
        _resolve(group, results)
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

    def _work(self) -> None:
        while group := self._next_group():
            if isinstance(group, Loan):
                self._lend_out(group)
                continue
            if not all(job.brief for job in group):
                self._tell()
            try:
                outcomes = self._commit(group)
            except BaseException as error:  # a roll-back that fails; whatever it is, nobody may wait for ever
                outcomes = [OutcomeUnknownError(f"{self._path}: {error}; repeat it with the same ids") for _ in group]
            self._seen_changes = self._connection.total_changes
            self._untold.append((group, outcomes))
        self._tell()

    def _next_group(self) -> list[_Job] | Loan:
        """Wait for jobs and return them, at most about half of all that are under way; none at the end.

        Then one half goes on, when it is told, while the other half is being committed.
        """
        if self._loan is not None:
            loan, self._loan = self._loan, None
            return loan
        if self._queue.empty():
            self._tell()
        group: list[_Job] = []
        while (job := self._queue.get()) is not None:
            if isinstance(job, Loan):
                self._loan = job if group else None
                return group or job
            group.append(job)
            half = (self._handed_over + 1) // 2
            if self._queue.empty() or len(group) >= min(max(half, MIN_GROUP), MAX_GROUP):
                return group
        self._queue.put(None)  # the end is to be found once more, behind this group
        return group

    def _lend_out(self, loan: Loan) -> None:
        self._tell()
        try:
            self._set_patience(True)
            if loan.begin:
                self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            self._loop.call_soon_threadsafe(self._end_loan, loan.lent, translate(error, self._path))
            return
        self._loop.call_soon_threadsafe(_settle, loan.lent, self._connection)
        ending, outcome = loan.back.get(), None
        try:
            if self._connection.in_transaction:
                self._connection.execute(ending)
        except sqlite3.Error as error:
            outcome = (commit_failed if ending == "COMMIT" else translate)(error, self._path)
            self._roll_back()
        self._seen_changes = self._connection.total_changes
        self._loop.call_soon_threadsafe(self._end_loan, loan.ended, outcome)

    def _end_loan(self, future: asyncio.Future[Any], outcome: object) -> None:
        self._handed_over -= 1
        _settle(future, outcome)

    def _tell(self) -> None:
        """Answer the groups that were committed."""
        untold, self._untold = self._untold, []  # first: the loop may go on before the call returns
        if untold and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._take_back, untold)

    def _commit(self, group: list[_Job], *, careful: bool = False) -> list[Any]:
        """Return each job's result, or the error that it is to raise."""
        committing = False
        try:
            self._begin()
        except sqlite3.Error as error:
            return [translate(error, self._path) for _ in group]
        try:
            results = self._run(group, careful=careful)
            self._tell()  # so that those who were answered go on while the disk is at work
            committing = True
            self._end()
        except BaseException as error:
            self._roll_back()
            if not careful:
                return [self._commit([job], careful=True)[0] for job in group]
            if not isinstance(error, sqlite3.Error | MemoryError):
                return [error]
            return [(commit_failed if committing else translate)(error, self._path)]
        return results

    def _run(self, group: list[_Job], *, careful: bool) -> list[Any]:
        transaction = Transaction(self._connection, careful=careful, seen=self._seen)
        results = [job.run(transaction) for job in group]
        if transaction.before_commit is not None:
            transaction.before_commit(transaction)
        transaction.flush()
        self._seen.keep(transaction.head)
        return results

    def _begin(self) -> None:
        """Wait for the write lock in the thread; those who were answered do not wait for it."""
        if self._untold:
            self._set_patience(False)
            try:
                self._connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                self._tell()
        self._set_patience(True)
        if not self._connection.in_transaction:
            self._connection.execute("BEGIN IMMEDIATE")

    def _end(self) -> None:
        start = time.perf_counter()
        self._connection.execute("COMMIT")
        self._average += (time.perf_counter() - start - self._average) / 8

    def _roll_back(self) -> None:
        self._seen = Seen()
        if self._connection.in_transaction:  # some errors, such as a full disk, have rolled back by themselves
            self._connection.execute("ROLLBACK")

    def _set_patience(self, patient: bool) -> None:
        """Have the connection wait for locks and look after the write-ahead log, or do neither."""
        if patient != self._patient:
            self._connection.execute(f"PRAGMA busy_timeout = {self._lock_timeout if patient else 0}")
            self._connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES if patient else 0}")
            self._patient = patient


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
