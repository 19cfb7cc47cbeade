"""A projection that reads another one sees its rows at the position of each event, live, rebuilt, and after crashes."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.kinds import checkpoints
from tests.projections.bookings import Booked, Cancelled, Merged, Moved, Renamed, appends, rows
from tests.projections.stays import Guest, Guests, Stay, Stays, expected
from tests.synchronizing import PATIENCE, QUICK, engine_at, running, until, write

from twofold import (
    Application,
    Event,
    EventStore,
    GroupedProjection,
    Projection,
    ProjectionState,
    Reaction,
    ReadModelSynchronizer,
    SqlProjection,
    metadata,
    on,
)
from twofold.engines.engine import Engine, scratch_database
from twofold.errors import InvalidProjectionError
from twofold.messages.read_policy import ReadPolicy, WhenLate
from twofold.messages.session import WriteToken
from twofold.ports.segments import slot_of
from twofold.projections.reading.joint_fold import fold_jointly
from twofold.queries.consistency import Asking
from twofold.testing import scenario


async def log_of(store: EventStore) -> dict[str, Stay]:
    return expected([each async for each in store.read()])


async def compare(url: str, batches: Sequence[Sequence[Event]], segments: int, batch_size: int) -> None:
    """Compare live rows, rebuilt ones and a fold in memory with what the events say."""
    async with engine_at(url) as (engine, _):
        store = EventStore(engine.log)
        store.events.register(*Stays().handles())
        synchronizer = ReadModelSynchronizer(store, engine.read_database, batch_size=batch_size, options=QUICK)
        model = synchronizer.add(Stays())
        await synchronizer.prepare()
        await synchronizer.control("stays").scale(segments)
        half = len(batches) // 2
        for batch in batches[:half]:
            await store.append(batch)
        async with running(synchronizer):
            for batch in batches[half:]:
                await store.append(batch)
            await synchronizer.wait(await store.head(), PATIENCE)
            wanted = await log_of(store)
            assert await rows(model) == wanted
            if wanted:
                report = await synchronizer.control("stays").rebuild(expect_same=True)
                assert (report.missing, report.added, report.rows_after) == (0, 0, len(wanted))
                assert await rows(model) == wanted
        folded = fold_jointly(Stays(), [each async for each in store.read()])
        assert {key[0]: row for key, row in folded.rows.items() if row} == wanted
        await synchronizer.close()


laws = {
    "segments": st.sampled_from([1, 3]), "batch_size": st.sampled_from([1, 3, 1000]),
}  # fmt: skip


HISTORY = [
    [Renamed(guest_id="x", name="ann")],
    [Booked(reservation_id=each, guest_id="x") for each in "abcdef"],
    [Renamed(guest_id="x", name="bob"), Renamed(guest_id="y", name="eve")],
    [Moved(reservation_ids=tuple("abcdef"), room=2), Booked(reservation_id="a", guest_id="y")],
    [Merged(id="x", into="y")],
    [Renamed(guest_id="y", name="ann"), Cancelled(reservation_id="b"), Booked(reservation_id="b", guest_id="x")],
]
"""Each event needs rows that earlier steps have left, if there is a step for each event."""


@example(batches=HISTORY, segments=3, batch_size=1)
@example(batches=HISTORY, segments=1, batch_size=1000)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=appends(), **laws)
def test_live_rows_rebuilt_rows_and_a_fold_in_memory_are_what_the_events_say_on_sqlite(
    batches: Sequence[Sequence[Event]], segments: int, batch_size: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(compare(f"sqlite:///{folder}/reads.db", batches, segments, batch_size))


def test_the_same_holds_on_postgres(postgres_server: Callable[[int], Any]) -> None:
    server = postgres_server(18)

    @example(batches=HISTORY, segments=3, batch_size=1)
    @settings(max_examples=2, deadline=None)
    @given(batches=appends(), **laws)
    def holds(batches: Sequence[Sequence[Event]], segments: int, batch_size: int) -> None:
        with ExitStack() as databases:
            asyncio.run(compare(databases.enter_context(server.database()), batches, segments, batch_size))

    holds()


@pytest.fixture
def synchronizer(engine: Engine, store: EventStore) -> ReadModelSynchronizer:
    return ReadModelSynchronizer(store, engine.read_database, options=QUICK, scratch=scratch_database)


def booked(*ids: str, guest: str = "x", room: int = 1) -> list[Booked]:
    return [Booked(reservation_id=each, guest_id=guest, room=room) for each in ids]


def renamed(name: str, guest: str = "x") -> Renamed:
    return Renamed(guest_id=guest, name=name)


async def suffix(engine: Engine) -> str:
    [(found,)] = await engine.read_database.query("SELECT suffix FROM twofold_projections")
    return str(found)


@pytest.mark.parametrize("request_of_step", [0, 1, 2])
async def test_a_crash_within_a_step_leaves_rows_copies_and_checkpoint_where_they_were(
    engine: Engine, store: EventStore, synchronizer: ReadModelSynchronizer, url: str, request_of_step: int
) -> None:
    """The step consists of the copy's rows, the projection's own, and the checkpoint; the process dies before each."""
    model = synchronizer.add(Stays())
    async with running(synchronizer):
        await synchronizer.wait(await write(store, renamed("ann"), *booked("a")), PATIENCE)
    await write(store, renamed("bob"), *booked("b"), Moved(reservation_ids=("a",), room=2))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.projections.stays", url, str(request_of_step)
    )
    assert await asyncio.wait_for(process.wait(), PATIENCE) == 9
    assert await rows(model) == {"a": Stay("a", "x", 1, "ann", 1)}
    assert await engine.read_database.query(f"SELECT name, renames FROM stays_guests{await suffix(engine)}") == [
        ("ann", 1)
    ]
    assert [each.position for each in await checkpoints(engine, "stays")] == [2]
    again = ReadModelSynchronizer(store, engine.read_database, options=QUICK)
    model = again.add(Stays())
    async with running(again):
        await again.wait(5, PATIENCE)
        assert await rows(model) == await log_of(store)


async def test_a_failure_stops_the_projection_right_before_the_event_and_what_it_reads_with_it(
    engine: Engine, store: EventStore, synchronizer: ReadModelSynchronizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = synchronizer.add(Stays())
    async with running(synchronizer):
        await write(store, renamed("ann"), *booked("a"), *booked("b", room=13), renamed("bob"), *booked("c"))

        async def stands_still() -> bool:
            [status] = await synchronizer.status()
            return status.state is ProjectionState.FAULTED and status.position == 2

        await until(stands_still)
        assert await rows(model) == {"a": Stay("a", "x", 1, "ann", 1)}
        assert await engine.read_database.query(f"SELECT name FROM stays_guests{await suffix(engine)}") == [("ann",)]
        monkeypatch.setattr(Stays, "mended", True)
        await synchronizer.wait(5, PATIENCE)
        assert await rows(model) == await log_of(store)


async def test_an_event_that_is_skipped_is_left_out_whole_also_by_a_rebuild(
    store: EventStore, synchronizer: ReadModelSynchronizer
) -> None:
    model, control = synchronizer.add(Stays()), synchronizer.control("stays")
    async with running(synchronizer):
        await write(store, renamed("ann"), *booked("b", room=13), renamed("bob"), *booked("c"))

        async def stands_still() -> bool:
            [status] = await synchronizer.status()
            return status.state is ProjectionState.FAULTED

        await until(stands_still)
        await control.skip(2, reason="the room is haunted")
        await synchronizer.wait(4, PATIENCE)
        assert await rows(model) == {"c": Stay("c", "x", 1, "bob", 2)}
        await control.rebuild(expect_same=True)
        assert await rows(model) == {"c": Stay("c", "x", 1, "bob", 2)}


class Narrow(Stays):
    """Makes a row that no engine can store."""

    name = "narrow"

    @on(Moved)
    def moved(self, row: Stay | None, event: Moved) -> Stay | None:
        return row and replace(row, room=1 << 70 if event.room == 99 and not self.mended else event.room)


async def test_a_row_that_cannot_be_stored_stops_it_right_before_its_event(
    store: EventStore, synchronizer: ReadModelSynchronizer
) -> None:
    model = synchronizer.add(Narrow())
    async with running(synchronizer):
        await write(store, *booked("a"), renamed("ann"), Moved(reservation_ids=("a",), room=99), renamed("bob"))

        async def stands_still() -> bool:
            [status] = await synchronizer.status()
            return status.state is ProjectionState.FAULTED and status.position == 2

        await until(stands_still)
        assert await rows(model) == {"a": Stay("a", "x", 1, "ann", 1)}


async def test_a_row_is_asked_for_in_the_segment_that_writes_it(
    engine: Engine, store: EventStore, synchronizer: ReadModelSynchronizer
) -> None:
    """One of the segments has nothing to do, and is ahead of the one that has all rows, also that of its own slots."""
    model = synchronizer.add(Stays())
    await synchronizer.prepare()
    await synchronizer.control("stays").scale(2)
    async with running(synchronizer):
        await synchronizer.wait(await write(store, *booked("a")), PATIENCE)

        async def has_two() -> bool:
            return len(await checkpoints(engine, "stays")) == 2

        await until(has_two)
    first, second = await checkpoints(engine, "stays")
    writes, idles = (first, second) if slot_of("[]") < first.end else (second, first)
    key = next(key for key in "abcdefgh" if idles.first <= slot_of(f'["{key}"]') < idles.end)
    last = await write(store, *booked(key))
    async with engine.read_database.transaction() as transaction:
        await transaction.run(
            "UPDATE twofold_checkpoints SET position = :last WHERE first_slot = :first", last=last, first=idles.first
        )
    assert writes.position < last
    with Asking(WriteToken(last, None), policy=ReadPolicy(0.0, WhenLate.ANSWER_STALE)) as asking:
        assert await model.get(key) is None
    assert asking.stale


async def test_what_a_generation_keeps_of_others_goes_with_it(
    engine: Engine, store: EventStore, synchronizer: ReadModelSynchronizer
) -> None:
    synchronizer.add(Stays())
    control = synchronizer.control("stays")
    async with running(synchronizer):
        await synchronizer.wait(await write(store, renamed("ann"), *booked("a")), PATIENCE)
        before = await suffix(engine)
        await control.rebuild()
        assert await control.drop_previous()
    async with engine.read_database.transaction() as transaction:
        names = set(await transaction.names())
    assert f"stays_guests{before}" not in names
    assert sum(name.startswith("stays_guests") for name in names) == 1


async def test_changed_code_of_what_it_reads_is_changed_code_of_its_own(
    store: EventStore, synchronizer: ReadModelSynchronizer, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    synchronizer.add(Stays())
    await synchronizer.prepare()

    class Shouting(Guests):
        @on(Renamed)
        def renamed(self, row: Guest | None, event: Renamed) -> Guest:
            return Guest(event.guest_id, event.name.upper())

    class Changed(Stays):
        reads = (Shouting,)

    again = ReadModelSynchronizer(store, engine.read_database, options=QUICK)
    again.add(Changed())
    await again.prepare()
    assert "the code of stays changed (guests.renamed)" in caplog.text


async def test_each_tenant_reads_its_own(url: str) -> None:
    app = Application(url, tenants=True)
    model = app.projections.add(Stays())
    async with app:
        for tenant, name in (("red", "ann"), ("blue", "bob")):
            with metadata(tenant=tenant):
                last = await app.store.append([renamed(name), *booked("a")])
        with metadata(tenant="green"):
            last = await app.store.append(booked("a"))
        await app.projections.wait(last, timeout=PATIENCE)
        found = {}
        for tenant in ("red", "blue", "green"):
            with metadata(tenant=tenant):
                row = await model.get("a")
                found[tenant] = row and row.name
    assert found == {"red": "ann", "blue": "bob", "green": "?"}


def test_a_scenario_reads_too() -> None:
    scenario(Stays())(renamed("ann")).when(*booked("a"), renamed("bob", "y")).then_rows(Stay("a", "x", 1, "ann", 1))


def test_read_is_refused_for_what_is_not_read_and_where_no_event_is_folded() -> None:
    class Others(Projection[Guest]):
        name = "others"

    class Blind(Stays):
        def named(self, row: Stay) -> Stay:
            self.read(Others, row.guest_id)
            raise NotImplementedError

    scenario(Blind())().when(*booked("a")).then_raises(InvalidProjectionError, r"does not read Others; write reads =")
    with pytest.raises(InvalidProjectionError, match="only while events are folded"):
        Stays().read(Guests, "x")


class Grouped(GroupedProjection[Stay]):
    name = "grouped"


class Needy(Guests):
    def __init__(self, name: str) -> None: ...


class Own(Guests):
    def apply(self, row: Any, recorded: Any) -> Any: ...


class Long(Guests):
    name = "guests_of_all_the_hotels_of_the_chain"


@pytest.mark.parametrize(
    ("declared", "refused"),
    [
        ({"on_failure": "park"}, 'write on_failure = "stop"'),
        ({"follows": ("guests",)}, "leave `follows` out"),
        ({"reads": Guests}, "write a tuple of classes"),
        ({"reads": (Guests(),)}, "is no class of a Projection"),
        ({"reads": (Grouped,)}, "is no class of a Projection"),
        ({"reads": (Stays,)}, "reads others itself"),
        ({"reads": (Needy,)}, "cannot be made without arguments"),
        ({"reads": (Own,)}, "Own has `apply` of its own"),
        ({"reads": (Long,)}, "of more than 40 letters"),
        ({"reads": (Guests, Guests)}, "two projections of one name"),
        ({"handles": lambda self: (Booked,)}, "has `handles` of its own"),
    ],
)
def test_what_cannot_read_or_be_read_is_refused_when_it_is_added(
    synchronizer: ReadModelSynchronizer, declared: dict[str, Any], refused: str
) -> None:
    with pytest.raises(InvalidProjectionError, match=refused):
        synchronizer.add(type("Wrong", (Stays,), declared)())


@pytest.mark.parametrize("kind", ["inline", "on_demand"])
def test_only_workers_can_drive_it(synchronizer: ReadModelSynchronizer, kind: Any) -> None:
    with pytest.raises(InvalidProjectionError, match="can be asynchronous only: it reads other projections"):
        synchronizer.add(Stays(), kind=kind)


@pytest.mark.parametrize("base", [GroupedProjection[Stay], SqlProjection, Reaction])
def test_no_other_class_of_projections_reads(synchronizer: ReadModelSynchronizer, base: Any) -> None:
    class Wrong(base):  # type: ignore[misc]
        name, on_failure, reads = "wrong", "stop", (Guests,)

        def handles(self) -> tuple[type, ...]:
            return (Booked,)

        async def apply(self, *_: Any) -> None: ...

    with pytest.raises(InvalidProjectionError, match=r"only a Projection has `reads`|a GroupedProjection reads no"):
        synchronizer.add(Wrong())
