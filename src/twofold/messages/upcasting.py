"""Upcasters: the steps from what earlier code has stored to what today's code reads.

A step leads from the payload of one schema version to that of the next. It may lead to several events, also of other
types, or to none. All steps are one pipeline: what a step makes goes on from the version that it names, until it is of
today's version of a class that exists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from twofold.arguments import check_text, check_texts, check_whole, shown


class Into(NamedTuple):
    """What a step makes of a payload: an event of another type."""

    cls: type
    """Its class, which names the type that it is made of: `@event_type(made_of=(OrderMoved,))`."""
    payload: dict[str, Any]
    version: int = 1
    """The schema version of the payload; the upcasters of the class take it from there."""


Upcasted = dict[str, Any] | Into | Iterable[dict[str, Any] | Into] | None
"""What a step makes: the payload of the next version, an event of another type, several of both, or nothing."""

Upcaster = Callable[[dict[str, Any]], Upcasted]
"""Pure: the payload of one schema version in, what follows from it out."""


@dataclass(frozen=True)
class RetiredType:
    """A type of events whose class is gone. `store.events.register` takes it, and `made_of` of a class of events.

    Without upcasters, its stored events are left out wherever events are read. With them, the last step says what has
    come in their place.

    Raises:
        TypeError: an argument is of another type.
        ValueError: a version has no upcaster.
    """

    name: str
    """The stored name."""
    version: int = 1
    """The schema version that was stored last."""
    upcasters: Mapping[int, Upcaster] = field(default_factory=dict, hash=False)
    """For each version the step that leads on; that of the last version makes `Into`, or nothing."""
    aliases: tuple[str, ...] = ()
    """Names under which still older code has stored them."""

    def __post_init__(self) -> None:
        check_text("name", self.name)
        check_whole("version", self.version, 1)
        object.__setattr__(self, "aliases", check_texts("aliases", self.aliases))
        check_steps(self.upcasters, self.version, self.version if self.upcasters else 0)

    @property
    def names(self) -> tuple[str, ...]:
        """The names under which events of the type are stored."""
        return (self.name, *self.aliases)


def check_steps(upcasters: object, version: int, last: int) -> dict[int, Upcaster]:
    """Return the steps of a type, if there is one for each version up to the last that needs one.

    Raises:
        TypeError: they are no mapping of versions to functions.
        ValueError: a version has no upcaster, or an upcaster leads nowhere.
    """
    if upcasters is not None and not (isinstance(upcasters, Mapping) and all(map(callable, upcasters.values()))):
        raise TypeError(f"`upcasters` maps versions to functions, such as {{1: split_name}}, not {shown(upcasters)}")
    steps = dict(upcasters or {})
    if version < 1 or sorted(steps) != list(range(1, last + 1)):
        raise ValueError(f"version {version} needs upcasters for exactly the versions {list(range(1, last + 1))}")
    return steps


def made_by(step: Upcaster, payload: dict[str, Any]) -> list[dict[str, Any] | Into]:
    """Return what a step makes of a payload, one by one.

    Raises:
        TypeError: it made something else than payloads and `Into`.
        Exception: whatever the step raises.
    """
    made = step(payload)
    if made is None:
        return []
    several = [made] if isinstance(made, dict | Into) else list(made)
    if unknown := next((each for each in several if not isinstance(each, dict | Into)), None):
        raise TypeError(f"an upcaster makes dicts and Into(…), not {shown(unknown)}")
    return several
