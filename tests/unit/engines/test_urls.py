"""No text shows the password of a database URL."""

from __future__ import annotations

import pytest

from twofold.engines.urls import without_secrets


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ann:hunter2@db.example/shop", "postgresql://ann:***@db.example/shop"),
        ("postgresql+asyncpg://ann:hunter2@db.example/shop", "postgresql+asyncpg://ann:***@db.example/shop"),
        ("postgresql://ann:hun@ter2@db.example/shop", "postgresql://ann:***@db.example/shop"),
        ("postgresql://ann:hun/ter2@db.example/shop", "postgresql://ann:***@db.example/shop"),
        ("postgresql://ann:hun?ter2@db.example/shop", "postgresql://ann:***@db.example/shop"),
        ("postgresql://ann:hun:ter2@db.example:5433/shop", "postgresql://ann:***@db.example:5433/shop"),
        ("postgresql:///shop?host=db&password=hunter2", "postgresql:///shop?host=db&password=***"),
        ("postgresql://db:5432/shop?password=hun@ter2&user=ann", "postgresql://db:5432/shop?password=***&user=ann"),
        ("postgresql:///shop?sslpassword=hunter2", "postgresql:///shop?sslpassword=***"),
        ("postgresql:///shop?PASSWORD=hunter2", "postgresql:///shop?PASSWORD=***"),
        ("host=db password=hunter2 user=ann", "host=db password=*** user=ann"),
        ("host=db password = 'hun ter2' user=ann", "host=db password = *** user=ann"),
        ("ann:hunter2@db.example", "ann:***@db.example"),
        ("postgresql://ann@db.example/shop", "postgresql://ann@db.example/shop"),
        ("sqlite:////srv/a@b:c.db", "sqlite:////srv/a@b:c.db"),
        ("sqlite:///orders.db", "sqlite:///orders.db"),
        ("", ""),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert without_secrets(url) == shown
