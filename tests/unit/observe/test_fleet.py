from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import events
from orchestrator.observe import fleet, rollouts
from orchestrator.observe.fleet import Fleet, TargetPicture
from orchestrator.rollout import state as states
from tests.unit.observe import samples
from tests.unit.observe.samples import Place, at


def make(*tenants: str) -> Fleet:
    made = Fleet()
    made.set_targets(Place(tenant) for tenant in tenants)
    return made


def picture(of: Fleet, tenant: str = "acme") -> TargetPicture:
    found = of.target(tenant, "app")
    assert found is not None
    return found


def test_the_words_are_those_of_the_rollout() -> None:
    assert set(fleet.FLEET_STATES) == set(states.FleetState)
    assert set(rollouts.MIGRATION_STATES) == set(states.MigrationState)
    assert set(rollouts.OUTCOMES) == states.OUTCOMES
    assert rollouts.FINISHED == states.FINISHED


def test_a_target_is_unknown_until_it_is_read() -> None:
    assert picture(make("acme")) == TargetPicture("pg-1", "unknown")


def test_a_reading_is_taken_over() -> None:
    it = make("acme")
    it.apply(samples.observed(state="behind", at=at(5)))
    assert picture(it) == TargetPicture("pg-1", "behind", ("a1",), at(5), None, at(5))


def test_a_failed_reading_keeps_what_was_known() -> None:
    it = make("acme")
    it.apply(samples.observed(state="behind", at=at(5)))
    it.apply(samples.observed(state="unreachable", heads=(), message="refused", at=at(9)))
    assert picture(it) == TargetPicture("pg-1", "unreachable", ("a1",), at(5), "refused", at(5))


@pytest.mark.parametrize(
    ("event", "goal", "state", "heads"),
    [
        (samples.finished(), {"b2"}, "up_to_date", ("b2",)),
        (samples.finished(), None, "up_to_date", ("b2",)),
        (samples.finished(), {"c3"}, "behind", ("b2",)),
        (samples.finished(to_heads=()), {"b2"}, "unprovisioned", ()),
        (samples.finished(outcome="up_to_date"), {"b2"}, "up_to_date", ("b2",)),
        (samples.finished(outcome="failed"), {"c3"}, "behind", ("b2",)),
        (samples.finished(outcome="failed", to_heads=()), {"c3"}, "unknown", ()),
        (samples.finished(outcome="ahead", to_heads=("z9",)), {"b2"}, "ahead", ("z9",)),
        (samples.finished(outcome="unreachable"), {"b2"}, "unreachable", ()),
        (samples.finished(outcome="locked"), {"b2"}, "unknown", ()),
        (samples.finished(outcome="skipped"), {"b2"}, "unknown", ()),
    ],
)
def test_a_finished_migration_tells_of_its_target(
    event: events.MigrationFinished, goal: set[str] | None, state: str, heads: tuple[str, ...]
) -> None:
    it = make("acme")
    it.set_goals({"app": goal} if goal else {})
    it.apply(event)
    assert (picture(it).state, picture(it).heads) == (state, heads)


def test_pending_counts_from_when_it_was_first_seen_until_it_is_applied() -> None:
    it = make("acme", "globex")
    assert it.oldest_pending_seconds(at(0)) == {"app": 0.0}
    it.apply(samples.observed("acme", "behind", at=at(10)))
    it.apply(samples.observed("globex", "unprovisioned", at=at(20)))
    it.apply(samples.observed("acme", "unreachable", at=at(30)))
    it.apply(samples.observed("acme", "behind", at=at(40)))
    assert it.oldest_pending_seconds(at(110)) == {"app": 100.0}
    it.apply(samples.finished("acme"))
    assert it.oldest_pending_seconds(at(110)) == {"app": 90.0}
    it.apply(samples.finished("globex"))
    assert it.oldest_pending_seconds(at(110)) == {"app": 0.0}


def test_targets_that_left_the_registry_leave_the_sums() -> None:
    it = make("acme", "globex")
    it.apply(samples.observed("acme", "behind"))
    it.set_targets([Place("globex"), Place("initech")])
    it.apply(samples.observed("acme", "behind"))
    assert it.target("acme", "app") is None
    assert it.by_state() == {("app", "pg-1", "unknown"): 2}
    assert it.by_revision() == {}
    assert it.oldest_pending_seconds(at(100)) == {"app": 0.0}


