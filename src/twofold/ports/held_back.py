"""Tenants that are held back in a segment of a read model, so that one tenant's backlog does not starve the others.

1. A segment that holds no tenant back has one position, up to which it is complete for all.
2. While it holds tenants back, it is complete up to `ahead` for all other tenants, and for each of these up to a
   position of its own. The checkpoint is the lowest of those positions: up to there it is complete for all, as ever.
3. When a tenant has come to where the others are, it is held back no more. Without any, 1 holds again.

The events of a tenant are folded in their order in both cases, and the rows of two tenants have nothing in common.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Self

import msgspec

from twofold.messages.mark import Mark

OTHERS = "*"
"""Stands for the tenants that no segment holds back; no tenant has this name."""


class _Text(msgspec.Struct):
    ahead: tuple[int, str]
    tenants: dict[str, tuple[int, str]]


class HeldBack(NamedTuple):
    """Where a segment stands that holds tenants back."""

    ahead: Mark
    """It is complete up to here for all but these tenants."""
    tenants: Mapping[str, Mark]
    """It is complete up to here for each of these."""

    @classmethod
    def stored(cls, text: str) -> Self | None:
        """Return what a checkpoint stores; None if it holds no tenant back."""
        if not text:
            return None
        found = msgspec.json.decode(text, type=_Text)
        return cls(Mark.stored(*found.ahead), {name: Mark.stored(*mark) for name, mark in found.tenants.items()})

    @property
    def text(self) -> str:
        """What a checkpoint stores; empty if no tenant is held back. stored: version with care."""
        if not self.tenants:
            return ""
        tenants = {name: (mark.position, mark.text) for name, mark in sorted(self.tenants.items())}
        return msgspec.json.encode(_Text((self.ahead.position, self.ahead.text), tenants)).decode()

    @property
    def mark(self) -> Mark:
        """Up to here the segment is complete for all tenants."""
        return min(self.tenants.values(), key=lambda mark: mark.position, default=self.ahead)

    def of(self, tenant: str) -> Mark:
        """Return up to where the segment is complete for one tenant; without a name, for those not held back."""
        return self.tenants.get(tenant, self.ahead)

    def hold(self, tenants: Iterable[str]) -> HeldBack:
        """Return where it stands once it holds back some more tenants, from where it is now."""
        return self._replace(tenants={**dict.fromkeys(tenants, self.ahead), **self.tenants})

    def up_to(self, end: Mark) -> HeldBack:
        """Return where it stands in a log that ends at a mark."""
        if end.position >= self.ahead.position:
            return self
        behind = {name: each for name, each in self.tenants.items() if each.position < end.position}
        return HeldBack(end, behind)

    def moved(self, tenant: str, mark: Mark) -> HeldBack:
        """Return where it stands once one tenant has come to a mark; without a name, those not held back."""
        if not tenant:
            return self._replace(ahead=mark)
        others = {name: each for name, each in self.tenants.items() if name != tenant}
        return self._replace(tenants=others if mark.position >= self.ahead.position else {**others, tenant: mark})


def reached(held_back: str, tenant: str) -> int:
    """Return up to which position a segment is complete for a tenant, by what its checkpoint stores of those held back.

    Without a name, for those that are not held back.
    """
    found = HeldBack.stored(held_back)
    return found.of(tenant).position if found else 0
