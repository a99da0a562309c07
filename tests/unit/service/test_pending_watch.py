"""Since when targets are pending, between the fleet's picture and the store."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import SimpleNamespace
from typing import Any, cast

from orchestrator.observe.fleet import Fleet
from orchestrator.registry.model import TargetKey
from orchestrator.service.pending_watch import PendingWatch
from tests.unit.observe import samples
from tests.unit.observe.samples import Place, at

ACME, BETA = TargetKey("acme", "app"), TargetKey("beta", "app")


@dataclass
class Stored:
    """Takes the place of the store."""

    rows: dict[TargetKey, datetime] = field(default_factory=dict)
    writes: int = 0

    async def listed(self) -> Mapping[TargetKey, datetime]:
        return dict(self.rows)

    async def change(self, pending: Mapping[TargetKey, datetime], gone: Collection[TargetKey]) -> None:
        self.writes += 1
        self.rows = {key: since for key, since in {**self.rows, **pending}.items() if key not in gone}


class Scene:
    """A process, and what it knows of its fleet; `leads`: it does."""

    def __init__(self, stored: Stored, *, leads: bool = True, unanswered: Collection[str] = ()) -> None:
        self.fleet = Fleet()
        self.fleet.set_targets(map(Place, ("acme", "beta")))
        self.steering = SimpleNamespace(leads=leads)
        registry = SimpleNamespace(by_key={ACME: None, BETA: None}, unanswered=unanswered)
        parts = SimpleNamespace(fleet=self.fleet, store=SimpleNamespace(pending=stored))
        service = SimpleNamespace(steering=self.steering, registry=registry)
        self.watch = PendingWatch(cast(Any, parts), cast(Any, service))

    def observed(self, tenant: str, state: str, seconds: float) -> None:
        self.fleet.apply(samples.observed(tenant, state=state, at=at(seconds)))


async def test_what_a_leader_has_seen_is_known_to_the_next_process() -> None:
    stored = Stored()
    first = Scene(stored)
    first.observed("acme", "behind", 5)
    await first.watch.once()
    await first.watch.once()
    assert (stored.rows, stored.writes) == ({ACME: at(5)}, 1)
    second = Scene(stored)
    await second.watch.once()
    assert second.fleet.oldest_pending_seconds(at(105)) == {"app": 100.0}
    second.observed("acme", "up_to_date", 110)
    await second.watch.once()
    assert stored.rows == {}


async def test_a_standby_writes_nothing_and_takes_over_what_is_known_when_it_leads() -> None:
    stored = Stored()
    standby = Scene(stored, leads=False)
    standby.observed("acme", "behind", 500)
    await standby.watch.once()
    assert (stored.writes, standby.fleet.pending()) == (0, {ACME: at(500)})
    stored.rows = {ACME: at(5), BETA: at(6)}
    standby.observed("beta", "up_to_date", 510)
    standby.steering.leads = True
    await standby.watch.once()
    assert standby.fleet.pending() == {ACME: at(5)}
    assert stored.rows == {ACME: at(5)}, "it has read beta itself"


async def test_a_target_that_no_source_has_named_yet_is_not_forgotten() -> None:
    later = TargetKey("later", "app")
    stored = Stored({later: at(5)})
    waiting = Scene(stored, unanswered=["control"])
    await waiting.watch.once()
    assert stored.rows == {later: at(5)}
    whole = Scene(stored)
    await whole.watch.once()
    assert stored.rows == {}
