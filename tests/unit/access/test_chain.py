"""What was done to a chain is found, and where."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from orchestrator.access import chain
from orchestrator.access.chain import START, Anchor, Row, Verification


def made(count: int) -> list[Row]:
    rows: list[Row] = []
    last = START
    for number in range(count):
        rows.append(chain.linked(last, {"action": "pause_rollout", "by": f"user:t{number}", "details": {"é": 1.5}}))
        last = Anchor(rows[-1].sequence, rows[-1].hash)
    return rows


def noted(rows: Sequence[Row]) -> Anchor:
    return Anchor(rows[-1].sequence, rows[-1].hash) if rows else START


def found(rows: Sequence[Row], note: Anchor, *anchors: Anchor) -> list[tuple[int, str]]:
    verification = Verification(anchors)
    verification.read(rows)
    return [(one.sequence, one.problem.split(":")[0]) for one in verification.end(note, note)]


def edited(rows: list[Row]) -> list[Row]:
    return [*rows[:2], replace(rows[2], text=rows[2].text.replace("user:t2", "user:tX")), *rows[3:]]


def edited_with_its_hash(rows: list[Row]) -> list[Row]:
    text = rows[2].text.replace("user:t2", "user:tX")
    return [*rows[:2], Row(3, text, chain.hashed(text)), *rows[3:]]


def deleted(rows: list[Row]) -> list[Row]:
    return [*rows[:2], *rows[3:]]


def deleted_and_numbered_anew(rows: list[Row]) -> list[Row]:
    rest = [replace(row, sequence=row.sequence - 1) for row in rows[3:]]
    return [*rows[:2], *rest]


def moved(rows: list[Row]) -> list[Row]:
    one, other = replace(rows[2], sequence=4), replace(rows[3], sequence=3)
    return [*rows[:2], other, one, *rows[4:]]


def begun_later(rows: list[Row]) -> list[Row]:
    return rows[2:]


def cut_off(rows: list[Row]) -> list[Row]:
    return rows[:3]


def emptied(rows: list[Row]) -> list[Row]:
    return []


def put_in(rows: list[Row]) -> list[Row]:
    return [*rows, chain.linked(noted(rows), {"action": "forged"})]


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (edited, {3: "edited"}),
        (edited_with_its_hash, {4: "it does not follow entry 3 as that is now"}),
        (deleted, {3: "missing"}),
        (deleted_and_numbered_anew, {3: "moved", 4: "moved", 5: "cut off"}),
        (moved, {3: "moved", 4: "moved"}),
        (begun_later, {1: "missing"}),
        (cut_off, {4: "cut off"}),
        (emptied, {1: "cut off"}),
        (put_in, {6: "put in"}),
    ],
)
def test_a_change_is_found(change: Callable[[list[Row]], list[Row]], where: dict[int, str]) -> None:
    rows = made(5)
    assert found(rows, noted(rows)) == []
    told = found(change(rows), noted(rows))
    assert where.items() <= dict(reversed(told)).items()


def test_what_was_cut_off_together_with_the_note_only_an_anchor_tells() -> None:
    rows = made(5)
    anchor = noted(rows)
    assert found(rows[:3], noted(rows[:3])) == []
    assert found(rows[:3], noted(rows[:3]), anchor) == [(4, "cut off")]
    assert found([], START, anchor) == [(1, "cut off")]


def test_a_chain_that_was_made_anew_only_an_anchor_tells() -> None:
    rows, others = made(5), []
    last = START
    for row in rows:
        others.append(chain.linked(last, {"action": "made up", "was": row.sequence}))
        last = Anchor(others[-1].sequence, others[-1].hash)
    assert found(others, last) == []
    [(sequence, problem)] = found(others, last, Anchor(3, rows[2].hash))
    assert (sequence, problem) == (3, f"its hash is {others[2].hash}, and the anchor says {rows[2].hash}")
    assert found(rows, noted(rows), Anchor(3, rows[2].hash), Anchor(5, rows[4].hash)) == []


def test_entries_may_come_while_it_is_verified() -> None:
    rows = made(5)
    verification = Verification()
    verification.read(rows)
    assert verification.end(noted(rows[:4]), noted(rows)) == []


def test_what_is_no_json_and_no_object_is_an_edited_entry() -> None:
    rows = made(2)
    for text in ("{", "[]", "", '"a"'):
        broken = [replace(rows[0], text=text), rows[1]]
        assert (1, "edited") in found(broken, noted(rows))
        assert broken[0].values == {"sequence": 1, "hash": rows[0].hash}


def test_an_export_holds_all_that_is_hashed_and_a_part_of_it_can_be_verified() -> None:
    rows = made(5)
    lines = [chain.canonical(row.values) for row in rows]
    assert [chain.exported(json.loads(line)) for line in lines] == rows
    part = Verification(last=chain.before(rows[2]))
    part.read(rows[2:])
    assert part.end() == []
    assert (part.began.sequence, part.entries) == (2, 3)
