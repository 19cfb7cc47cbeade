"""What the library and the application log, on standard error: as text, or as JSON with one object on each line."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import msgspec


def log_to_stderr(*, as_json: bool) -> None:
    """Let warnings and worse go to standard error, unless the application's module sets up logging itself."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if as_json else logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


class JsonLines(logging.Formatter):
    """Makes a record one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as an object in one line."""
        facts = {
            "at": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            facts["error"] = self.formatException(record.exc_info)
        return msgspec.json.encode(facts).decode()
