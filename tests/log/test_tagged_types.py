"""A tag that a class of events gets later: noticed at the start, and added to the old events by a command."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, cast

import pytest
from tests.synchronizing import engine_at

from twofold import (
    Application,
    Event,
    EventQuery,
    EventStore,
    Projection,
    Tag,
    ValueTakenError,
    event_type,
    unique,
)
from twofold.cli.output import InterruptedByUserError
from twofold.engines.memory import MemoryEventLog
from twofold.errors import TagsMissingError, UnknownTypeError
from twofold.log.add_tags import add_tags
from twofold.log.copy import copy_log
from twofold.log.verify import verify_log
from twofold.options import LogOptions, Options
from twofold.ports.maintenance import PortableLog

NAME = "GuestRegistered"


@event_type(NAME)
@dataclass(frozen=True, kw_only=True)
class Untagged(Event):
    """The class as it was."""

    email: str
    guest: str = "g"


@event_type(NAME)
@dataclass(frozen=True, kw_only=True)
class Tagged(Event):
    """The same events, once their field has got a tag."""

    email: Annotated[str, Tag("email")]
    guest: str = "g"


@event_type(NAME)
@dataclass(frozen=True, kw_only=True)
class Renamed(Event):
    """The same events, once the tag has got another name."""

    email: Annotated[str, Tag("mail")]
    guest: str = "g"


@event_type("GuestKnown", aliases=(NAME,))
@dataclass(frozen=True, kw_only=True)
class Moved(Event):
    """The same events under another stored name."""

    email: Annotated[str, Tag("email")]
    guest: str = "g"


class Guests(Projection[object]):
    name = "guests"


def events_of(*addresses: str, cls: type = Untagged) -> list[object]:
    return [cls(email=address) for address in addresses]


def known(store: EventStore, *classes: type, changed_tags: str = "refuse") -> EventStore:
    """Return another process's store on the same log."""
    other = EventStore(store.log, options=LogOptions(changed_tags=changed_tags))  # type: ignore[arg-type]
    other.events.register(*classes)
    return other


async def found_by(store: EventStore, tag: str) -> list[int]:
    return [each.position async for each in store.read(EventQuery.of(tags=[tag]))]


async def test_a_class_whose_stored_events_lack_its_tag_is_refused_at_the_start_by_name(store: EventStore) -> None:
    await store.append(events_of("a@x"))
    with pytest.raises(TagsMissingError, match=r"GuestRegistered .* lack the tag email .*`twofold tags add"):
        await known(store, Tagged).compare_tags()


async def test_an_application_refuses_to_start(url: str) -> None:
    async with engine_at(url) as (_, store):
        await store.append(events_of("a@x"))
    app = Application(url, synchronize=False)
    app.store.events.register(Tagged)
    with pytest.raises(TagsMissingError):
        await app.start()
    warned = Application(url, synchronize=False, options=Options(log=LogOptions(changed_tags="warn")))
    warned.store.events.register(Tagged)
    async with warned:
        pass


async def test_an_append_without_a_start_is_refused_too_and_stores_nothing(store: EventStore) -> None:
    await store.append(events_of("a@x"))
    other = known(store)
    with pytest.raises(TagsMissingError):
        await other.append(events_of("b@x", cls=Tagged))
    assert await store.head() == 1
    with pytest.raises(TagsMissingError):  # and not only the first one
        await other.append(events_of("b@x", cls=Tagged))


async def test_a_transaction_is_refused_too(store: EventStore) -> None:
    await store.append(events_of("a@x"))
    with pytest.raises(TagsMissingError):
        async with known(store).transaction() as tx:
            tx.append(events_of("b@x", cls=Tagged))
    assert await store.head() == 1


async def test_events_of_a_transaction_carry_their_tags_for_the_next_start(store: EventStore) -> None:
    async with known(store).transaction() as tx:
        tx.append(events_of("b@x", cls=Tagged))
    await known(store, Tagged).compare_tags()


async def test_a_warning_is_enough_if_the_options_say_so(store: EventStore, caplog: pytest.LogCaptureFixture) -> None:
    await store.append(events_of("a@x"))
    with caplog.at_level(logging.WARNING):
        warned = known(store, Tagged, changed_tags="warn")
        await warned.compare_tags()
        await warned.append(events_of("b@x", cls=Tagged))
    assert "lack the tag email" in caplog.text
    caplog.clear()
    await known(store, Tagged, changed_tags="ignore").compare_tags()
    assert not caplog.text
    with pytest.raises(TagsMissingError):  # what a warning let pass is not recorded as done
        await known(store, Tagged).compare_tags()


