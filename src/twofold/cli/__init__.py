"""The command line for operators."""

from twofold.cli.commands import run

__all__ = ["run"]
