"""A module by whose name another one finds a class."""

from __future__ import annotations

from dataclasses import dataclass

from twofold import Event


@dataclass(frozen=True, kw_only=True)
class Elsewhere(Event):
    thing: str