async def test_a_class_that_always_had_its_tag_starts_and_appends(store: EventStore) -> None:
    for _ in range(2):
        again = known(store, Tagged)
        await again.compare_tags()
        await again.append(events_of("a@x", cls=Tagged))


async def test_a_type_without_events_may_get_a_tag(store: EventStore) -> None:
    store.events.register(Untagged)
    await store.compare_tags()
    await known(store, Tagged).compare_tags()
    await known(store).append(events_of("a@x", cls=Tagged))


async def test_a_tag_that_is_given_up_is_told_and_missing_when_it_comes_back(
    store: EventStore, caplog: pytest.LogCaptureFixture
) -> None:
    await store.append(events_of("a@x", cls=Tagged))
    with caplog.at_level(logging.WARNING):
        older = known(store, Untagged)
        await older.compare_tags()
        await known(store, Tagged).compare_tags()  # as long as that process has appended nothing
        await older.append(events_of("b@x"))
    assert "events of the type GuestRegistered no longer carry email" in caplog.text
    with pytest.raises(TagsMissingError):
        await known(store, Tagged).compare_tags()
    done = await add_tags(known(store, Tagged), NAME, write=True)
    assert (done.events, done.lacking, done.first) == (2, 1, 2)
    await known(store, Tagged).compare_tags()


async def test_a_tag_under_another_name_is_a_new_one_and_the_former_stays_on_the_old_events(store: EventStore) -> None:
    await store.append(events_of("a@x", cls=Tagged))
    renamed = known(store, Renamed)
    with pytest.raises(TagsMissingError, match="lack the tag mail"):
        await renamed.compare_tags()
    await add_tags(renamed, NAME, write=True)
    await renamed.append(events_of("a@x", cls=Renamed))
    assert await found_by(renamed, "mail:a@x") == [1, 2]
    assert await found_by(renamed, "email:a@x") == [1]


async def test_events_under_a_former_name_are_compared_and_get_tags_too(store: EventStore) -> None:
    await store.append(events_of("a@x"))
    moved = known(store, Moved)
    with pytest.raises(TagsMissingError, match=NAME):
        await moved.compare_tags()
    await add_tags(moved, "GuestKnown", write=True)
    await moved.append(events_of("a@x", cls=Moved))
    assert await found_by(moved, "email:a@x") == [1, 2]


async def test_without_a_word_it_only_looks(store: EventStore) -> None:
    await store.append(events_of("a@x", "b@x"))
    tagged = known(store, Tagged)
    found = await add_tags(tagged, NAME)
    assert (found.events, found.lacking, found.first, found.tags) == (2, 2, 1, ("email:a@x",))
    assert await found_by(tagged, "email:a@x") == []
    with pytest.raises(TagsMissingError):
        await tagged.compare_tags()


async def test_old_events_are_found_by_their_tags_afterwards_and_nothing_else_of_them_has_changed(
    store: EventStore,
) -> None:
    await store.append_events("Guest-1", "Guest", events_of("a@x", "b@x", "a@x"), expected_version=0)
    await store.append(events_of("c@x"))
    before = [each.stored for each in [each async for each in store.read()]]
    tagged = known(store, Tagged)
    done = await add_tags(tagged, NAME, write=True)
    assert (done.events, done.lacking) == (4, 4)
    await tagged.compare_tags()
    assert await found_by(tagged, "email:a@x") == [1, 3]
    after = [each async for each in tagged.read()]
    assert [each.tags for each in after] == [("email:a@x",), ("email:b@x",), ("email:a@x",), ("email:c@x",)]
    unlike = ("tags", "checksum")
    for old, new in zip(before, (each.stored for each in after), strict=True):
        same = [name for name in old.__struct_fields__ if getattr(old, name) == getattr(new, name)]
        assert set(old.__struct_fields__) - set(same) == set(unlike)
    assert await verify_log(cast(PortableLog, store.log)) == 4
    assert [each.event async for each in tagged.read_stream("Guest-1")] == events_of("a@x", "b@x", "a@x", cls=Tagged)


async def test_a_rule_on_old_events_holds_afterwards(store: EventStore) -> None:
    await store.append(events_of("a@x"))
    tagged = known(store, Tagged)
    await add_tags(tagged, NAME, write=True)
    with pytest.raises(ValueTakenError):
        await tagged.decide(unique("email", of=Tagged, value="a@x"))


async def test_running_it_again_changes_nothing(store: EventStore) -> None:
    await store.append(events_of("a@x"))
    tagged = known(store, Tagged)
    await add_tags(tagged, NAME, write=True)
    before = [each.stored async for each in tagged.read()]
    assert (await add_tags(tagged, NAME, write=True)).lacking == 0
    assert [each.stored async for each in tagged.read()] == before


