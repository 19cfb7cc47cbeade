"""The command line never shows a password, whatever it is given and whatever goes wrong."""

from __future__ import annotations

import pytest
from tests.cli.typed import Twofold

URLS = [
    "postgresql://ann:tra%4Ala@127.0.0.1:1/shop",
    "postgresql://ann:tralala@127.0.0.1:1/shop",
    "postgresql://ann:tra@lala@127.0.0.1:1/shop",
    "postgresql://ann:tra/lala@127.0.0.1:1/shop",
    "postgresql://ann:tra?lala@127.0.0.1:1/shop",
    "postgresql://ann:tra%lala@127.0.0.1:1/shop",
    "postgresql://127.0.0.1:1/shop?user=ann&password=tralala",
    "postgresql://127.0.0.1:1/shop?user=ann&sslpassword=tralala&nonsense=1",
    "postgresql+asyncpg://ann:tralala@127.0.0.1:1/shop",
    "mysql://ann:tralala@127.0.0.1:1/shop",
    "host=127.0.0.1 port=1 password=tralala",
]
COMMANDS = [
    ["status", "{}"],
    ["migrate", "{}"],
    ["verify", "{}"],
    ["copy", "{}", "sqlite:///target.db"],
    ["copy", "sqlite:///none.db", "{}"],
    ["projections", "{}"],
    ["projections", "sqlite:///none.db", "--log", "{}"],
    ["projections", "pause", "{}", "orders"],
    ["projections", "parked", "{}", "orders"],
    ["rebuild", "tests.cli.test_passwords:nothing", "orders", "--url", "{}"],
    ["status", "{}", "--nonsense"],
]


def nothing(url: str) -> str:
    return url


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_output_shows_a_password(
    twofold: Twofold, command: list[str], url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.chdir(str(tmp_path))
    done = twofold(*(each.format(url) for each in command))
    assert done.returncode, done
    assert not any(piece in done.stdout + done.stderr for piece in ("tra", "lala")), done
