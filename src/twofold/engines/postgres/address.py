"""What a database URL says to Twofold, and what is left of it for the driver."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import parse_qsl, quote, urlencode

ALLOW_UNSAFE_SETTINGS = "allow_unsafe_settings"
_TRUE = {"1", "true", "yes", "on"}
_DEFAULTS = {
    "application_name": "twofold",
    "connect_timeout": "10",
    "keepalives_idle": "10",  # a host that vanishes is noticed in half a minute, not in two hours
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "25000",
}


class Address(NamedTuple):
    """A parsed URL."""

    url: str
    allow_unsafe_settings: bool


def parse(url: str) -> Address:
    """Split a URL into the driver's part and ours, and add what the driver should do by default."""
    base, _, query = url.partition("?")
    parameters = dict(parse_qsl(query, keep_blank_values=True))
    unsafe = parameters.pop(ALLOW_UNSAFE_SETTINGS, "").lower() in _TRUE
    return Address(f"{base}?{urlencode(_DEFAULTS | parameters, quote_via=quote, safe='/:,')}", unsafe)
