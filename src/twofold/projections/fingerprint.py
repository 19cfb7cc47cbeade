"""Fingerprints of code: whether a projection still does what it did when its read model was built."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from types import FunctionType

from twofold.ports.table import Table

_DOCUMENTED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def fingerprint(cls: type, table: Table | None = None, *, until: type = object) -> Mapping[str, str]:
    """Return a digest for each function and constant that a class and its bases below `until` define.

    Comments, docstrings and layout do not count. What the functions call elsewhere is not seen.
    """
    parts: dict[str, str] = {}
    for parent in reversed(cls.__mro__[: cls.__mro__.index(until)]):
        for name, value in vars(parent).items():
            function = inspect.unwrap(getattr(value, "__func__", value))
            if isinstance(function, FunctionType):
                parts[name] = _digest(_text(function))
    parts["row"] = _digest(repr(table._replace(name="", indexes=()))) if table else _NO_ROWS
    return parts


def has_row_type(parts: Mapping[str, str]) -> bool:
    """Return whether a fingerprint is that of a keyed projection, with one table for its rows."""
    return parts.get("row") not in (None, "", _NO_ROWS)


def with_copies(parts: Mapping[str, str], copies: Mapping[str, Mapping[str, str]]) -> Mapping[str, str]:
    """Return the fingerprint of a projection with those of the projections that it reads, by their names."""
    of_copies = {f"{name}.{part}": digest for name, its in copies.items() for part, digest in its.items()}
    return {**parts, **of_copies}


def copies_in(name: str, parts: Mapping[str, str]) -> Sequence[str]:
    """Return the names of the tables, without suffix, in which a projection of this fingerprint keeps its copies."""
    return [name_of_copy(name, part.removesuffix(".row")) for part in parts if part.endswith(".row")]


def name_of_copy(name: str, read: str) -> str:
    """Return the name of the table in which a projection keeps its copy of the rows of one that it reads."""
    return f"{name}_{read}"


def is_reaction(parts: Mapping[str, str]) -> bool:
    """Return whether a fingerprint is that of a reaction."""
    return parts == {"row": ""}


def has_effects(parts: Mapping[str, str]) -> bool:
    """Return whether a fingerprint is that of a reaction or a process, which does things elsewhere that stay done."""
    return parts.get("row") == ""


def _text(function: FunctionType) -> str:
    """Return a function without comments and docstrings; where its source is not at hand, its code."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        code = function.__code__
        return repr((code.co_names, [each for each in code.co_consts if not inspect.iscode(each)]))
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node) is not None:
            node.body[:1] = [] if node.body[1:] else [ast.Pass()]
    return ast.unparse(tree)


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=6).hexdigest()


_NO_ROWS = _digest(repr(""))
