"""The fingerprint of a fold changes with all that decides what it folds, and with nothing else."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from textwrap import dedent
from types import ModuleType
from typing import Any

import msgspec
import pytest

from twofold.commands.folds import AggregateFold, DeciderFold
from twofold.log.folding.fingerprint import fold_fingerprint
from twofold.log.folding.state_form import UnstorableStateError

SOURCE = '''
"""A domain."""
from __future__ import annotations
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import Enum
from typing import Any
import functools
from twofold import Aggregate, Decider, Event, event_type, on

FEE = Decimal(1)
RATES = {"a": 1, "b": 2}

class Kind(Enum):
    CHEAP = "cheap"
    DEAR = "dear"

def fee(kind: Kind) -> Decimal:
    """Return the fee."""
    return FEE if kind is Kind.CHEAP else surcharge(FEE)

def surcharge(amount):
    return amount * 2

def unrelated():
    return 1

@event_type("Paid", version=2, upcasters={1: lambda data: {**data, "kind": "cheap"}})
@dataclass(frozen=True)
class Paid(Event):
    amount: Decimal
    kind: Kind = Kind.CHEAP
    notes: tuple[str, ...] = field(default_factory=tuple)

    @property
    def total(self) -> Decimal:
        return self.amount + fee(self.kind)

@dataclass(frozen=True)
class Entry:
    amount: Decimal
    weight: int = 1

@dataclass(frozen=True)
class State:
    entries: tuple[Entry, ...] = ()

    def plus(self, entry):
        return replace(self, entries=(*self.entries, entry))

def decide(command: Any, state: State) -> list:
    return []

def evolve(state: State, event: Paid) -> State:
    return state.plus(Entry(event.total * RATES["a"]))

DECIDER = Decider(initial_state=State, decide=decide, evolve=evolve, stream_type="Account", events=(Paid,))

class Base(Aggregate):
    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.total = Decimal(0)

    def add(self, amount):
        self.total += amount

class Account(Base):
    limit = Decimal(100)

    def pay(self, amount):
        if amount > 5:
            raise ValueError("too much")
        self.record(Paid(amount))

    @property
    def twice(self):
        return self.total * 2

    @on(Paid)
    def _paid(self, event: Paid) -> None:
        self.add(min(event.total, self.limit))
'''


def module(source: str) -> Any:
    """Return a module of a domain, made of its source."""
    made = ModuleType("domain")
    sys.modules["domain"] = made
    try:
        exec(compile(dedent(source), "domain.py", "exec"), vars(made))
    finally:
        sys.modules.pop("domain")
    return made


def fingerprints(source: str) -> tuple[bytes, bytes]:
    """Return those of the decider and of the aggregate."""
    domain = module(source)
    sys.modules["domain"] = domain  # where the types of fields are looked up
    try:
        return DeciderFold(domain.DECIDER).plan().fingerprint, AggregateFold(domain.Account, "a").plan().fingerprint
    finally:
        sys.modules.pop("domain")


BOTH, DECIDER, AGGREGATE = (True, True), (True, False), (False, True)


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        pytest.param("state.plus(Entry(", "state.plus(entry=Entry(", DECIDER, id="the code of evolve"),
        pytest.param("else surcharge(FEE)", "else FEE", BOTH, id="a function that a property of an event calls"),
        pytest.param("return amount * 2", "return amount * 3", BOTH, id="a function that such a function calls"),
        pytest.param("FEE = Decimal(1)", "FEE = Decimal(2)", BOTH, id="a constant"),
        pytest.param('"a": 1', '"a": 3', DECIDER, id="a constant that is a mapping"),
        pytest.param('DEAR = "dear"', 'DEAR = "costly"', BOTH, id="a member of an enum"),
        pytest.param('"kind": "cheap"}', '"kind": "dear"}', BOTH, id="an upcaster"),
        pytest.param('"Paid", version=2', '"Payment", version=2', BOTH, id="the stored name of an event"),
        pytest.param("    amount: Decimal\n    kind", "    amount: Decimal | int\n    kind", BOTH, id="a field's type"),
        pytest.param("kind: Kind = Kind.CHEAP", "kind: Kind = Kind.DEAR", BOTH, id="a default of an event"),
        pytest.param("default_factory=tuple", "default_factory=lambda: ('x',)", BOTH, id="a default that is made"),
        pytest.param("weight: int = 1", "weight: int = 2", DECIDER, id="a default within the state"),
        pytest.param("weight: int = 1", "weight: float = 1", DECIDER, id="a type within the state"),
        pytest.param("(*self.entries, entry)", "(entry, *self.entries)", DECIDER, id="a method of the state"),
        pytest.param("initial_state=State", "initial_state=lambda: State()", DECIDER, id="how a state begins"),
        pytest.param("self.total += amount", "self.total -= amount", AGGREGATE, id="a method of a base"),
        pytest.param("limit = Decimal(100)", "limit = Decimal(99)", AGGREGATE, id="a constant of the class"),
        pytest.param("self.total = Decimal(0)", "self.total = Decimal(1)", AGGREGATE, id="how an aggregate begins"),
        pytest.param("min(event.total", "max(event.total", AGGREGATE, id="the code of a fold"),
        pytest.param('"""Return the fee."""', '"""Return what it costs."""', (False, False), id="a docstring"),
        pytest.param("    return FEE if", "    # why\n\n    return FEE if", (False, False), id="a comment"),
        pytest.param(
            "def unrelated():\n    return 1", "def unrelated():\n    return 2", (False, False), id="other code"
        ),
        pytest.param("amount > 5", "amount > 6", (False, False), id="a rule of a command"),
        pytest.param("return self.total * 2", "return self.total * 3", (False, False), id="what no fold reads"),
        pytest.param("return []", "return [1]", (False, False), id="what is decided"),
    ],
)
def test_a_change_of_what_folds_is_seen_and_no_other_one(old: str, new: str, changed: tuple[bool, bool]) -> None:
    assert old in SOURCE
    before, after = fingerprints(SOURCE), fingerprints(SOURCE.replace(old, new))
    assert tuple(one != other for one, other in zip(before, after, strict=True)) == changed


@dataclass(frozen=True)
class Step:
    size: int
    parts: tuple[str, ...] = field(default=())


def counting(step: Any) -> Callable[[int, object], int]:
    def evolve(state: int, event: object) -> int:
        return state + len(repr(step))

    return evolve


VALUES = [
    1, 2, True, "1", b"1", Decimal(1), Decimal("1.0"), None, (1, 2), (2, 1), ["a"], {"a": 1}, {"a": 2}, frozenset("ab"),
    frozenset("abc"), Step(1), Step(2), Step(1, ("x",)), len, max, counting(1), counting(2), partial(counting, 1),
]  # fmt: skip


def test_what_a_function_closes_over_is_part_of_it() -> None:
    found = [fold_fingerprint([counting(value)], {}, ()) for value in VALUES]
    assert len(set(found)) == len(VALUES)
    assert found == [fold_fingerprint([counting(value)], {}, ()) for value in VALUES]


def test_a_function_that_closes_over_what_is_told_by_identity_alone_has_no_fingerprint() -> None:
    for value in (object(), random.Random()):
        with pytest.raises(UnstorableStateError, match="closes over"):
            fold_fingerprint([counting(value)], {}, ())


def test_a_fingerprint_is_the_same_before_and_after_its_classes_were_used() -> None:
    domain = module(SOURCE)
    sys.modules["domain"] = domain
    try:
        fold = DeciderFold(domain.DECIDER)
        before = fold.plan().fingerprint
        msgspec.json.Decoder(domain.Paid), msgspec.json.Decoder(domain.State)
        assert fold.plan().form.encode(domain.State((domain.Entry(Decimal(1)),)))
        assert fold.plan().fingerprint == before
    finally:
        sys.modules.pop("domain")


def test_fingerprints_are_the_same_in_every_process() -> None:
    program = "from tests.unit.log.test_fold_fingerprint import *; print(*map(bytes.hex, fingerprints(SOURCE)))"
    runs = {
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
        for _ in range(2)
    }
    assert runs == {" ".join(each.hex() for each in fingerprints(SOURCE))}