async def test_interrupted_it_goes_on_when_it_is_run_again(store: EventStore) -> None:
    await store.append(events_of(*(f"{n}@x" for n in range(600))))
    tagged = known(store, Tagged)

    def interrupt(stage: str, position: int, end: int) -> None:
        raise InterruptedByUserError

    with pytest.raises(InterruptedByUserError):
        await add_tags(tagged, NAME, write=True, progress=interrupt)
    with pytest.raises(TagsMissingError):
        await tagged.compare_tags()
    done = await add_tags(tagged, NAME, write=True)
    assert (done.events, 0 < done.lacking < 600) == (600, True)
    assert await found_by(tagged, "email:599@x") == [600]
    await tagged.compare_tags()


async def test_while_others_write_no_event_is_left_out(store: EventStore, url: str) -> None:
    await store.append(events_of(*(f"{n}@x" for n in range(500))))
    stop = asyncio.Event()

    async def write_on(other: EventStore, cls: type) -> int:
        count = 0
        while not stop.is_set():
            await other.append(events_of(f"{cls.__name__}{count}@x", cls=cls))
            count += 1
        return count

    async with engine_at(url) as (engine, _):
        tagged = EventStore(engine.log, options=LogOptions(changed_tags="warn"))
        tagged.events.register(Tagged)
        writers = [asyncio.create_task(write_on(store, Untagged)), asyncio.create_task(write_on(tagged, Tagged))]
        await asyncio.sleep(0)
        with suppress(TagsMissingError):  # if the others leave it no moment to record that it is done
            await add_tags(tagged, NAME, write=True)
        stop.set()
        counts = await asyncio.gather(*writers)
        await add_tags(tagged, NAME, write=True)  # once no process with the older class is left
        lacking = [each.position async for each in tagged.read() if not each.tags]
        assert lacking == []
        assert await verify_log(cast(PortableLog, engine.log)) == 500 + sum(counts)


async def test_an_event_that_is_appended_at_the_last_moment_gets_its_tags_before_anything_is_recorded(
    store: EventStore,
) -> None:
    await store.append(events_of("a@x"))
    log, tagged = cast(PortableLog, store.log), known(store, Tagged)
    record, calls = log.record_tagged_types, 0

    async def late(types: dict[str, str], *, seen: int | None = None) -> bool:
        nonlocal calls
        calls += 1
        if calls == 2:  # the first call records that the tag is missing
            await store.append(events_of("late@x"))
        return await record(types, seen=seen)

    log.record_tagged_types = late  # type: ignore[method-assign, assignment]
    await add_tags(tagged, NAME, write=True)
    assert (calls, await found_by(tagged, "email:late@x")) == (3, [2])


async def test_a_type_that_the_application_does_not_know_is_refused(store: EventStore) -> None:
    with pytest.raises(UnknownTypeError, match="no events of the type 'Guest'; it has GuestRegistered"):
        await add_tags(known(store, Tagged), "Guest", write=True)


async def test_a_copy_carries_what_is_recorded_of_the_types(store: EventStore) -> None:
    await store.append(events_of("a@x"))
    await add_tags(known(store, Tagged), NAME, write=True)
    target = MemoryEventLog()
    await copy_log(cast(PortableLog, store.log), target)
    assert await target.tagged_types() == await cast(PortableLog, store.log).tagged_types()
    copied = known(EventStore(target), Tagged)
    await copied.compare_tags()
    assert await found_by(copied, "email:a@x") == [1]


async def test_a_copy_that_was_made_before_gets_the_tags_with_the_next_run(store: EventStore, tmp_path: Path) -> None:
    await store.append(events_of("a@x", "b@x"))
    async with engine_at(f"sqlite:///{tmp_path}/copy.db") as (engine, _):
        target = cast(PortableLog, engine.log)
        await copy_log(cast(PortableLog, store.log), target)
        await add_tags(known(store, Tagged), NAME, write=True)
        await copy_log(cast(PortableLog, store.log), target)
        assert await found_by(known(EventStore(target), Tagged), "email:b@x") == [2]


async def test_an_old_event_that_cannot_be_read_holds_up_no_append(store: EventStore) -> None:
    @event_type(NAME)
    @dataclass(frozen=True, kw_only=True)
    class Other(Event):
        name: str

    await store.append([Other(name="x")])
    await known(store).append(events_of("a@x", cls=Tagged))
    assert await store.head() == 2
