"""Spans as they are made of events, and the document that lists them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from orchestrator import events
from orchestrator.observe import spans, trace_ids, trace_runs
from orchestrator.observe.rollouts import Rollouts
from orchestrator.observe.spans import Span
from orchestrator.observe.tracing import Tracing
from tests.unit.observe import samples
from tests.unit.observe.samples import at

DOCUMENT = Path(__file__).parents[3] / "docs" / "tracing.md"
WHO: dict[str, Any] = {"rollout": "r1", "track": "app", "tenant": "acme", "shard": "pg-1"}
BACKFILL: dict[str, Any] = {**WHO, "revision": "b2", "direction": "upgrade", "ordinal": 1, "table": "t"}


class Traced:
    def __init__(self, **given: Any) -> None:
        self.spans: list[Span] = []
        self.rollouts = Rollouts()
        numbers = count(1)
        self.tracing = Tracing(self.spans.append, self.rollouts, new_id=lambda: next(numbers), **given)

    def tell(self, *told: events.Event) -> None:
        for event in told:
            self.tracing.apply(event)
            if isinstance(event, events.RolloutEvent):
                self.rollouts.apply(event)

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]


def wave(change: str, seconds: float = 0.0, when: datetime | None = None) -> events.WaveChanged:
    return events.WaveChanged(
        at=when or at(0), rollout="r1", track="app", wave="everyone", position=0, change=change, seconds=seconds
    )


def segment(**given: Any) -> events.SegmentRan:
    sent = events.Statement(
        operation="CREATE TABLE", text="CREATE TABLE t ()", began_at=at(1), seconds=1, revision="b2", batch=2
    )
    failed = events.Statement(operation="INSERT", text="INSERT", began_at=at(2), seconds=1, failed=True, code="23505")
    values: dict[str, Any] = {
        "wave": "everyone",
        "execution": "online",
        "revisions": ("b2",),
        "began_at": at(1),
        "seconds": 3.0,
        "system": "postgresql",
        "namespace": "acme",
        "server": "db",
        "port": 5432,
        "statements": (sent, failed),
        "unnamed": 1,
        "kind": "failed",
        "code": "23505",
    }
    return events.SegmentRan(at=at(4), **{**WHO, **values, **given})


def everything() -> Iterator[events.Event]:
    """A rollout in which each kind of span comes about, with all its attributes."""
    yield samples.created(total=1, waves={"everyone": 1})
    link = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    yield events.RolloutRequested(at=at(0), rollout="r1", track="app", traceparent=link)
    yield samples.changed("running", total=1, counts={"pending": 1})
    yield wave("started")
    yield samples.started("acme", at=at(1))
    waited = {name: WHO[name] for name in ("rollout", "track", "tenant", "shard")}
    yield events.LockWaited(at=at(1), seconds=0.1, acquired=True, **waited)
    yield segment()
    yield events.BackfillStarted(at=at(5), **BACKFILL)
    yield events.BackfillStopped(
        at=at(6), **BACKFILL, seen=1, changed=1, seconds=1, kind="failed", reason="anna", batches=(0.1,)
    )
    yield samples.finished(
        "acme", "failed", at=at(9), kind="failed", code="23505", revision="b2", signature="s", message="anna"
    )
    yield samples.changed(
        "failed", at=at(10), seconds=10.0, total=1, counts={"failed": 1}, waves={"everyone": {"failed": 1}}
    )


def test_the_document_lists_every_span_with_its_attributes() -> None:
    traced = Traced()
    traced.tell(*everything())
    found: dict[str, set[str]] = {}
    for span in traced.spans:
        found.setdefault("statement" if span.client else span.name, set()).update(span.attributes)
    told: dict[str, set[str]] = {}
    for line in DOCUMENT.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and cells[0].startswith("`") and cells[1].startswith(("`", "-")):
            told[cells[0].strip("`")] = set(cells[3].replace("`", "").split(", "))
    assert told == found


def test_the_document_tells_what_each_attribute_means() -> None:
    traced = Traced()
    traced.tell(*everything())
    used = {name for span in traced.spans for name in span.attributes}
    used |= {name for span in traced.spans for one in span.happenings for name in one.attributes}
    told = set(re.findall(r"^- `([\w.]+)`: ", DOCUMENT.read_text(), re.MULTILINE))
    assert used <= told
    assert told <= used | {"orchestrator.reason", "orchestrator.seconds", "orchestrator.attempt"}


def test_no_message_reaches_a_span() -> None:
    traced = Traced()
    traced.tell(*everything())
    assert "anna" not in repr(traced.spans)


def test_a_wave_that_began_in_another_process_has_its_beginning_all_the_same() -> None:
    traced = Traced()
    traced.tell(samples.changed("running", at=at(100)), samples.started("acme", at=at(101)))
    traced.tell(samples.finished("acme", at=at(110)), wave("ended", 100, at(110)), wave("passed", 100, at(110)))
    (one,) = traced.named(spans.WAVE)
    assert (one.began_at, one.ended_at, one.error) == (at(10), at(110), None)
    assert one.span_id == trace_ids.of_span("r1", "everyone")
    assert one.parent_id == trace_ids.of_span("r1")


def test_a_target_that_is_tried_again_keeps_its_span() -> None:
    traced = Traced(detailed=0)
    traced.tell(samples.started("acme", at=at(1)), segment(), samples.retried("acme"))
    traced.tell(samples.started("acme", at=at(9), attempt=2), segment(kind=None, code=None))
    traced.tell(samples.finished("acme", at=at(12), attempts=2))
    (one,) = traced.named(spans.MIGRATION)
    assert [name.name for name in one.happenings] == ["attempt", "retried", "attempt"]
    segments = traced.named(spans.SEGMENT)
    assert [found.attributes["orchestrator.attempt"] for found in segments] == [1, 2]
    assert {found.parent_id for found in segments} == {one.span_id}


def test_what_was_never_begun_has_a_span_only_if_it_failed() -> None:
    traced = Traced()
    traced.tell(samples.finished("a", "up_to_date"), samples.finished("b", "skipped"))
    traced.tell(samples.finished("c", "unreachable", kind="unreachable"))
    assert [one.attributes["orchestrator.tenant"] for one in traced.spans] == ["c"]


def test_details_are_bounded_by_wave() -> None:
    traced = Traced(detailed=1)
    for tenant in ("a", "b"):
        traced.tell(samples.started(tenant), segment(tenant=tenant, kind=None, code=None), samples.finished(tenant))
    assert [one.attributes["orchestrator.detailed"] for one in traced.named(spans.MIGRATION)] == [True, False]
    assert len(traced.named(spans.SEGMENT)) == 1


def test_what_is_open_is_sent_as_interrupted_at_the_end() -> None:
    traced = Traced(detailed=0)
    traced.tell(samples.started("acme", at=at(1)), segment())
    traced.tracing.close(at(20))
    (one,) = traced.named(spans.MIGRATION)
    assert (one.error, one.ended_at) == ("interrupted", at(20))
    assert traced.named(spans.SEGMENT)


def test_a_migration_that_has_just_ended_is_still_known_by_its_ids() -> None:
    traced = Traced()
    traced.tell(samples.started("acme"))
    ended = samples.finished("acme")
    traced.tell(ended)
    found = traced.tracing.exemplar(ended)
    assert found == {
        "trace_id": trace_ids.shown_trace(trace_ids.of_rollout("r1")),
        "span_id": trace_ids.shown_span(traced.named(spans.MIGRATION)[0].span_id),
    }
    assert traced.tracing.exemplar(samples.finished("other")) is None
    assert traced.tracing.ids(events.LeaderElected(leader="a", epoch=1)) == {}


def test_nothing_is_made_of_a_trace_that_nobody_wants() -> None:
    traced = Traced(wanted=lambda trace_id: False)
    traced.tell(*everything())
    assert not traced.spans
    assert traced.tracing.ids(samples.created()) == {}


def test_holds_are_told_on_the_backfills_that_they_held() -> None:
    traced = Traced()
    traced.tell(events.BackfillStarted(at=at(5), **BACKFILL))
    for shard in ("pg-1", "pg-2"):
        traced.tell(events.BackfillReleased(at=at(8), shard=shard, reason="load", seconds=2.0))
    traced.tell(events.BackfillFinished(at=at(9), **BACKFILL, seen=5, changed=5, seconds=4, batches=(0.1, 0.2)))
    (one,) = traced.named(spans.BACKFILL)
    assert [(held.name, held.at) for held in one.happenings] == [("held", at(6))]
    assert (one.attributes["orchestrator.backfill.rows"], one.attributes["orchestrator.backfill.batches"]) == (5, 2)


@pytest.mark.parametrize("number", range(3))
def test_ids_follow_from_rollout_and_wave(number: int) -> None:
    """That they are the same in every process and release is held by examples in `trace_ids`."""
    name = f"20261121-04050{number}-abcd"
    assert trace_ids.of_rollout(name) != trace_ids.of_rollout(name + "e")
    assert len({trace_ids.of_span(name), trace_ids.of_span(name, "a"), trace_ids.of_span(name, "b")}) == 3


def test_nothing_is_kept_of_a_rollout_that_has_ended() -> None:
    traced = Traced()
    traced.tell(*everything(), samples.created(), samples.changed("running"), wave("started"), samples.started("b"))
    traced.tell(events.BackfillStarted(at=at(5), **BACKFILL), samples.changed("aborted", at=at(9), seconds=9.0))
    kept = {name: value for name, value in vars(traced.tracing).items() if isinstance(value, dict) and value}
    assert kept.keys() == {"_ended"}, "which is bounded"


def failing(end: float) -> Iterator[events.Event]:
    """One target fails, and so does the rollout."""
    yield wave("started", when=at(end - 4))
    yield samples.started("acme", at=at(end - 3))
    yield samples.finished("acme", "failed", at=at(end - 2), signature="s")
    yield wave("passed", end - 1, at(end - 1))
    yield samples.changed("failed", at=at(end), seconds=end, total=1, counts={"failed": 1})


def test_a_rollout_that_is_retried_has_a_span_for_each_run() -> None:
    traced = Traced()
    traced.tell(samples.created(total=1, waves={"everyone": 1}), samples.changed(total=1), *failing(10))
    traced.tell(samples.changed(at=at(90), total=1, counts={"pending": 1}), *failing(100))
    first, second = traced.named(spans.ROLLOUT)
    assert [one.attributes["orchestrator.attempt"] for one in (first, second)] == [1, 2]
    assert (first.span_id, first.began_at, first.ended_at) == (trace_ids.of_span("r1"), at(0), at(10))
    assert (second.began_at, second.ended_at) == (at(90), at(100))
    waves = traced.named(spans.WAVE)
    assert [one.parent_id for one in waves] == [first.span_id, second.span_id]
    assert [one.attributes["orchestrator.attempt"] for one in waves] == [1, 2]
    assert waves[1].began_at == at(90), "it was first begun in the run before"
    assert [one.parent_id for one in traced.named(spans.MIGRATION)] == [one.span_id for one in waves]
    assert len({one.span_id for one in traced.spans}) == len(traced.spans)


def test_a_wave_that_is_gone_through_again_has_a_further_span() -> None:
    traced = Traced()
    traced.tell(samples.created(total=1, waves={"everyone": 1}), samples.changed(total=1))
    traced.tell(*list(failing(10))[:-1])
    traced.tell(samples.started("acme", at=at(20)), samples.finished("acme", "rolled_back", at=at(25)))
    traced.tell(samples.changed("rolled_back", at=at(30), seconds=30.0, total=1, counts={"rolled_back": 1}))
    there, back = traced.named(spans.WAVE)
    assert there.span_id == trace_ids.of_span("r1", "everyone") != back.span_id
    assert [one.parent_id for one in traced.named(spans.MIGRATION)] == [there.span_id, back.span_id]


def test_who_takes_a_rollout_up_goes_on_in_its_run() -> None:
    one = Traced()
    one.tell(samples.created(total=1, waves={"everyone": 1}), samples.changed(total=1), *failing(10))
    one.tell(samples.changed(at=at(90), total=1, counts={"pending": 1}), *failing(100))
    other = Traced()
    other.tracing.runs.recall("r1", 2, at(90), {})
    other.tell(samples.changed(at=at(92), total=1, counts={"pending": 1}), *failing(100))
    (same,), (again,) = one.named(spans.ROLLOUT)[1:], other.named(spans.ROLLOUT)
    assert (again.span_id, again.began_at) == (same.span_id, same.began_at)
    assert other.named(spans.WAVE)[0].span_id == one.named(spans.WAVE)[1].span_id
    later = Traced()
    later.tracing.runs.recall("r1", 1, at(0), {"everyone": 1})
    later.tell(samples.changed(total=1), samples.started("acme", at=at(20)))
    later.tell(samples.changed("aborted", at=at(30), total=1))
    assert later.named(spans.WAVE)[0].span_id != trace_ids.of_span("r1", "everyone"), "that was sent when it passed"


def test_of_rollouts_that_are_over_so_many_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_runs, "REMEMBERED", 3)
    runs = trace_runs.Runs()
    for number in range(10):
        runs.begin(f"r{number}", at(0))
        runs.end(f"r{number}")
    assert list(runs._runs) == ["r7", "r8", "r9"]
