"""An event that is about several rows changes each of them once, in order, whatever happens to the others."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.kinds import checkpoints
from tests.projections.bookings import (
    Booked,
    Cancelled,
    Merged,
    Moved,
    Named,
    Renamed,
    Reservation,
    Reservations,
    appends,
    expected,
    rows,
)
from tests.synchronizing import PATIENCE, QUICK, engine_at, running, until, write

from twofold import (
    Aggregate,
    Event,
    EventStore,
    GroupedProjection,
    Index,
    Key,
    Projection,
    ProjectionState,
    ReadModelSynchronizer,
    SqlProjection,
    on,
)
from twofold.engines.engine import Engine, scratch_database
from twofold.errors import InvalidProjectionError
from twofold.messages.read_policy import ReadPolicy, WhenLate
from twofold.messages.session import WriteToken
from twofold.options import FoldOptions, SynchronizerOptions
from twofold.ports.segments import slot_of
from twofold.projections.keys.keyed_event import KeyedEvent, start_of_event
from twofold.queries.consistency import Asking
from twofold.testing import scenario


async def log_of(store: EventStore) -> dict[str, Reservation]:
    return expected([each async for each in store.read()])


async def compare(url: str, batches: Sequence[Sequence[Event]], segments: int, batch_size: int) -> None:
    """Compare all kinds, an overlay and a rebuild with what the events say."""
    options = SynchronizerOptions(folding=FoldOptions(found_rows=2), backoff=QUICK.backoff)
    async with engine_at(url) as (engine, _):
        store = EventStore(engine.log)
        store.events.register(*Reservations().handles())
        synchronizer = ReadModelSynchronizer(
            store, engine.read_database, batch_size=batch_size, options=options, scratch=scratch_database
        )
        inline = synchronizer.add(Reservations(), kind="inline")
        live = synchronizer.add(Named("live"), kind="on_demand")
        soon = synchronizer.add(Named("soon"))
        await synchronizer.prepare()
        await synchronizer.control("soon").scale(segments)
        for batch in batches:
            await store.append(batch)
            wanted = await log_of(store)
            assert await rows(inline) == wanted
            assert await rows(live) == wanted
        wanted = await log_of(store)
        with Asking(WriteToken(1 << 60, None), policy=ReadPolicy(0.0, WhenLate.OVERLAY)):
            assert {key: await soon.get(key) for key in "abcdef"} == {key: wanted.get(key) for key in "abcdef"}
        async with running(synchronizer):
            await synchronizer.wait(await store.head(), PATIENCE)
            assert await rows(soon) == wanted
            if wanted:
                report = await synchronizer.control("soon").rebuild(expect_same=True)
                assert (report.missing, report.added, report.sampled) == (0, 0, len(wanted))
        await synchronizer.close()


async def park_and_retry(url: str, batches: Sequence[Sequence[Event]], segments: int, batch_size: int) -> None:
    """Let rows fail now and then; once the code is mended, a retry brings all rows to what the events say."""
    async with engine_at(url) as (engine, _):
        store = EventStore(engine.log)
        store.events.register(*Reservations().handles())
        synchronizer = ReadModelSynchronizer(store, engine.read_database, batch_size=batch_size, options=QUICK)
        model = synchronizer.add(projection := Reservations())
        await synchronizer.prepare()
        await synchronizer.control("reservations").scale(segments)
        async with running(synchronizer):
            for batch in batches:
                await synchronizer.wait(await write(store, *batch), PATIENCE)
            wanted, control = await log_of(store), synchronizer.control("reservations")
            parked = {each.key[2:-2] for each in await control.parked()}
            found = await rows(model)
            assert {key: row for key, row in found.items() if key not in parked} == {
                key: row for key, row in wanted.items() if key not in parked
            }
            projection.mended = True
            await control.retry()

            async def is_empty() -> bool:
                return not await control.parked()

            await until(is_empty)
            assert await rows(model) == wanted


laws = {
    "segments": st.sampled_from([1, 3]), "batch_size": st.sampled_from([1, 3, 1000]),
}  # fmt: skip


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=appends(), **laws)
def test_all_kinds_segments_overlays_and_rebuilds_show_what_the_events_say_on_sqlite(
    batches: Sequence[Sequence[Event]], segments: int, batch_size: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(compare(f"sqlite:///{folder}/fan.db", batches, segments, batch_size))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=appends([1, 13]), **laws)
def test_rows_that_failed_come_to_what_the_events_say_once_retried_on_sqlite(
    batches: Sequence[Sequence[Event]], segments: int, batch_size: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(park_and_retry(f"sqlite:///{folder}/fan.db", batches, segments, batch_size))


@pytest.mark.parametrize(("law", "rooms"), [(compare, [1, 2]), (park_and_retry, [1, 13])])
def test_the_same_holds_on_postgres(postgres_server: Callable[[int], Any], law: Any, rooms: list[int]) -> None:
    server = postgres_server(18)

    @settings(max_examples=3, deadline=None)
    @given(batches=appends(rooms), **laws)
    def holds(batches: Sequence[Sequence[Event]], segments: int, batch_size: int) -> None:
        with ExitStack() as databases:
            asyncio.run(law(databases.enter_context(server.database()), batches, segments, batch_size))

    holds()


@pytest.fixture
def synchronizer(engine: Engine, store: EventStore) -> ReadModelSynchronizer:
    return ReadModelSynchronizer(store, engine.read_database, options=QUICK)


def booked(*ids: str, guest: str = "x", room: int = 1) -> list[Booked]:
    return [Booked(reservation_id=each, guest_id=guest, room=room) for each in ids]


async def test_an_event_that_fails_for_one_row_is_parked_for_that_row_and_changes_the_others(
    synchronizer: ReadModelSynchronizer, store: EventStore
) -> None:
    model, control = synchronizer.add(Reservations()), synchronizer.control("reservations")
    async with running(synchronizer):
        events = [*booked("a", "b"), *booked("c", room=13), Renamed(guest_id="x", name="ann")]
        await synchronizer.wait(await write(store, *events, Moved(reservation_ids=("a", "c"), room=2)), PATIENCE)
        assert [(each.position, each.key, bool(each.cause)) for each in await control.parked()] == [
            (4, '["c"]', True), (5, '["c"]', False),
        ]  # fmt: skip
        found = await rows(model)
        assert [(row.name, row.room) for row in found.values()] == [("ann", 2), ("ann", 1), ("", 13)]


async def test_a_row_that_failed_also_waits_with_what_it_would_have_been_about_then(
    synchronizer: ReadModelSynchronizer, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, control = synchronizer.add(Reservations()), synchronizer.control("reservations")
    renamed = Renamed(guest_id="y", name="ann")
    async with running(synchronizer):
        events = [*booked("a", room=13), Merged(id="x", into="y"), renamed]
        await synchronizer.wait(await write(store, *events), PATIENCE)
        await synchronizer.wait(await write(store, *booked("b", guest="y"), renamed), PATIENCE)
        assert [each.position for each in await control.parked()] == [2, 3, 5]
        monkeypatch.setattr(Reservations, "mended", True)
        assert await control.retry() == 3

        async def is_empty() -> bool:
            return not await control.parked()

        await until(is_empty)
        assert {key: row.places for key, row in (await rows(model)).items()} == {"a": (1, 2, 3, 5), "b": (4, 5)}


def test_a_batch_is_divided_between_two_events_only() -> None:
    ids = [1, 1, 2, 3, 3, 3]
    recorded: Any = {each: SimpleNamespace(stored=SimpleNamespace(position=each)) for each in ids}
    events = [KeyedEvent(recorded[each], (place,)) for place, each in enumerate(ids)]
    assert [start_of_event(events, place) for place in range(6)] == [2, 2, 2, 3, 3, 3]
    assert [start_of_event(events[3:], place) for place in range(3)] == [0, 0, 0]


class Narrow(Reservations):
    """Makes rows of the name "no" that no engine can store, until it is mended."""

    name = "narrow"

    @on(Renamed, where="guest_id")
    def renamed(self, row: Reservation, event: Renamed, recorded: Any) -> Reservation:
        if row.reservation_id == "b" and event.name == "no" and not self.mended:
            return replace(row, room=1 << 70)
        return super().renamed(row, event, recorded)

    @on(Moved)
    def moved(self, row: Reservation | None, event: Moved, recorded: Any) -> Reservation | None:
        if row and row.reservation_id == "b" and event.room == 99:
            return replace(row, room=1 << 70)
        return super().moved(row, event, recorded)


@pytest.mark.parametrize("event", [Renamed(guest_id="x", name="no"), Moved(reservation_ids=("a", "b", "c"), room=99)])
async def test_a_row_that_cannot_be_stored_is_found_among_all_that_an_event_makes(
    synchronizer: ReadModelSynchronizer, store: EventStore, event: Any
) -> None:
    model, control = synchronizer.add(Narrow()), synchronizer.control("narrow")
    async with running(synchronizer):
        await synchronizer.wait(await write(store, *booked("a", "b", "c"), event, *booked("d")), PATIENCE)
        assert [(each.position, each.key) for each in await control.parked()] == [(4, '["b"]')]
        found = await rows(model)
        assert [row.places for row in found.values()] == [(1, 4), (2,), (3, 4), (5,)]


async def test_what_one_row_skips_its_rebuilds_leave_out_for_that_row_alone(
    synchronizer: ReadModelSynchronizer, store: EventStore
) -> None:
    model, control = synchronizer.add(Reservations()), synchronizer.control("reservations")
    async with running(synchronizer):
        events = [*booked("a", "b"), *booked("c", room=13), Renamed(guest_id="x", name="ann")]
        await synchronizer.wait(await write(store, *events, Moved(reservation_ids=("a", "b", "c"), room=1)), PATIENCE)
        await control.skip(4, reason="the room is haunted")
        skipped = [(each.position, each.key) for each in await control.skipped()]
        assert skipped == [(4, '["c"]')]

        async def is_empty() -> bool:
            return not await control.parked()

        await until(is_empty)
        places = {key: row.places for key, row in (await rows(model)).items()}
        assert places == {"a": (1, 4, 5), "b": (2, 4, 5), "c": (3, 5)}
        await control.rebuild(expect_same=True)
        assert (await rows(model))["c"].places == (3, 5)


async def test_what_one_of_the_rows_that_an_event_names_skips_the_others_keep_when_they_are_rebuilt(
    synchronizer: ReadModelSynchronizer, store: EventStore
) -> None:
    model, control = synchronizer.add(Narrow()), synchronizer.control("narrow")
    async with running(synchronizer):
        events = [*booked("a", "b", "c"), Moved(reservation_ids=("a", "b", "c"), room=99)]
        await synchronizer.wait(await write(store, *events), PATIENCE)
        await control.skip(4, reason="the room is haunted")
        assert [(each.position, each.key) for each in await control.skipped()] == [(4, '["b"]')]
        await control.rebuild(expect_same=True)
        assert {key: row.places for key, row in (await rows(model)).items()} == {"a": (1, 4), "b": (2,), "c": (3, 4)}


async def test_an_event_that_one_segment_has_in_cannot_be_skipped_whole(
    synchronizer: ReadModelSynchronizer, store: EventStore
) -> None:
    synchronizer.add(Reservations())
    control = synchronizer.control("reservations")
    async with running(synchronizer):
        await synchronizer.wait(await write(store, *booked("a", "b"), Renamed(guest_id="x", name="ann")), PATIENCE)
        with pytest.raises(ValueError, match="in the read model reservations already"):
            await control.skip(3, reason="no", log=store.log)


async def test_a_projection_that_stops_does_not_have_half_an_event_in(
    synchronizer: ReadModelSynchronizer, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopping(Narrow):
        name = "stopping"
        on_failure = "stop"

        @on(Moved)
        def moved(self, row: Reservation | None, event: Moved, recorded: Any) -> Reservation | None:
            if row and row.reservation_id == "c" and not self.mended:
                raise ArithmeticError("unlucky")
            return super().moved(row, event, recorded)

    model = synchronizer.add(Stopping())
    async with running(synchronizer):
        await write(store, *booked("a", "b", "c"), Moved(reservation_ids=("a", "b", "c"), room=2), *booked("d"))

        async def stands_still() -> bool:
            [status] = await synchronizer.status()
            return status.state is ProjectionState.FAULTED and status.position == 3

        await until(stands_still)
        assert [row.places for row in (await rows(model)).values()] == [(1,), (2,), (3,)]
        monkeypatch.setattr(Stopping, "mended", True)
        await synchronizer.wait(5, PATIENCE)
        assert [row.places for row in (await rows(model)).values()] == [(1, 4), (2, 4), (3, 4), (5,)]


async def test_slow_code_is_committed_between_two_events_and_never_within_one(
    engine: Engine, store: EventStore
) -> None:
    folding = FoldOptions(slice=1e-9, pause=0, commit_after=1e-9)
    options = SynchronizerOptions(folding=folding, backoff=QUICK.backoff)
    synchronizer = ReadModelSynchronizer(store, engine.read_database, options=options)
    model = synchronizer.add(Reservations())
    moves = [Moved(reservation_ids=tuple("abcdef"), room=room) for room in range(5)]
    renames = [Renamed(guest_id="x", name=f"name {number}") for number in range(5)]
    async with running(synchronizer):
        await synchronizer.wait(await write(store, *booked(*"abcdef"), *moves, *renames), PATIENCE)
        assert await rows(model) == await log_of(store)


async def test_a_segment_finds_all_of_its_rows_also_where_all_segments_together_have_too_many_for_a_batch(
    engine: Engine, store: EventStore
) -> None:
    options = SynchronizerOptions(folding=FoldOptions(found_rows=2), backoff=QUICK.backoff)
    synchronizer = ReadModelSynchronizer(store, engine.read_database, options=options)
    model = synchronizer.add(Reservations())
    await synchronizer.prepare()
    await synchronizer.control("reservations").scale(3)
    async with running(synchronizer):
        await synchronizer.wait(await write(store, *booked(*"abcdef")), PATIENCE)
        renames = [Renamed(guest_id="x", name=name) for name in ("ann", "bob", "eve")]
        await synchronizer.wait(await write(store, *renames), PATIENCE)
        assert await rows(model) == await log_of(store)


async def test_an_append_of_an_inline_projection_is_refused_if_one_of_its_rows_fails(
    synchronizer: ReadModelSynchronizer, store: EventStore
) -> None:
    model = synchronizer.add(Reservations(), kind="inline")
    await synchronizer.prepare()
    await write(store, *booked("a"), *booked("b", room=13))
    with pytest.raises(Exception, match="unlucky"):
        await write(store, Renamed(guest_id="x", name="ann"))
    assert await store.head() == 2
    await write(store, Cancelled(reservation_id="b"), Renamed(guest_id="x", name="ann"))
    assert {key: row.name for key, row in (await rows(model)).items()} == {"a": "ann"}


async def test_an_append_brings_events_into_those_segments_alone_that_lack_them(
    synchronizer: ReadModelSynchronizer, engine: Engine, store: EventStore, url: str
) -> None:
    model = synchronizer.add(Reservations(), kind="inline")
    await synchronizer.prepare()
    await synchronizer.control("reservations").scale(2)
    async with running(synchronizer):
        await synchronizer.wait(await write(store, *booked(*"abcdef"), Renamed(guest_id="x", name="ann")), PATIENCE)

        async def has_two() -> bool:
            return len(await checkpoints(engine, "reservations")) == 2

        await until(has_two)
    first, _ = await checkpoints(engine, "reservations")
    own = [key for key in "abcdef" if slot_of(f'["{key}"]') < first.end]
    [(suffix,)] = await engine.read_database.query("SELECT suffix FROM twofold_projections")
    async with engine_at(url) as (_, elsewhere):  # a process that does not know the projection as an inline one
        await write(elsewhere, *booked("g"))
    async with engine.read_database.transaction() as transaction:  # as if the first one stood at the beginning
        await transaction.run("UPDATE twofold_checkpoints SET position = 0, event_id = '' WHERE first_slot = 0")
        for key in own:
            await transaction.run(f"DELETE FROM reservations{suffix} WHERE reservation_id = :key", key=key)
    assert 0 < len(own) < 6
    await write(store, Renamed(guest_id="x", name="bob"))
    assert await rows(model) == await log_of(store)


@dataclass(frozen=True)
class Night:
    reservation_id: Annotated[str, Key()]
    number: Annotated[int, Key()]
    guest_id: Annotated[str, Index()]
    name: str = ""


class Nights(GroupedProjection[Night]):
    name = "nights"

    @on(Booked)
    def booked(self, event: Booked) -> list[Night]:
        return [Night(event.reservation_id, number, event.guest_id) for number in range(event.room)]

    @on(Renamed, where="guest_id")
    def renamed(self, nights: tuple[Night, ...], event: Renamed) -> list[Night]:
        return [replace(each, name=event.name) for each in nights[:2]]


async def test_an_event_finds_whole_groups_of_rows(synchronizer: ReadModelSynchronizer, store: EventStore) -> None:
    model = synchronizer.add(Nights())
    async with running(synchronizer):
        await write(store, *booked("a", room=3), *booked("b", guest="y", room=2))
        await synchronizer.wait(await write(store, Renamed(guest_id="x", name="ann"), *booked("c")), PATIENCE)
        found = [(row.reservation_id, row.number, row.name) for row in (await model.page()).items]
        assert found == [("a", 0, "ann"), ("a", 1, "ann"), ("b", 0, ""), ("b", 1, ""), ("c", 0, "")]


def test_a_scenario_lets_an_event_find_its_rows() -> None:
    (
        scenario(Reservations())(*booked("a", "b"), *booked("c", guest="y"))
        .when(Renamed(guest_id="x", name="ann"), Moved(reservation_ids=("b", "c"), room=2))
        .then_rows(
            Reservation("a", "x", 1, "ann", (1, 4)),
            Reservation("b", "x", 2, "ann", (2, 4, 5)),
            Reservation("c", "y", 2, "", (3, 5)),
        )
    )


def declared(**of: Any) -> Projection[Any]:
    """Return a projection of one method, as it would be declared with these arguments of `on`."""

    class Wrong(Projection[Reservation]):
        name = "wrong"

        @on(Booked)
        def booked(self, event: Booked) -> Reservation:
            raise NotImplementedError

        @on(Renamed, **of)
        def renamed(self, row: Reservation, event: Renamed) -> Reservation:
            raise NotImplementedError

    return Wrong()


@pytest.mark.parametrize(
    ("where", "refused"),
    [
        ("guest", "Reservation has no field 'guest'"),
        ("name", "Reservation.name has no index"),
        ({"guest_id": "guest"}, "Renamed has no field 'guest'"),
        ({"places": "name"}, "Reservation.places is a json"),
    ],
)
def test_where_is_refused_if_it_can_find_no_rows(synchronizer: ReadModelSynchronizer, where: Any, refused: str) -> None:
    with pytest.raises(InvalidProjectionError, match=refused):
        synchronizer.add(declared(where=where))


def test_where_is_refused_where_there_are_no_rows() -> None:
    with pytest.raises(TypeError, match="names no fields"):
        on(Renamed, where=())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="an aggregate has none"):

        class Guest(Aggregate):
            @on(Renamed, where="guest_id")
            def renamed(self, event: Renamed) -> None: ...

    with pytest.raises(InvalidProjectionError, match=r"take \(self, row, event\)"):

        class Made(Reservations):
            @on(Renamed, where="guest_id")
            def renamed(self, event: Renamed) -> Reservation:
                raise NotImplementedError

        Made().handles()


async def test_code_that_takes_each_event_once_has_one_key_for_it(
    synchronizer: ReadModelSynchronizer, store: EventStore
) -> None:
    class Sql(SqlProjection):
        name = "sql"

        def handles(self) -> tuple[type, ...]:
            return (Moved,)

        def key(self, event: Any) -> Any:
            return list(event.reservation_ids)

        async def create(self, connection: Any) -> None: ...

        async def apply(self, event: Any, connection: Any) -> None: ...

    synchronizer.add(Sql())
    async with running(synchronizer):
        await write(store, Moved(reservation_ids=("a",), room=1))

        async def says_so() -> bool:
            [status] = await synchronizer.status()
            return any("has one key" in each for each in status.problems)

        await until(says_so)
