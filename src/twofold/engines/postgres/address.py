"""What a database URL says to Twofold, and what is left of it for the driver."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo

ALLOW_UNSAFE_SETTINGS = "allow_unsafe_settings"
_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"", "0", "false", "no", "off"}
_DEFAULTS = {
    "application_name": "twofold",
    "keepalives_idle": "10",  # behind the deadlines: the kernel notices that a host vanished in 25 s, not in 2 h
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "25000",
}
_EXAMPLE = "postgresql://user:password@host/database"


class Address(NamedTuple):
    """A parsed URL."""

    parameters: dict[str, Any]
    """libpq's connection parameters, the password among them."""
    allow_unsafe_settings: bool

    @property
    def name(self) -> str:
        """The database and its host, for texts: without the password."""
        host = self.parameters.get("host") or self.parameters.get("hostaddr") or "this machine"
        port = self.parameters.get("port")
        return f"{self.parameters.get('dbname', 'its default database')} on {host}{f':{port}' if port else ''}"

    @property
    def hosts(self) -> int:
        """How many hosts it names, of which the driver tries one after the other."""
        return str(self.parameters.get("host") or "").count(",") + 1


def parse(url: str) -> Address:
    """Split a URL into the driver's part and Twofold's, and add what the driver should do by default.

    Raises:
        ValueError: the URL is malformed, or has an option that neither libpq nor Twofold knows. The text names it, and
            never the password.
    """
    base, _, query = url.partition("?")
    _refuse_other_drivers(base)
    _refuse_plain_at(base)
    options = dict(parse_qsl(query, keep_blank_values=True))
    unsafe = _switch(ALLOW_UNSAFE_SETTINGS, options.pop(ALLOW_UNSAFE_SETTINGS, ""))
    known = {option.keyword.decode() for option in Conninfo.get_defaults()}
    if unknown := sorted(options.keys() - known):
        raise ValueError(
            f"unknown option {unknown[0]!r} in the PostgreSQL URL; there are libpq's own, such as sslmode, and "
            f"{ALLOW_UNSAFE_SETTINGS}; all else is set by `PostgresOptions`"
        )
    if options.get("client_encoding", "utf8").lower() not in ("utf8", "utf-8", "unicode"):
        raise ValueError(
            f"client_encoding={options['client_encoding']} in the PostgreSQL URL; Twofold speaks UTF8 only"
        )
    try:
        parsed = conninfo_to_dict(base.replace("+psycopg", "", 1))
    except psycopg.Error:
        raise ValueError(  # libpq's own text may show a part of the password
            f"the PostgreSQL URL is malformed; write {_EXAMPLE}, with each special character in user and password "
            f"percent-encoded, as %40 for @ and %25 for %"
        ) from None
    return Address(_DEFAULTS | parsed | options | {"client_encoding": "UTF8"}, unsafe)


def _refuse_other_drivers(base: str) -> None:
    scheme = urlsplit(base).scheme
    if "+" in scheme and not scheme.endswith("+psycopg"):
        raise ValueError(f"the URL asks for the driver of {scheme}://, but Twofold uses psycopg; write postgresql://")


def _refuse_plain_at(base: str) -> None:
    """Libpq takes the rest of the password for the host, and shows that in its errors."""
    if base.partition("://")[2].partition("/")[0].count("@") > 1:
        raise ValueError("the PostgreSQL URL has more than one @; write each @ in user and password as %40")


def _switch(name: str, value: str) -> bool:
    if value.lower() not in _TRUE | _FALSE:
        raise ValueError(f"{name}={value} in the PostgreSQL URL; write true or false")
    return value.lower() in _TRUE
