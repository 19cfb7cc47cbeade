"""The command `twofold`; its parts come with an extra."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line, or say what it lacks; return the exit code."""
    try:
        from twofold.cli import run
    except ModuleNotFoundError as error:
        if error.name not in ("cyclopts", "rich"):
            raise
        print("twofold: the command line needs its extra: pip install 'twofold[cli]'", file=sys.stderr)  # noqa: T201
        return 1
    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
