"""What a database URL says of a SQLite file."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl, unquote

_BEGINNING = "sqlite:///"
_EXAMPLE = "sqlite:///orders.db, or with four slashes an absolute path"


def parse(url: str) -> Path:
    """Return the file that a URL names. With three slashes its path is relative, with four absolute.

    A `#` is part of the path; a `?` begins options, so that one in the name of a file is written `%3F`.

    Raises:
        ValueError: the URL names no file, or has an option, of which there are none.
    """
    if url.partition(":")[0].lower() != "sqlite":
        raise ValueError(f"{url!r} names another driver; Twofold brings its own: {_EXAMPLE}")
    path, _, query = url.partition("?")
    name = unquote(path.removeprefix(_BEGINNING)) if path.startswith(_BEGINNING) else ""
    if not name or name == ":memory:" or "\0" in name:
        raise ValueError(f"{url!r} names no file: write {_EXAMPLE}. Tests that need no file write memory://")
    if options := [option for option, _ in parse_qsl(query, keep_blank_values=True)] or ["?"] * ("?" in url):
        raise ValueError(
            f"unknown option {options[0]!r} in {url!r}: a SQLite URL has none; write a ? in a file's name as %3F"
        )
    return Path(name)
