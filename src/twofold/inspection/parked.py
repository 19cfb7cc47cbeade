"""Parked events by what they failed on: one fault of the code often parks thousands."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from twofold.arguments import check_iterable
from twofold.synchronizer.parking import ParkedEvent
from twofold.synchronizer.status import ProjectionStatus
from twofold.synchronizer.synchronizer import ReadModelSynchronizer

_FRAME = re.compile(r'^  File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>.+)$', re.MULTILINE)
_NOT_OWN = re.compile(r"[\\/](site-packages|dist-packages|src[\\/]twofold|lib[\\/]python\d\.\d+)[\\/]|^<")


@dataclass(frozen=True, kw_only=True)
class ParkedGroup:
    """Events of a projection that failed in the same place with the same kind of error."""

    error: str
    """The class of the error; empty for what waits behind rows whose own failures lie beyond what was read."""
    place: str
    """The innermost place in the application's own code, such as `views.py:31 in created`."""
    example: ParkedEvent
    """The first of them."""
    failed: int
    """Events that raised it."""
    waiting: int
    """Later events of their rows, which wait behind them."""
    first: int
    """Position of the first that failed."""
    last: int
    """Position of the last that failed."""
    since: datetime
    """When the first was parked."""


def parked_groups(parked: Iterable[ParkedEvent]) -> Sequence[ParkedGroup]:
    """Return parked events in groups by their cause, the largest group first.

    Args:
        parked: as `control(...).parked()` returns them, in order.
    """
    check_iterable("parked", parked)
    causes: dict[str, tuple[str, str]] = {}
    failed: dict[tuple[str, str], list[ParkedEvent]] = {}
    waiting: dict[tuple[str, str], list[ParkedEvent]] = {}
    for each in parked:
        if each.cause:
            cause = causes[each.key] = (each.cause.partition(":")[0], own_frame(each.traceback))
            failed.setdefault(cause, []).append(each)
        else:
            waiting.setdefault(causes.get(each.key, ("", "")), []).append(each)
    groups = [_group(cause, failed.get(cause, ()), waiting.get(cause, ())) for cause in {**failed, **waiting}]
    return sorted(groups, key=lambda group: (-group.failed - group.waiting, group.first))


async def parked_by_cause(
    projections: ReadModelSynchronizer, found: Iterable[ProjectionStatus]
) -> Sequence[tuple[str, ParkedGroup]]:
    """Return what is parked of the projections that this process has the code of, by cause, the most first.

    Args:
        projections: with the code.
        found: where they stand.

    Raises:
        TenantMissingError: there are tenants, and this code does not run on behalf of all.
        StorageError: a database failed.
    """
    names = {runner.name for runner in projections.runners}
    groups = []
    for each in found:
        if each.parked and each.name in names:
            groups += [(each.name, group) for group in parked_groups(await projections.control(each.name).parked())]
    return sorted(groups, key=lambda pair: -pair[1].failed - pair[1].waiting)


def own_frame(traceback: str) -> str:
    """Return the innermost place of a traceback that is neither a library's nor Twofold's; else the innermost."""
    frames = list(_FRAME.finditer(traceback))
    own = [each for each in frames if not _NOT_OWN.search(each["file"])] or frames
    if not own:
        return ""
    file = re.split(r"[\\/]", own[-1]["file"])[-1]
    return f"{file}:{own[-1]['line']} in {own[-1]['function']}"


def _group(cause: tuple[str, str], failed: Sequence[ParkedEvent], waiting: Sequence[ParkedEvent]) -> ParkedGroup:
    shown = failed or waiting
    return ParkedGroup(
        error=cause[0], place=cause[1], example=shown[0], failed=len(failed), waiting=len(waiting),
        first=shown[0].position, last=shown[-1].position, since=min(each.parked_at for each in shown),
    )  # fmt: skip
