"""Twofold's errors survive pickling and copying, so that process pools and task queues can hand them on."""

from __future__ import annotations

import copy
import inspect
import pickle
import pkgutil
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any, get_type_hints
from uuid import UUID

import pytest

import twofold
from twofold import Event, Position, Receipt, RecordedEvent
from twofold.errors import AggregateNotFoundError, DuplicateHandlerError, TwofoldError, ValueTakenError
from twofold.messages.mark import Mark
from twofold.messages.stored_event import StoredEvent


@dataclass(frozen=True)
class Happened(Event):
    name: str


ROW = StoredEvent(7, 1, 0, 0, "Day-1", "Day", "Happened", 1, UUID(int=7).bytes, b'{"name":"rain"}', b"{}", b"[]")
RECORDED: RecordedEvent[Any] = RecordedEvent(Happened("rain"), ROW)
SAMPLES: dict[Any, Any] = {
    str: "text",
    Path: Path("log.jsonl"),
    Path | None: Path("payloads-000001.parquet"),
    int | None: 7,
    int: 3,
    bool: False,
    float: 1.5,
    Mapping[str, str] | None: {"orders": "rebuilding"},
    Mark: Mark(7, b"7" * 16),
    Mark | None: Mark(7),
    object: 4,
    type: Happened,
    UUID: UUID(int=1),
    Iterable[str]: ["a", "b"],
    Sequence[str]: ["a", "b"],
    dict[str, int]: {"orders": 2},
    RecordedEvent[Any]: RECORDED,
    Sequence[RecordedEvent[Any]]: (RECORDED,),
    Sequence[Receipt[Any]]: (Receipt(value=None, position=Position(7)),),
    BaseException: ValueError("the cause"),
    Exception: ValueError("the cause"),
}
"""A value for each type of a parameter. A new error with another type of parameter adds a line."""


def every_error() -> list[type[TwofoldError]]:
    for module in pkgutil.walk_packages(twofold.__path__, "twofold."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    found, queue = [], [TwofoldError]
    while queue:
        error = queue.pop()
        found.append(error)
        queue += [each for each in error.__subclasses__() if each.__module__.startswith("twofold.")]
    return sorted(set(found), key=lambda each: each.__name__)


def sample(error: type[TwofoldError]) -> TwofoldError:
    """Return an error of a class, made by its own parameters."""
    if "__init__" not in {name for cls in error.__mro__[:-3] for name in vars(cls)}:
        return error("what happened")
    hints = get_type_hints(
        error.__init__,
        {**vars(import_module(error.__module__)), "RecordedEvent": RecordedEvent, "Receipt": Receipt, "Mark": Mark},
    )
    values: dict[str, Any] = {}
    for parameter in list(inspect.signature(error.__init__).parameters.values())[1:]:
        assert hints[parameter.name] in SAMPLES, f"{error.__name__}: add a sample of {hints[parameter.name]}"
        values[parameter.name] = SAMPLES[hints[parameter.name]]
    return error(**values)


def assert_same(twin: BaseException, error: BaseException) -> None:
    assert twin is not error
    assert type(twin) is type(error)
    assert str(twin) == str(error)
    assert repr(vars(twin)) == repr(vars(error))
    assert twin.args == error.args


WAYS: list[Callable[[Any], Any]] = [
    *[lambda error, protocol=protocol: pickle.loads(pickle.dumps(error, protocol)) for protocol in range(6)],
    copy.copy,
    copy.deepcopy,
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("error_type", every_error(), ids=lambda each: each.__name__)
def test_an_error_survives_with_its_text_facts_and_notes(
    error_type: type[TwofoldError], way: Callable[[Any], Any]
) -> None:
    error = sample(error_type)
    error.add_note("seen on a Monday")
    assert_same(way(error), error)


def test_a_traceback_ends_with_what_explains_the_code() -> None:
    error = ValueTakenError("seat", "A1")
    error.add_note("seen on a Monday")
    *_, note, explained = "".join(traceback.format_exception(error)).splitlines()
    assert (note, explained) == ("seen on a Monday", "TE304: `twofold explain TE304` tells more")
    error.__notes__ = ["seen on a Tuesday"]
    assert error.__notes__[0] == "seen on a Tuesday"
    assert traceback.format_exception_only(ShopClosedError("Monday", hours=0))[-1].endswith("closed on Monday\n")
    with pytest.raises(TypeError, match="`note` is a text"):
        error.add_note(5)  # type: ignore[arg-type]


def test_an_error_whose_fact_cannot_leave_the_process_survives_with_its_representation() -> None:
    lock = threading.Lock()
    error = DuplicateHandlerError(Happened, lock)
    twin = pickle.loads(pickle.dumps(error))
    assert (str(twin), twin.existing) == (str(error), repr(lock))
    assert copy.copy(error).existing is lock


class ShopClosedError(TwofoldError):
    """An application's own, with parameters of its own."""

    def __init__(self, day: str, *, hours: int) -> None:
        super().__init__(f"closed on {day}")
        self.hours = hours


def test_an_applications_own_subclass_survives_too() -> None:
    error = ShopClosedError("Sunday", hours=24)
    assert_same(pickle.loads(pickle.dumps(error)), error)


def fail() -> None:
    raise AggregateNotFoundError("Order", "o1")


def test_a_process_pool_hands_an_error_on() -> None:
    with (
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
        pytest.raises(AggregateNotFoundError, match="there is no Order 'o1'") as caught,
    ):
        pool.submit(fail).result(timeout=60)
    assert (caught.value.stream_type, caught.value.id) == ("Order", "o1")
