"""The schema lock: what is stored is compared with today's classes, and each way to break it has a code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, make_dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import msgspec
import pydantic
import pytest
from tests.log.generations import first, today
from tests.log.generations.record import RECORDED

from twofold import (
    Aggregate,
    Application,
    AwareDatetime,
    EventStore,
    EventTypes,
    Personal,
    RetiredType,
    Subject,
    Tag,
    event_type,
    import_log,
    open_event_store,
)
from twofold.cli.commands import run
from twofold.schema import (
    SchemaLock,
    check_samples,
    check_types,
    lock_types,
    read_lock,
    read_samples,
    sample_log,
    write_lock,
    write_samples,
)

KINDS = ["dataclass", "struct", "pydantic"]
OPTIONAL = (str, "x")


def made(kind: str, *, name: str = "Sold", declared: dict[str, Any] | None = None, **fields: Any) -> type:
    """Return a class of events; a field that is a pair has a default."""
    pairs = {key: each if isinstance(each, tuple) else (each,) for key, each in fields.items()}
    cls: Any
    if kind == "dataclass":
        parts = [(key, each[0], *([field(default=each[1])] if each[1:] else [])) for key, each in pairs.items()]
        cls = make_dataclass("Sold", parts, frozen=True, kw_only=True)
    elif kind == "struct":
        cls = msgspec.defstruct("Sold", [(key, *each) for key, each in pairs.items()], frozen=True, kw_only=True)
    else:
        of: Any = {key: (each[0], each[1] if each[1:] else ...) for key, each in pairs.items()}
        cls = pydantic.create_model("Sold", __config__=pydantic.ConfigDict(frozen=True), **of)
    result: type = event_type(name, **(declared or {}))(cls)
    return result


def types_of(*classes: Any) -> EventTypes:
    types = EventTypes()
    types.register(*classes)
    return types


def codes(now: EventTypes, was: SchemaLock) -> list[str]:
    return [each.code for each in check_types(now, was)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, []),
        ({"note": OPTIONAL}, ["TF309"]),
        ({"note": str}, ["TF302"]),
        ({"what": int}, ["TF302"]),
        ({"on": str}, ["TF303"]),
        ({"what": None}, ["TF303"]),
        ({"what": None, "item": OPTIONAL}, ["TF304"]),
        ({"what": None, "item": str}, ["TF302"]),
        ({"what": str | None}, ["TF303"]),
    ],
)
def test_a_change_under_the_same_version_has_its_code(kind: str, change: dict[str, Any], code: list[str]) -> None:
    fields: dict[str, Any] = {"id": str, "what": str, "on": date}
    locked = lock_types(types_of(made(kind, **fields)))
    now = {name: each for name, each in (fields | change).items() if each is not None}
    assert codes(types_of(made(kind, **now)), locked) == code


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_that_becomes_a_date_is_not_read_any_more(kind: str) -> None:
    assert codes(types_of(made(kind, on=date)), lock_types(types_of(made(kind, on=str)))) == ["TF302"]


def test_a_raised_version_with_its_upcaster_has_to_be_locked_and_both_stay_in_the_lock() -> None:
    locked = lock_types(types_of(made("dataclass", what=str)))
    newer = types_of(made("dataclass", item=str, declared={"version": 2, "upcasters": {1: lambda old: old}}))
    assert codes(newer, locked) == ["TF309"]
    both = lock_types(newer, locked)
    assert codes(newer, both) == []
    assert list(both.types["Sold"].schemas) == ["1", "2"]
    assert codes(types_of(made("dataclass", what=str)), both) == ["TF306"]
    assert codes(types_of(RetiredType("Sold")), both) == ["TF306"]


def test_a_name_that_vanished_is_found_unless_an_alias_or_a_retired_type_has_it() -> None:
    locked = lock_types(types_of(made("dataclass", what=str)))
    assert codes(EventTypes(), locked) == ["TF301"]
    assert codes(types_of(made("dataclass", name="Bought", what=str)), locked) == ["TF301", "TF309"]
    assert codes(types_of(made("dataclass", name="Bought", what=str, declared={"aliases": ("Sold",)})), locked) == [
        "TF309"
    ]
    assert codes(types_of(RetiredType("Sold")), locked) == []


class Purchase(Aggregate):
    """Was called Order, and has forgotten to say so."""


class Order(Aggregate):
    """As it was."""


def test_an_aggregate_that_is_renamed_says_under_which_type_its_streams_are_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def locks(*aggregates: type[Aggregate], force: bool = False) -> tuple[int, str]:
        app = Application("memory://")
        for each in aggregates:
            app.repository(each)
        monkeypatch.setitem(globals(), "streaming", app)
        arguments = [f"{__name__}:streaming", "--file", str(tmp_path / "lock.json")]
        code = run(["schema", "lock", *arguments, *(["--force"] if force else [])])
        return code, capsys.readouterr().out + str(run(["schema", "check", *arguments]))

    assert locks(Order)[0] == 0
    code, said = locks(Purchase)
    assert (code, "TF310" in said, "streams of the type Order" in said) == (1, True, True)
    monkeypatch.setattr(Purchase, "stream_type", "Order")
    assert locks(Purchase)[0] == 0
    monkeypatch.setattr(Purchase, "stream_type", "Purchase")
    assert locks(Purchase, force=True)[0] == 0
    assert read_lock(tmp_path / "lock.json").stream_types == ["Purchase"]


def test_tags_and_personal_fields_that_change_are_found() -> None:
    class Personal:
        """As the mark of personal fields is called."""

    plain, tagged = made("dataclass", who=str), made("dataclass", who=Annotated[str, Tag("who")])
    personal = made("dataclass", who=Annotated[str, Personal()])
    assert codes(types_of(plain), lock_types(types_of(tagged))) == ["TF305"]
    assert codes(types_of(tagged), lock_types(types_of(plain))) == ["TF305"]
    assert codes(types_of(plain), lock_types(types_of(personal))) == ["TF307"]
    assert codes(types_of(personal), lock_types(types_of(plain))) == []


class Meal(Enum):
    BREAKFAST = "breakfast"
    DINNER = "dinner"


@dataclass(frozen=True)
class Street:
    name: str


PICKY: dict[str, tuple[Any, Any, Any]] = {
    "who": (str, "Annabelle Quux", "(masked)"),
    "born": (date, date(1961, 2, 3), "2000-01-01"),
    "at": (AwareDatetime, datetime(2020, 3, 4, 5, 6, 7, tzinfo=UTC), "2000-01-01T00:00:00Z"),
    "account": (UUID, UUID(int=77), "00000000-0000-4000-8000-000000000000"),
    "age": (Annotated[int, msgspec.Meta(ge=18)], 63, 18),
    "height": (Annotated[float, msgspec.Meta(gt=0.5)], 1.75, 1.5),
    "salary": (Decimal, Decimal("1234.5"), "1"),
    "meal": (Meal, Meal.DINNER, "breakfast"),
    "passport": (Annotated[str, msgspec.Meta(pattern="^[A-Z]{2}[0-9]{3}$")], "QX718", "XX000"),
    "street": (Street, Street("Elm Street 12"), {"name": "(masked)"}),
    "phones": (tuple[str, ...], ("+44 171 555",), ["(masked)"]),
}
"""Fields about a person, their values, and the masks that they admit."""


async def test_masks_are_what_typed_fields_admit_and_encrypted_fields_show_their_placeholders(any_url: str) -> None:
    as_placeholder = {name: value for name, (_, value, _) in PICKY.items()} | {"who": "(forgotten)"}
    hints: Any = {
        name: Annotated[hint, Personal(placeholder=as_placeholder[name])] for name, (hint, _, _) in PICKY.items()
    }
    plain_hints: Any = {name: hint for name, (hint, _, _) in PICKY.items()}
    plain = made("dataclass", id=str, **plain_hints)
    personal = made("dataclass", id=Annotated[str, Subject()], **hints)
    async with open_event_store("memory://") as opened, open_event_store(any_url) as log:
        await EventStore(log.log).append([plain(id="a", **{name: value for name, (_, value, _) in PICKY.items()})])
        store = EventStore(log.log, keys=opened.keys)
        store.events.register(personal)
        values = {name: value for name, (_, value, _) in PICKY.items()}
        await store.append([personal(id="b", **values | {"who": "Bob"})])
        samples = await sample_log(store, lock_types(store.events))
        assert samples[0].payload == {"id": "a"} | {name: mask for name, (_, _, mask) in PICKY.items()}
        assert samples[1].payload["who"] == "(forgotten)"
        assert "Annabelle" not in repr(samples)
        assert check_samples(store.events, samples) == []


async def test_an_event_whose_fields_admit_no_mask_is_no_sample(any_url: str) -> None:
    hint = Annotated[str, msgspec.Meta(pattern="^Quux$"), Personal(placeholder="Quux")]
    async with open_event_store("memory://") as opened, open_event_store(any_url) as log:
        await EventStore(log.log).append([made("dataclass", id=str, who=str)(id="a", who="Quux")])
        store = EventStore(log.log, keys=opened.keys)
        store.events.register(made("dataclass", id=Annotated[str, Subject()], who=hint))
        assert await sample_log(store, lock_types(store.events)) == []


def test_a_lock_file_comes_back_and_stays_the_same_when_nothing_changes(tmp_path: Path) -> None:
    locked = lock_types(types_of(*today.ALL))
    write_lock(tmp_path / "lock.json", locked)
    assert read_lock(tmp_path / "lock.json") == locked
    assert lock_types(types_of(*reversed(today.ALL)), locked) == locked
    assert list(locked.types) == sorted(locked.types)
    (tmp_path / "lock.json").write_text('{"twofold_schema_lock": 9}')
    with pytest.raises(ValueError, match="form 9"):
        read_lock(tmp_path / "lock.json")


async def test_samples_of_a_log_are_read_by_the_code_of_today(any_url: str, tmp_path: Path) -> None:
    async with open_event_store(any_url) as opened:
        await import_log(opened, RECORDED / "all.jsonl")
        types = types_of(*today.ALL)
        samples = await sample_log(EventStore(opened.log, types), lock_types(types), each=1)
    write_samples(tmp_path / "samples.jsonl", samples)
    samples = read_samples(tmp_path / "samples.jsonl")
    assert {each.schema_version for each in samples if each.type == "OrderPlaced"} == {1, 2, 3, 4}
    assert {each.type for each in samples} >= {"ItemViewed", "OrderMoved", "OrderShipped"}
    assert check_samples(types, samples) == []
    assert {each.code for each in check_samples(types_of(first.OrderPlaced), samples)} == {"TF308"}


async def test_what_was_personal_is_masked() -> None:
    class Personal:
        """As the mark of personal fields is called."""

    cls: Any = made("dataclass", who=Annotated[str, Personal()], what=str)
    async with open_event_store("memory://") as store:
        store.events.register(cls)
        await store.append([cls(who="Ada", what="tea")])
        locked = lock_types(store.events)
        other = EventStore(store.log, types_of(made("dataclass", who=str, what=str)))
        for each in (store, other):
            [sample] = await sample_log(each, locked)
            assert sample.payload == {"who": "(masked)", "what": "tea"}


APP = """
from dataclasses import dataclass
from twofold import Application, Event

