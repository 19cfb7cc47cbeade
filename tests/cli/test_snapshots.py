"""`twofold snapshots`, as an operator types it."""

from __future__ import annotations

import asyncio

import pytest
from tests.accounts import Account, Deposited, Opened, wire
from tests.cli.typed import Fails, Twofold

from twofold import ANY, Application, LogOptions, Options, open_event_store

MUCH = Options(log=LogOptions(short_stream=10, first_chunk=5, snapshot_every=5))


def build(url: str) -> Application:
    app = Application(url, options=MUCH)
    wire(app)
    return app


async def load(url: str, *accounts: str) -> None:
    """Let accounts have long streams, and load each, so that its state is stored."""
    app = build(url)
    repository = app.repository(Account)
    async with app:
        for account in accounts:
            events = [Opened(account=account), *(Deposited(account=account, amount=1) for _ in range(20))]  # type: ignore[arg-type]
            await app.store.append_events(f"Account-{account}", "Account", events, expected_version=ANY)
            await repository.load(account)


async def damage(url: str) -> None:
    async with open_event_store(url) as store:
        [snapshot] = await store.log.read_snapshots(limit=1)  # type: ignore[attr-defined]
        wrong = snapshot._replace(state=snapshot.state.replace(b"20", b"21"))
        await store.log.save_snapshot(wrong, instead_of=snapshot.checksum)  # type: ignore[attr-defined]


@pytest.fixture
def loaded(url: str) -> str:
    asyncio.run(load(url, "a", "b"))
    return url


def test_snapshots_are_listed_verified_and_deleted(loaded: str, twofold: Twofold) -> None:
    def told(*arguments: str) -> str:
        done = twofold(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    listed = told("snapshots", "list", loaded)
    assert "aggregate Account" in listed
    assert "Account-a" in listed
    assert "Account-b" in listed
    assert "42" in listed
    assert "42 events are intact, and 2 snapshots" in told("verify", loaded)
    verified = told("snapshots", "verify", "tests.cli.test_snapshots:build", "--url", loaded)
    assert "all 2 snapshots are intact; 2 are what their events fold to" in verified
    assert "deleted 1 snapshots" in told("snapshots", "delete", loaded, "--of", "Account-a")
    assert "Account-a" not in told("snapshots", "list", loaded)
    assert "deleted 0 snapshots" in told("snapshots", "delete", loaded, "--fold", "aggregate Other")
    assert "deleted 1 snapshots" in told("snapshots", "delete", loaded)


def test_a_damaged_snapshot_is_named_with_the_remedy(loaded: str, fails: Fails) -> None:
    asyncio.run(damage(loaded))
    for command in (("verify", loaded), ("snapshots", "verify", "tests.cli.test_snapshots:build", "--url", loaded)):
        text = fails(*command)
        assert "the snapshot of aggregate Account of 'Account-a' does not match its checksum" in text
        assert "twofold snapshots delete" in text