def test_a_target_that_stays_keeps_its_picture_and_of_one_that_moved_only_since_when_it_is_pending() -> None:
    it = make("acme", "globex")
    it.apply(samples.observed("acme", "behind"))
    it.apply(samples.observed("globex", "behind", at=at(5)))
    it.set_targets([Place("acme"), Place("globex", shard="pg-2")])
    assert picture(it).state == "behind"
    it.set_targets([Place("globex", shard="pg-2")])
    assert picture(it, "globex") == TargetPicture("pg-2", pending_since=at(5))
    it.apply(samples.observed("globex", "behind", shard="pg-2", at=at(9)))
    assert it.oldest_pending_seconds(at(105)) == {"app": 100.0}
    it.set_targets([Place("globex", shard="pg-3")])
    it.apply(samples.observed("globex", "up_to_date", shard="pg-3", at=at(10)))
    assert it.pending() == {}


def test_a_target_with_several_heads_counts_for_each_and_one_without_for_base() -> None:
    it = make("acme", "globex", "initech")
    it.apply(samples.observed("acme", "up_to_date", heads=("a1", "b2")))
    it.apply(samples.observed("globex", "unprovisioned", heads=()))
    assert it.by_revision() == {("app", "a1"): 1, ("app", "b2"): 1, ("app", "base"): 1}


TENANTS = st.sampled_from(["acme", "globex", "initech"])
EVENTS = st.one_of(
    st.builds(samples.observed, TENANTS, st.sampled_from(fleet.FLEET_STATES)),
    st.builds(samples.finished, TENANTS, st.sampled_from(rollouts.OUTCOMES)),
    st.builds(samples.started, TENANTS),
    st.builds(samples.changed, st.sampled_from(sorted(states.RolloutState)), total=st.just(3)),
    st.just(samples.created(total=3)),
)


@given(st.lists(EVENTS, max_size=30))
def test_sums_always_equal_what_they_sum(happened: list[events.Event]) -> None:
    it = make("acme", "globex", "initech")
    for event in happened:
        it.apply(event)
    pictures = [picture(it, tenant) for tenant in ("acme", "globex", "initech")]
    assert it.by_state() == Counter(("app", p.shard, p.state) for p in pictures)
    assert it.by_revision() == Counter(("app", revision) for p in pictures for revision in fleet.revisions(p))
    assert it._pending.keys() == {
        (t, "app") for t in ("acme", "globex", "initech") if picture(it, t).pending_since is not None
    }


@given(st.lists(EVENTS, max_size=30))
def test_a_rollout_never_loses_or_invents_a_target(happened: list[events.Event]) -> None:
    it = make("acme", "globex", "initech")
    for event in [samples.created(total=3), *happened]:
        it.apply(event)
        for _id, active in it.rollouts.items():
            assert active.counts.total() in (active.total, 2)  # 2: an event that itself told of another sum
            assert all(n >= 0 for counts in active.waves.values() for n in counts.values())
            assert 0.0 <= active.progress_ratio <= 1.0


def test_since_when_targets_are_pending_outlives_the_process_that_saw_it() -> None:
    it = make("acme", "globex", "initech")
    it.apply(samples.observed("globex", state="behind", at=at(50)))
    it.apply(samples.observed("initech", state="up_to_date", at=at(50)))
    it.recall_pending({(tenant, "app"): at(10) for tenant in ("acme", "globex", "initech", "later")})
    assert it.pending() == {("acme", "app"): at(10), ("globex", "app"): at(10)}, "initech has been read since"
    assert it.oldest_pending_seconds(at(110)) == {"app": 100.0}
    it.set_targets(map(Place, ("acme", "globex", "initech", "later", "new")))
    assert it.pending().get(("later", "app")) == at(10), "its source has named it only now"
    for tenant in ("acme", "globex", "later"):
        it.apply(samples.observed(tenant, state="unreachable", heads=(), message="refused", at=at(60)))
    assert len(it.pending()) == 3
    it.apply(samples.observed("acme", state="behind", at=at(70)))
    it.apply(samples.observed("globex", state="up_to_date", at=at(70)))
    assert it.pending() == {("acme", "app"): at(10), ("later", "app"): at(10)}


def test_what_was_seen_before_the_earlier_process_counts() -> None:
    it = make("acme")
    it.apply(samples.observed(state="behind", at=at(5)))
    it.recall_pending({("acme", "app"): at(10)})
    assert it.pending() == {("acme", "app"): at(5)}
