"""The synchronous face: the same application from threads that have no event loop."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import pytest
from tests.accounts import Balance, Balances, Deposit, Deposited, Open, Opened, wire
from tests.synchronizing import PATIENCE, deposited, opened
from tests.unit.ports.test_owner import in_a_child

from twofold import Application, EventQuery, ReadModel, metadata, session
from twofold.errors import AggregateNotFoundError, OwnershipError, StorageError
from twofold.sync import SyncApplication


class Bank(Application):
    """An application with a read model of its own."""

    balances: ReadModel[Balance]


def make(url: str) -> Bank:
    bank = Bank(url)
    wire(bank)
    bank.balances = bank.projections.add(Balances())
    return bank


@pytest.fixture
def bank(url: str) -> Iterator[SyncApplication[Bank]]:
    with SyncApplication(lambda: make(url)) as bank:
        yield bank


def test_commands_queries_and_reads_are_called_as_they_are(bank: SyncApplication[Bank]) -> None:
    bank.call(bank.app.commands.dispatch, Open(account="a"))
    receipt = bank.call(bank.app.commands.execute, Deposit(account="a", amount=Decimal(5)))
    bank.call(bank.app.projections.wait, receipt, timeout=PATIENCE)
    assert bank.call(bank.app.balances.get, "a") == Balance("a", "ann", Decimal(5), 1)
    events = [recorded.event for recorded in bank.iterate(bank.app.store.read(EventQuery.all()))]
    assert events == [Opened(account="a"), Deposited(account="a", amount=Decimal(5))]


def test_an_error_of_the_application_is_raised_where_it_was_called(bank: SyncApplication[Bank]) -> None:
    with pytest.raises(AggregateNotFoundError):
        bank.call(bank.app.commands.dispatch, Deposit(account="missing"))


def test_an_iteration_that_is_given_up_ends_in_the_loop(bank: SyncApplication[Bank]) -> None:
    bank.call(bank.app.store.append, [opened("a"), *(deposited("a") for _ in range(10))])
    for recorded in bank.iterate(bank.app.store.read(EventQuery.all())):
        assert recorded.position == 1
        break
    bank.call(bank.app.store.append, [deposited("a")])


def test_what_the_caller_has_set_is_carried_into_the_loop(bank: SyncApplication[Bank]) -> None:
    with metadata(user="ann", tenant="t1"), session() as client:
        bank.call(bank.app.commands.dispatch, Open(account="a"))
        assert client.receipt is not None
        assert bank.call(bank.app.balances.get, "a") is not None, "the session waits for what it has written"
    [recorded] = bank.iterate(bank.app.store.read(EventQuery.all()))
    assert (recorded.metadata.user, recorded.metadata.tenant) == ("ann", "t1")


def test_any_number_of_threads_may_call_at_once(bank: SyncApplication[Bank]) -> None:
    bank.call(bank.app.commands.dispatch, Open(account="a"))
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda _: bank.call(bank.app.commands.dispatch, Deposit(account="a")), range(100)))
    assert sum(1 for _ in bank.iterate(bank.app.store.read(EventQuery.of(Deposited)))) == 100


def test_threads_that_come_first_at_once_start_one_application(url: str) -> None:
    made = []

    def counted() -> Bank:
        made.append(threading.current_thread().name)
        return make(url)

    bank = SyncApplication(counted)
    with ThreadPoolExecutor(8) as threads:
        applications = set(threads.map(lambda _: bank.app, range(8)))
    bank.close()
    assert len(applications) == 1
    assert made == ["twofold-sync"]


def test_it_is_refused_where_an_event_loop_runs(bank: SyncApplication[Bank]) -> None:
    head = bank.app.store.head

    async def use() -> None:
        for refused in (lambda: bank.app, lambda: bank.call(head), bank.close, bank.__enter__):
            with pytest.raises(OwnershipError, match="await the application's own methods here"):
                refused()
        assert await asyncio.to_thread(bank.call, head) == 0

    for _ in range(2):  # any number of event loops of the caller's own may come and go
        asyncio.run(use())


def test_a_handler_that_calls_the_face_is_told_so(bank: SyncApplication[Bank]) -> None:
    async def within() -> None:
        bank.call(bank.app.store.head)

    with pytest.raises(OwnershipError, match="await the application's own methods here"):
        bank.call(within)


def test_it_may_be_closed_and_used_again(bank: SyncApplication[Bank]) -> None:
    bank.call(bank.app.commands.dispatch, Open(account="a"))
    for _ in range(2):
        bank.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "twofold-sync"]
    assert bank.call(bank.app.store.head) == 1


def test_a_start_that_fails_leaves_nothing_behind_and_is_tried_again(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    bank = SyncApplication(lambda: make(f"sqlite:///{folder}"))
    for _ in range(2):
        with pytest.raises(StorageError):
            _ = bank.app
    assert not [thread for thread in threading.enumerate() if thread.name == "twofold-sync"]
    folder.rmdir()
    with bank:
        assert bank.call(bank.app.store.head) == 0


@pytest.mark.parametrize("url", ["postgres"], indirect=True)  # a child may not open a SQLite file of its parent
def test_each_child_that_is_forked_off_starts_its_own(url: str) -> None:
    with SyncApplication(lambda: make(url)) as bank:
        bank.call(bank.app.commands.dispatch, Open(account="a"))

        def in_the_child() -> str:
            bank.call(bank.app.commands.dispatch, Deposit(account="a"))
            head = bank.call(bank.app.store.head)
            bank.close()
            return f"{head}"

        assert in_a_child(in_the_child) == "2"
        bank.call(bank.app.commands.dispatch, Deposit(account="a"))
        assert bank.call(bank.app.store.head) == 3


def test_children_may_be_forked_off_before_the_first_call(url: str) -> None:
    bank = SyncApplication(lambda: make(url))

    def in_a_child_that_opens() -> str:
        receipt = bank.call(bank.app.commands.execute, Open(account=f"a{os.getpid()}"))
        bank.close()
        return f"{int(receipt.position)}"

    assert [in_a_child(in_a_child_that_opens) for _ in range(3)] == ["1", "2", "3"]
    with bank:
        assert bank.call(bank.app.store.head) == 3


SCRIPT = """
import sys
from tests.sync.test_sync import make
from tests.accounts import Open
from twofold.sync import SyncApplication

bank = SyncApplication(lambda: make(sys.argv[1]))
bank.call(bank.app.commands.dispatch, Open(account="a"))
print(bank.call(bank.app.store.head), flush=True)
if "wait" in sys.argv:
    async def for_ever():
        import asyncio
        await asyncio.Event().wait()
    bank.call(for_ever)
"""


def test_a_script_that_ends_without_closing_ends_at_once_and_in_silence(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, f"sqlite:///{tmp_path}/bank.db"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


def test_ctrl_c_ends_the_waiting(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, f"sqlite:///{tmp_path}/bank.db", "wait"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as script:
        assert script.stdout
        assert script.stdout.readline() == "1\n"
        script.send_signal(signal.SIGINT)
        _, told = script.communicate(timeout=PATIENCE)
    assert script.returncode == -signal.SIGINT
    assert told.rstrip().endswith("KeyboardInterrupt")
