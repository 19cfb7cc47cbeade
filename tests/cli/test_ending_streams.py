"""`twofold stream close | tombstone` and `twofold retention plan | apply`, as an operator types them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from tests.accounts import Account, wire
from tests.cli.typed import Fails, Twofold

from twofold import Application, open_event_store
from twofold.testing.samples import append_of, new_event

RULES = """
[[rule]]
name = "idle"
action = "close"
stream_type = "Account"
older_than = "0s"

[[rule]]
name = "old"
action = "tombstone"
stream_type = "Account"
older_than = "0s"
"""


async def write(url: str, *names: str) -> None:
    async with Application(url, synchronize=False) as app:
        wire(app)
        for name in names:
            await app.repository(Account).save(Account.open(name))


def test_a_stream_is_closed_and_then_removed(url: str, twofold: Twofold, fails: Fails) -> None:
    asyncio.run(write(url, "a"))
    why = ("--reason", "moved away", "--by", "ann")
    assert "is closed, at version 2" in twofold("stream", "close", url, "Account-a", *why).stdout
    assert "is closed, at version 2" in twofold("stream", "close", url, "Account-a", *why).stdout
    assert "there is no stream 'Account-b'" in fails("stream", "close", url, "Account-b", *why)
    refused = fails("stream", "tombstone", url, "Account-a", *why)
    assert "this removes all events of the stream 'Account-a', which cannot be undone" in refused
    done = json.loads(twofold("stream", "tombstone", url, "Account-a", *why, "--yes", "--json").stdout)
    assert done == {"stream": "Account-a", "removed": 2}
    shown = twofold("stream", "show", url, "Account-a").stdout
    assert "twofold.EventRemoved" in shown
    assert "moved away" in shown
    assert "all 3 events are intact" in twofold("verify", url).stdout


@pytest.mark.parametrize("stream", ["twofold.sale-1", "acme/twofold.sale-1"])
def test_a_stream_of_a_process_is_refused_of_a_tenant_too(url: str, fails: Fails, stream: str) -> None:
    async def write_step() -> None:
        async with open_event_store(url) as store:
            await store.log.append(append_of(new_event()._replace(stream_id=stream, stream_type="twofold.sale")))

    asyncio.run(write_step())
    why = ("--reason", "moved away", "--by", "ann")
    for action in (("close",), ("tombstone", "--yes")):
        refused = fails("stream", action[0], url, stream, *why, *action[1:])
        assert f"'{stream}' is a stream of Twofold's own, which ends by itself" in refused


def test_a_plan_is_shown_and_then_applied(url: str, twofold: Twofold, fails: Fails, tmp_path: Path) -> None:
    asyncio.run(write(url, "a", "b"))
    (rules := tmp_path / "retention.toml").write_text(RULES)
    lines = twofold("retention", "plan", url, "--rules", str(rules), "--json").stdout.splitlines()
    idle, old = map(json.loads, lines)
    assert (idle["rule"], idle["streams"], idle["events"], idle["example"], idle["held"]) == (
        "idle", 2, 2, "Account-a", {}
    )  # fmt: skip
    assert (old["streams"], old["oldest"]) == (0, None)
    assert "idle" in twofold("retention", "plan", url, "--rules", str(rules)).stdout
    apply = ("retention", "apply", url, "--rules", str(rules), "--by", "ann")
    assert "this ends the streams that `twofold retention plan" in fails(*apply)
    assert "idle: 2 streams ended, 0 events removed" in twofold(*apply, "--yes").stdout
    told = [json.loads(line) for line in twofold(*apply, "--yes", "--json").stdout.splitlines()]
    assert told == [{"rule": "idle", "streams": 0, "removed": 0}, {"rule": "old", "streams": 2, "removed": 4}]
    assert "old: 0 streams ended" in twofold(*apply, "--yes").stdout
    rules.write_text(RULES.replace("close", "burn"))
    assert f"{rules}: rule 1: action='burn' is none" in fails("retention", "plan", url, "--rules", str(rules))


def test_closed_streams_are_archived_and_a_missing_file_is_told(
    url: str, twofold: Twofold, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.run(write(url, "a", "b"))
    monkeypatch.setenv("TWOFOLD_ARCHIVE", str(tmp_path / "archive"))
    (rules := tmp_path / "retention.toml").write_text(RULES.replace("tombstone", "archive"))
    apply = ("retention", "apply", url, "--rules", str(rules), "--by", "ann", "--yes")
    assert "idle: 2 streams ended" in twofold(*apply).stdout
    assert "old: 2 streams archived, 2 payloads moved" in twofold(*apply).stdout
    assert "all 4 events are intact" in twofold("verify", url).stdout
    assert "Opened" in twofold("stream", "show", url, "Account-a").stdout
    (tmp_path / "archive" / "payloads-000001.parquet").unlink()
    assert "payloads-000001.parquet is missing" in twofold("verify", url).stderr
    doctor = twofold("doctor", url)
    assert "TF212" in doctor.stdout + doctor.stderr
