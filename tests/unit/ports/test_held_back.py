"""Where a segment stands that holds tenants back, and what a process knows of it."""

from __future__ import annotations

from twofold.messages.mark import Mark
from twofold.ports.held_back import HeldBack, reached
from twofold.ports.positions import Positions
from twofold.ports.segments import Segment, Step

WHOLE = Segment("a", 1)
HELD = HeldBack(Mark(9, b"9"), {"acme": Mark(4, b"4"), "zen": Mark(6, b"6")})


def test_a_segment_is_complete_for_all_up_to_the_tenant_who_is_furthest_behind() -> None:
    assert (HELD.mark, HELD.of("zen"), HELD.of("other")) == (Mark(4, b"4"), Mark(6, b"6"), Mark(9, b"9"))
    assert HeldBack.stored(HELD.text) == HELD
    assert [reached(HELD.text, each) for each in ("acme", "zen", "other", "")] == [4, 6, 9, 9]


def test_a_tenant_who_has_come_to_where_the_others_are_is_held_back_no_more() -> None:
    moved = HELD.moved("acme", Mark(9, b"9"))
    assert (list(moved.tenants), moved.mark) == (["zen"], Mark(6, b"6"))
    ended = moved.moved("zen", Mark(9, b"9"))
    assert (ended.text, ended.mark, HeldBack.stored("")) == ("", Mark(9, b"9"), None)


def test_in_a_log_that_ends_earlier_no_tenant_is_further_than_its_end() -> None:
    assert HELD.up_to(Mark(5, b"5")) == HeldBack(Mark(5, b"5"), {"acme": Mark(4, b"4")})
    assert HELD.up_to(Mark(3, b"3")).mark == Mark(3, b"3")
    assert HELD.up_to(Mark(12)) == HELD


def test_a_step_for_a_tenant_that_ends_sooner_holds_the_tenant_back_from_there_on() -> None:
    alone = HeldBack(HELD.ahead, {"acme": HELD.tenants["acme"]})
    step = Step(WHOLE, 1, 4, 4, held_before=alone.text, held_after=alone.text, tenant="acme").ending_at(HELD.ahead)
    assert (step.after, step.held_after) == (9, "")
    sooner = step.ending_at(Mark(7, b"7"))
    assert (sooner.after, sooner.held_after) == (7, alone.moved("acme", Mark(7, b"7")).text)
    rest = step.following(sooner)
    assert (rest.before, rest.held_before, rest.after, rest.held_after) == (7, sooner.held_after, 9, "")


def test_a_process_knows_of_a_tenant_what_it_knows_of_all_and_more_while_others_are_held_back() -> None:
    positions = Positions()
    positions.reached(WHOLE, 1, 3)
    assert positions.watermark("a", 1, "other") is positions.watermark("a", 1)
    positions.reached(WHOLE, 1, 4, HELD.text)
    own = {tenant: positions.watermark("a", 1, tenant) for tenant in ("", "acme", "zen", "other")}
    assert [each.position for each in own.values()] == [4, 4, 6, 9]
    positions.reached(WHOLE, 1, 5, HELD.moved("acme", Mark(5)).moved("", Mark(12)).text)
    assert [each.position for each in own.values()] == [5, 5, 6, 12]
    positions.reached(WHOLE, 1, 12)
    assert [each.position for each in own.values()] == [12, 12, 12, 12]
    assert positions.watermark("a", 1, "other") is positions.watermark("a", 1)
