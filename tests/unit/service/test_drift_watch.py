"""Which track is looked at, and what becomes of the watch when a look goes wrong."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import structlog

from orchestrator.errors import StoreError
from orchestrator.events import now
from orchestrator.plan.drift import Standing
from orchestrator.plan.drift_records import Record
from orchestrator.registry.drifts import Drift
from orchestrator.registry.model import Registry, Track
from orchestrator.service.drift_watch import DriftWatch

pytestmark = pytest.mark.anyio


def registry(*names: str, digest: str = "one") -> Registry:
    tracks = {name: Track(name, script_location=Path("/"), drift=Drift(every_seconds=3600)) for name in names}
    return Registry(Path("/tenants.yaml"), digest, tracks, {}, ())


@dataclass
class FakeDrifting:
    """`surprise`: what the next look raises."""

    service: SimpleNamespace
    wanted: set[str] = field(default_factory=set)
    looked: list[str] = field(default_factory=list)
    surprise: Exception | None = None
    registry_afterwards: Registry | None = None

    async def look(self, registry: Registry, track: Track) -> list[Record]:
        assert track.name in registry.tracks
        self.looked.append(track.name)
        self.service.registry = self.registry_afterwards or self.service.registry
        if (surprise := self.surprise) is not None:
            self.surprise = None
            raise surprise
        return [Record("acme", track.name, "pg", Standing.EQUAL, now())]


class Fleet:
    def __init__(self, *names: str) -> None:
        self.described: list[dict[str, datetime]] = []
        self.service = SimpleNamespace(registry=registry(*names))
        self.drifting = self.service.drifting = FakeDrifting(self.service)
        drift = SimpleNamespace(describe=lambda _drifted, _unread, looked_at: self.described.append(looked_at))
        parts = SimpleNamespace(
            store=SimpleNamespace(drift=self), metrics=SimpleNamespace(drift=drift), source=self.service
        )
        self.watch = DriftWatch(cast(Any, parts), cast(Any, self.service))

    async def keep(self, tracks: set[str]) -> None: ...

    async def listed(self) -> list[Record]:
        """Nothing: first turns are spread over ten minutes."""
        return []

    async def due(self, **seconds_ago: float) -> None:
        """Have tracks been due for so long."""
        await self.watch.once()
        self.watch._due |= {name: now() - timedelta(seconds=ago) for name, ago in seconds_ago.items()}


async def test_what_is_asked_for_comes_first_and_then_what_has_waited_longest() -> None:
    fleet = Fleet("a", "b", "c")
    await fleet.due(a=5, b=50)
    fleet.drifting.wanted.add("c")
    for _ in range(4):
        await fleet.watch.once()
    assert fleet.drifting.looked == ["c", "b", "a"]
    assert set(fleet.described[-1]) == {"a", "b", "c"}


async def test_a_track_that_goes_while_another_is_looked_at_is_not_looked_at() -> None:
    fleet = Fleet("a", "b")
    await fleet.due(a=50, b=5)
    fleet.drifting.registry_afterwards = registry("a", digest="two")
    for _ in range(3):
        await fleet.watch.once()
    assert fleet.drifting.looked == ["a"]


async def test_a_bug_is_told_and_the_watch_goes_on() -> None:
    fleet = Fleet("a", "b")
    await fleet.due(a=50, b=5)
    fleet.drifting.surprise = ExceptionGroup("a surprise", [KeyError("x")])
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            await fleet.watch.once()
    assert fleet.drifting.looked == ["a", "b"]
    assert [(line["event"], line["track"]) for line in lines] == [("drift_look_crashed", "a")]


async def test_an_outage_of_the_store_is_the_watchs_to_tell() -> None:
    fleet = Fleet("a")
    await fleet.due(a=50)
    fleet.drifting.surprise = StoreError("no answer")
    with pytest.raises(StoreError):
        await fleet.watch.once()
    await fleet.watch.once()
    assert fleet.drifting.looked == ["a"], "it is tried again, though not at once"


async def test_a_registry_of_the_same_tracks_keeps_their_turns() -> None:
    fleet = Fleet("a")
    await fleet.due(a=50)
    fleet.service.registry = replace(fleet.service.registry, digest="two")
    await fleet.watch.once()
    assert fleet.drifting.looked == ["a"]
