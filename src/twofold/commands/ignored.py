"""Events of a stream that a fold ignores: they are declared, since an event that no code knows is an error."""

from __future__ import annotations

from collections.abc import Iterable

from twofold.arguments import check_items
from twofold.messages.event import refuse_base_class


def check_ignored(name: str, ignored: tuple[type, ...], taken: Iterable[type]) -> None:
    """Refuse what cannot be ignored.

    Raises:
        TypeError: it is no class of events, or one that is also taken.
    """
    check_items(name, ignored, lambda each: isinstance(each, type), "classes of events")
    for each in ignored:
        refuse_base_class(each)
        if each in taken:
            raise TypeError(f"`{name}` has {each.__qualname__}, which is taken as well; remove it from one of the two")
