"""Declarations of `reads` that cannot work are refused when a projection is added, with the line to write."""

from __future__ import annotations

from typing import Any

from twofold.errors import InvalidProjectionError
from twofold.projections.fingerprint import name_of_copy
from twofold.projections.grouped import GroupedProjection
from twofold.projections.projection import Projection, check_projection_name

MOST = 40
"""Letters of the name of a table of rows, as of a projection's: engines add to it, and cut off what is too long."""


def check_reads(projection: Any) -> None:
    """Refuse `reads` of a projection that cannot read, or of what cannot be read.

    Raises:
        InvalidProjectionError: it cannot work.
    """
    reads = getattr(projection, "reads", ())
    if not reads:
        return
    name = projection.name
    if not isinstance(projection, Projection):
        raise InvalidProjectionError(
            f"{name}: only a Projection has `reads`; name what an SqlProjection or a Reaction must not overtake in "
            f"`follows`"
        )
    if not isinstance(reads, tuple):
        raise InvalidProjectionError(f"{name}: reads is {reads!r}; write a tuple of classes, reads = (Guests,)")
    _check_reader(projection)
    for cls in reads:
        _check_read(projection, cls)
    if len({cls.name for cls in reads}) < len(reads):
        raise InvalidProjectionError(f"{name}: reads names two projections of one name; leave one out")


def _check_reader(projection: Projection[Any]) -> None:
    name = projection.name
    if isinstance(projection, GroupedProjection):
        raise InvalidProjectionError(
            f"{name}: a GroupedProjection reads no others; keep what it needs in the rows of the group, or make it a "
            f"Projection"
        )
    _refuse_own_fold(name, type(projection))
    if projection.on_failure != "stop":
        raise InvalidProjectionError(
            f'{name} reads other projections, so that later events depend on one that fails; write on_failure = "stop"'
        )
    if projection.follows:
        raise InvalidProjectionError(f"{name}: what it reads it keeps itself; leave `follows` out")


def _check_read(projection: Projection[Any], cls: Any) -> None:
    name = projection.name
    if not isinstance(cls, type) or not issubclass(cls, Projection) or issubclass(cls, GroupedProjection):
        raise InvalidProjectionError(
            f"{name}: reads names {cls!r}, which is no class of a Projection with one row for each key; write "
            f"reads = (Guests,)"
        )
    if cls.reads or isinstance(projection, cls):
        raise InvalidProjectionError(
            f"{name}: reads names {cls.__name__}, which reads others itself, or is the same; name what holds the rows"
        )
    _refuse_own_fold(name, cls)
    try:
        read = cls()
    except TypeError as error:
        raise InvalidProjectionError(
            f"{name}: reads names {cls.__name__}, which cannot be made without arguments ({error}); give them defaults"
        ) from error
    check_projection_name(read)
    if len(copy := name_of_copy(name, read.name)) > MOST:
        raise InvalidProjectionError(
            f"{name}: the copy of {read.name} would have the name {copy}, of more than {MOST} letters; shorten one"
        )


def _refuse_own_fold(name: str, cls: type[Projection[Any]]) -> None:
    for method in ("apply", "handles"):
        if getattr(cls, method) is not getattr(Projection, method):
            raise InvalidProjectionError(
                f"{name}: {cls.__name__} has `{method}` of its own, so that it is not known what its rows depend on; "
                f"mark methods with @on instead"
            )
