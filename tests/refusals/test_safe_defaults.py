"""What is safe without a word of the application's, and which word lets go of it. On each engine."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
from tests.accounts import Balances, Deposited, GetBalance, Opened, wire
from tests.any_values import Size
from tests.cli.typed import Done, Twofold
from tests.synchronizing import PATIENCE, QUICK, engine_at, write

from twofold import (
    Application,
    Command,
    Decision,
    DecisionModel,
    Event,
    EventQuery,
    EventStore,
    Reaction,
    ReadModelSynchronizer,
    Tag,
    ValueTakenError,
    unique,
)
from twofold.cli.commands import run
from twofold.engines.engine import Engine
from twofold.errors import InvalidProjectionError
from twofold.options import Options


@pytest.fixture
def twofold(capsys: pytest.CaptureFixture[str]) -> Twofold:
    """Run the command in this process."""

    def run_it(*arguments: str) -> Done:
        code = run(arguments)
        return Done(code, *capsys.readouterr())

    return run_it


@dataclass(frozen=True, kw_only=True)
class Claimed(Event):
    name: Annotated[str, Tag("claim")]


@dataclass(frozen=True, kw_only=True)
class Claim(Command[None]):
    name: str


def only_one(name: str) -> DecisionModel[bool]:
    query = EventQuery.of(Claimed, tags=[f"claim:{name}"])
    return DecisionModel(query=query, initial_state=False, evolve=lambda is_claimed, event: True)


async def outcomes(url: str, decides: Any) -> list[Any]:
    """Let five commands claim one name at the same moment; return what came of them."""
    app, begun = Application(url, synchronize=False), asyncio.Barrier(5)
    app.store.events.register(Claimed)
    waited: set[object] = set()

    async def claim(command: Claim) -> None:
        is_claimed = await decides(app.store, command.name)
        if command.command_id not in waited:  # all have read before one writes
            waited.add(command.command_id)
            await begun.wait()
        if is_claimed:
            raise ValueTakenError("name", command.name)
        await app.store.append([Claimed(name=command.name)])

    app.commands.register(Claim, claim)
    async with app, asyncio.timeout(PATIENCE):
        commands = [Claim(name="x") for _ in range(5)]
        return await asyncio.gather(*map(app.commands.dispatch, commands), return_exceptions=True)


async def test_of_five_commands_on_one_rule_one_wins_without_a_condition_of_theirs(url: str) -> None:
    async def decides(store: EventStore, name: str) -> bool:
        decision: Decision[bool] = await store.decide(only_one(name))
        return decision.state

    found = await outcomes(url, decides)
    assert found.count(None) == 1
    assert sum(isinstance(each, ValueTakenError) for each in found) == 4


async def test_a_handler_that_only_looks_depends_on_nothing_and_says_so_by_that_name(url: str) -> None:
    async def looks(store: EventStore, name: str) -> bool:
        return await store.look(only_one(name))

    assert (await outcomes(url, looks)).count(None) == 5


@pytest.mark.parametrize("value", ["ann@x", 7, "ANN@X"])
async def test_a_value_that_is_taken_is_refused_in_one_line(store: EventStore, value: Any) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Registered(Event):
        email: Annotated[Any, Tag("email")]

    await store.append([Registered(email=value)])
    with pytest.raises(ValueTakenError):
        await store.decide(unique("email", of=Registered, value=value))
    await store.decide(unique("email", of=Registered, value=f"{value}'s"))


async def test_a_member_of_an_enumeration_is_looked_up_as_its_tag_is_written(store: EventStore) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Sized(Event):
        size: Annotated[Size, Tag("size")]

    await store.append([Sized(size=Size.LARGE)])
    with pytest.raises(ValueTakenError):
        await store.decide(unique("size", of=Sized, value=Size.LARGE))


class Mails(Reaction):
    name = "mails"

    def __init__(self) -> None:
        self.sent: list[str] = []

    def handles(self) -> tuple[type, ...]:
        return (Opened,)

    async def apply(self, event: Opened) -> None:
        self.sent.append(event.account)


async def mailed(engine: Engine, store: EventStore, *accounts: str) -> tuple[ReadModelSynchronizer, Mails]:
    """Return a reaction that has done its work for accounts."""
    mails = Mails()
    synchronizer = ReadModelSynchronizer(store, engine.read_database, options=QUICK)
    synchronizer.add(mails, start="beginning")
    await write(store, *(Opened(account=each) for each in accounts))
    await synchronizer.run_once(PATIENCE)
    return synchronizer, mails


@pytest.mark.parametrize(("verb", "arguments"), [("reset", ()), ("set_position", (0,)), ("set_position", (2,))])
async def test_a_reaction_is_set_elsewhere_only_with_the_word_for_it(
    engine: Engine, store: EventStore, verb: str, arguments: tuple[int, ...]
) -> None:
    synchronizer, mails = await mailed(engine, store, "a", "b")
    control: Any = synchronizer.control("mails")
    with pytest.raises(InvalidProjectionError, match=r"mails is a reaction.*write \w+\(.*despite_effects=True\)"):
        await getattr(control, verb)(*arguments)
    await synchronizer.run_once(PATIENCE)
    assert mails.sent == ["a", "b"]
    await getattr(control, verb)(*arguments, despite_effects=True)
    await synchronizer.run_once(PATIENCE)
    assert mails.sent == ["a", "b"] * (1 if arguments == (2,) else 2)


async def test_a_reaction_is_not_rebuilt_at_all(engine: Engine, store: EventStore) -> None:
    synchronizer, mails = await mailed(engine, store, "a")
    with pytest.raises(InvalidProjectionError, match="mails is a reaction"):
        await synchronizer.rebuild_projection("mails")
    assert mails.sent == ["a"]


def test_copying_a_log_takes_its_reactions_along_so_that_they_do_nothing_again(
    url: str, tmp_path: Path, twofold: Twofold
) -> None:
    target, sent = f"sqlite:///{tmp_path}/copy.db", asyncio.run(work_on(url, "a", "b"))
    done = twofold("copy", url, target)
    assert done.returncode == 0, done.stderr
    assert "reactions that go on where they stand: mails" in done.stdout
    sent += asyncio.run(work_on(url, "c"))
    assert "mails" in twofold("copy", url, target).stdout  # once more, as the application has gone on
    sent += asyncio.run(work_on(target, "d"))
    assert sent == ["a", "b", "c", "d"]
    assert asyncio.run(work_on(target)) == []


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_file_of_a_log_takes_its_reactions_along_so_that_they_do_nothing_again(
    url: str, tmp_path: Path, twofold: Twofold, suffix: str
) -> None:
    target, file = f"sqlite:///{tmp_path}/copy.db", f"{tmp_path}/log.{suffix}"
    sent = asyncio.run(work_on(url, "a", "b", "c"))
    asyncio.run(add_events(url, "d"))  # which is not done when the log is exported
    assert twofold("export", url, file).returncode == 0
    assert "reactions that go on where they stand: mails" in twofold("import", file, target).stdout
    sent += asyncio.run(work_on(target))
    assert sent == ["a", "b", "c", "d"]
    assert "mails" not in twofold("import", file, target).stdout  # it is further by now
    assert asyncio.run(work_on(target)) == []


def test_files_that_follow_each_other_take_a_reaction_as_far_as_each_goes(tmp_path: Path, twofold: Twofold) -> None:
    source, target = (f"sqlite:///{tmp_path}/{name}.db" for name in ("source", "copy"))
    assert asyncio.run(work_on(source, "a", "b", "c")) == ["a", "b", "c"]
    for name, part in (("first", ("--to", "2")), ("second", ("--from", "3"))):
        twofold("export", source, f"{tmp_path}/{name}.jsonl", *part)
        assert "mails" in twofold("import", f"{tmp_path}/{name}.jsonl", target).stdout
        assert asyncio.run(work_on(target)) == []


def test_a_log_of_chosen_events_is_another_one_for_its_reactions(tmp_path: Path, twofold: Twofold) -> None:
    source, target = (f"sqlite:///{tmp_path}/{name}.db" for name in ("source", "copy"))
    asyncio.run(work_on(source, "a", "b"))
    twofold("export", source, f"{tmp_path}/log.jsonl", "--tag", "account:b")
    assert "mails" not in twofold("import", f"{tmp_path}/log.jsonl", target).stdout
    assert asyncio.run(work_on(target)) == ["b"]


def test_a_reaction_that_is_further_beside_the_copy_is_left_alone(tmp_path: Path, twofold: Twofold) -> None:
    source, target = (f"sqlite:///{tmp_path}/{name}.db" for name in ("source", "copy"))
    asyncio.run(work_on(source, "a"))
    asyncio.run(add_events(source, "b"))
    twofold("copy", source, target)
    assert asyncio.run(work_on(target)) == ["b"]
    assert "mails" not in twofold("copy", source, target).stdout
    assert asyncio.run(work_on(target)) == []


async def work_on(url: str, *accounts: str) -> list[str]:
    """Run the reaction up to the end of the log, with more accounts; return what it has done."""
    async with engine_at(url) as (engine, store):
        mails = Mails()
        synchronizer = ReadModelSynchronizer(store, engine.read_database, options=QUICK)
        synchronizer.add(mails, start="beginning")
        if accounts:
            await write(store, *(Opened(account=each) for each in accounts))
        await synchronizer.run_once(PATIENCE)
        return mails.sent


async def add_events(url: str, *accounts: str) -> None:
    async with engine_at(url) as (_, store):
        await write(store, *(Opened(account=each) for each in accounts))


async def test_an_answer_about_a_row_with_parked_events_is_stale(url: str) -> None:
    class Fussy(Balances):
        def apply(self, row: Any, recorded: Any) -> Any:
            if isinstance(recorded.event, Deposited):
                raise ValueError("not today")
            return super().apply(row, recorded)

    app = Application(url, synchronize=False, options=Options(synchronizer=QUICK))
    wire(app)
    balances = app.projections.add(Fussy())

    async def answer(query: GetBalance) -> Any:
        return await balances.get(query.account)

    app.queries.register(GetBalance, answer)
    async with app:
        await write(app.store, Opened(account="a"), Opened(account="b"), Deposited(account="a", amount=1))  # type: ignore[arg-type]
        await app.projections.run_once(PATIENCE)
        assert (await app.queries.ask(GetBalance("a"))).stale
        assert not (await app.queries.ask(GetBalance("b"))).stale
