"""What the packages of an application declare: its messages, and its decision models."""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Collection, Iterable, Iterator
from decimal import Decimal
from types import ModuleType
from typing import Any
from uuid import UUID

from twofold.log.folding.decision_model import DecisionModel

SAMPLES: dict[Any, Any] = {str: "x", int: 1, UUID: UUID(int=1), Decimal: Decimal(1)}
"""What functions that make decision models are called with: their queries are wanted, not what comes of them."""


def packages_of(things: Iterable[Any]) -> list[str]:
    """Return the packages that classes and functions are declared in; of a module outside of any, the module."""
    modules = {each.__module__ for each in things if not each.__module__.startswith("twofold.")}
    return sorted({module.rpartition(".")[0] or module for module in modules})


def leaves(base: type, packages: Collection[str]) -> list[type]:
    """Return the subclasses that packages declare, without those that have subclasses themselves."""
    found, waiting = dict[type, None](), [base]
    while waiting:
        cls = waiting.pop()
        below: list[type] = cls.__subclasses__()
        waiting += below
        if not below and cls is not base and _is_declared(cls, packages):
            found[cls] = None
    return sorted(found, key=lambda cls: (cls.__module__, cls.__qualname__))


def decision_models(packages: Collection[str]) -> Iterator[tuple[str, DecisionModel[Any]]]:
    """Yield the decision models of packages with what makes them: values, and functions of texts and numbers."""
    for module in [each for each in sys.modules.values() if _is_in(getattr(each, "__name__", ""), packages)]:
        for name, value in list(vars(module).items()):
            model = value if isinstance(value, DecisionModel) else _made(module, value)
            if model is not None:
                yield f"{module.__name__}.{name}", model


def _is_declared(cls: type, packages: Collection[str]) -> bool:
    return _is_in(cls.__module__, packages) and "<locals>" not in cls.__qualname__ and not inspect.isabstract(cls)


def _is_in(module: str, packages: Collection[str]) -> bool:
    return any(module == each or module.startswith(f"{each}.") for each in packages)


def _made(module: ModuleType, function: Any) -> DecisionModel[Any] | None:
    """Return what a function of a module makes of samples, if it says that it makes a decision model."""
    if not inspect.isfunction(function) or function.__module__ != module.__name__:
        return None
    try:
        hints = typing.get_type_hints(function)
        if DecisionModel not in (made := hints.get("return"), typing.get_origin(made)):
            return None
        wanted = [each for each in inspect.signature(function).parameters.values() if each.default is each.empty]
        positional = [SAMPLES[hints[each.name]] for each in wanted if each.kind is not each.KEYWORD_ONLY]
        named = {each.name: SAMPLES[hints[each.name]] for each in wanted if each.kind is each.KEYWORD_ONLY}
        model = function(*positional, **named)
    except Exception:  # it wants what no sample is, and is not looked at
        return None
    return model if isinstance(model, DecisionModel) else None