@dataclass(frozen=True)
class Sold(Event):
    {field}: str = ""

def build():
    app = Application("memory://")
    app.store.events.register(Sold)
    return app
"""


def test_the_command_line_locks_and_checks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("what", "thing"):
        (tmp_path / f"shop_{name}.py").write_text(APP.format(field=name))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert run(["schema", "check", "shop_what:build"]) == 1
    assert "there is no events.lock.json" in capsys.readouterr().err
    assert run(["schema", "lock", "shop_what:build"]) == 0
    assert run(["schema", "check", "shop_what:build", "--strict"]) == 0
    capsys.readouterr()
    assert run(["schema", "check", "shop_thing:build", "--json"]) == 1
    assert msgspec.json.decode(capsys.readouterr().out)["code"] == "TF304"
    before = (tmp_path / "events.lock.json").read_text()
    assert run(["schema", "lock", "shop_thing:build"]) == 1
    assert (tmp_path / "events.lock.json").read_text() == before
    assert run(["schema", "lock", "shop_thing:build", "--force", "--sample", f"sqlite:///{tmp_path}/log.db"]) == 0
    assert '"thing"' in (tmp_path / "events.lock.json").read_text()
    assert (tmp_path / "events.lock.samples.jsonl").read_bytes() == b""


def test_the_fixture_fails_a_test_whose_events_do_not_go_with_the_lock(
    twofold_check_schemas: Callable[..., None], tmp_path: Path
) -> None:
    app = Application("memory://")
    app.store.events.register(made("dataclass", what=OPTIONAL))
    write_lock(tmp_path / "events.lock.json", lock_types(app.store.events))
    twofold_check_schemas(app, tmp_path / "events.lock.json")
    write_lock(tmp_path / "events.lock.json", lock_types(types_of(made("dataclass", thing=OPTIONAL))))
    with pytest.raises(pytest.fail.Exception, match="TF304"):
        twofold_check_schemas(app, tmp_path / "events.lock.json")
    twofold_check_schemas(app, tmp_path / "events.lock.json", ignore=("TF304",))
