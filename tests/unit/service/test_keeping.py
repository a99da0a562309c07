"""What is written of backfills, and when."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from orchestrator.backfill.changes import GONE, changed
from orchestrator.backfill.model import Progress
from orchestrator.backfill.records import Record, standing
from orchestrator.backfill.view import Underway
from orchestrator.errors import LeadershipLostError, StoreError
from orchestrator.events import Event
from orchestrator.service import keeping
from orchestrator.service.keeping import Keeper
from tests.engine import until
from tests.unit.api.fake_backfills import LAG, START, underway
from tests.unit.observe import samples

RUNS = standing(underway())


def of(*records: Record) -> dict[Any, Record]:
    return {record.key: record for record in records}


@pytest.mark.parametrize("progress", [True, False])
def test_what_is_new_or_held_otherwise_is_written_at_once(progress: bool) -> None:
    held = standing(underway(holds=(LAG,)))
    other = standing(underway(holds=(replace(LAG, reason="paused"),)))
    assert changed({}, of(RUNS), START, progress=progress) == [RUNS]
    assert changed(of(RUNS), of(RUNS), START, progress=progress) == []
    assert changed(of(RUNS), of(held), START, progress=progress) == [held]
    assert changed(of(held), of(other), START, progress=progress) == [other]
    assert changed(of(held), of(RUNS), START, progress=progress) == [RUNS]


def test_progress_is_written_when_it_is_time() -> None:
    later = standing(underway(progress=Progress(seen=999), size=7))
    told = standing(underway(holds=(replace(LAG, text="15 s behind"),)))
    held = standing(underway(holds=(LAG,)))
    assert changed(of(RUNS), of(later), START, progress=False) == []
    assert changed(of(RUNS), of(later), START, progress=True) == [later]
    assert changed(of(held), of(told), START, progress=False) == []


def test_what_is_gone_without_an_end_has_stopped() -> None:
    [record] = changed(of(standing(underway(holds=(LAG,)))), {}, START, progress=False)
    assert (record.state, record.reason, record.finished_at) == ("stopped", GONE, START)
    assert (record.view.holds, record.view.rows_per_second, record.view.progress.seen) == ((), None, 250)


@dataclass
class Records:
    """Takes the place of the store."""

    saved: list[tuple[list[Record], list[Event]]] = field(default_factory=list)
    failing: Exception | None = None
    asked: int = 0
    meanwhile: Callable[[], None] | None = None
    left: Sequence[Record] = ()

    async def listed(self, *, only: Mapping[str, str], states: Sequence[str]) -> Sequence[Record]:
        return [one for one in self.left if only["tenant"] == one.key.tenant and one.state in states]

    async def save(self, records: Sequence[Record], events: Sequence[Event] = ()) -> None:
        self.asked += 1
        await anyio.lowlevel.checkpoint()
        if self.meanwhile is not None:
            self.meanwhile()
        if self.failing is not None:
            raise self.failing
        if records or events:
            self.saved.append((list(records), list(events)))


@dataclass
class Views:
    """A throttle of a list."""

    views: list[Underway] = field(default_factory=list)

    def underway(self) -> Sequence[Underway]:
        return list(self.views)

    def of(self, rollout: str, tenant: str, track: str) -> Underway | None:
        wanted = rollout, tenant, track
        return next((view for view in self.views if (view.rollout, view.tenant, view.track) == wanted), None)

    def order(self, order: object) -> None: ...

    def restore(self, kept: object) -> None: ...


@dataclass
class Scene:
    records: Records = field(default_factory=Records)
    throttle: Views = field(default_factory=Views)
    told: list[Event] = field(default_factory=list)

    def keeper(self) -> Keeper:
        return Keeper(self.records, self.told.append, self.throttle, lambda: START)  # type: ignore[arg-type]


def started(tenant: str = "acme") -> Event:
    return samples.backfill_started(rollout="r001", tenant=tenant)


def ended(tenant: str = "acme", **values: Any) -> Event:
    return samples.backfill_finished(rollout="r001", tenant=tenant, **values)


async def test_a_backfill_is_written_from_its_start_to_its_end_with_its_events() -> None:
    scene = Scene(throttle=Views([underway()]))
    keeper = scene.keeper()
    keeper.publish(started())
    keeper.publish(progressed := samples.backfill_progressed(rollout="r001"))
    assert scene.told == [progressed], "what is not durable is told at once, the rest by the store"
    await keeper.flush()
    assert scene.records.saved == [([RUNS], [started()])]
    keeper.publish(ended(seen=1200, changed=1100, sweep=1, estimated=1000))
    scene.throttle.views = []
    await keeper.flush()
    [record], [event] = scene.records.saved[1]
    assert event == ended(seen=1200, changed=1100, sweep=1, estimated=1000)
    assert (record.state, record.finished_at, record.reason) == ("finished", event.at, None)
    progress = Progress(True, 1200, 1100, 1000, 1, "[250]", 7)
    assert (record.view.progress, record.view.rows_per_second) == (progress, None)
    await keeper.flush(all_of_it=True)
    assert len(scene.records.saved) == 2


async def test_one_that_ends_while_it_is_still_listed_is_written_once_and_runs_again_when_it_starts_again() -> None:
    scene = Scene(throttle=Views([underway()]))
    keeper = scene.keeper()
    for event in (started(), samples.backfill_stopped("too_slow", rollout="r001", reason="rows 7 to 9 are refused")):
        keeper.publish(event)
    await keeper.flush()
    await keeper.flush(all_of_it=True)
    [([record], _)] = scene.records.saved
    assert (record.state, record.reason) == ("stopped", "rows 7 to 9 are refused")
    keeper.publish(started())
    await keeper.flush()
    assert [record.state for record in scene.records.saved[1][0]] == ["running"]
    scene.throttle.views = []
    await keeper.flush()
    assert [record.reason for record in scene.records.saved[2][0]] == [GONE]


async def test_one_that_begins_and_ends_while_others_are_written_is_written_next() -> None:
    scene = Scene(throttle=Views([underway()]))
    keeper = scene.keeper()

    def meanwhile() -> None:
        scene.throttle.views = [underway(), underway("short")]
        keeper.publish(started("short"))
        keeper.publish(ended("short", seen=0))
        scene.throttle.views = [underway()]

    scene.records.meanwhile = meanwhile
    keeper.publish(started())
    await keeper.flush()
    scene.records.meanwhile = None
    await keeper.catch_up()
    [record] = scene.records.saved[1][0]
    assert (record.view.tenant, record.state) == ("short", "finished")
    await keeper.catch_up()
    await keeper.flush(all_of_it=True)
    assert len(scene.records.saved) == 2


async def test_what_could_not_be_written_is_written_later() -> None:
    scene = Scene(Records(failing=StoreError("the disk is full")), Views([underway()]))
    keeper = scene.keeper()
    keeper.publish(started())
    with pytest.raises(StoreError):
        await keeper.catch_up()
    scene.records.failing = None
    await keeper.catch_up()
    assert scene.records.saved == [([RUNS], [started()])]


async def test_hundreds_of_them_share_few_transactions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "GATHER_SECONDS", 0.05)
    scene = Scene()
    keeper = scene.keeper()
    async with keeper.keeping():
        for number in range(500):
            scene.throttle.views.append(underway(f"t{number}"))
            keeper.publish(started(f"t{number}"))
        await until(lambda: sum(len(records) for records, _ in scene.records.saved) == 500)
        assert len(scene.records.saved) == 1
        scene.throttle.views = [replace(view, holds=(LAG,)) for view in scene.throttle.views]
        keeper.publish(samples.held("replication_lag"))
        await until(lambda: len(scene.records.saved) == 2)
        assert {record.state for record in scene.records.saved[1][0]} == {"held"}


async def test_hundreds_that_wait_until_their_ends_are_written_wait_for_few_writes() -> None:
    scene = Scene()
    keeper = scene.keeper()

    async def end(tenant: str) -> None:
        keeper.publish(started(tenant))
        keeper.publish(ended(tenant))
        await keeper.catch_up()
        assert ended(tenant) in [event for _, events in scene.records.saved for event in events]

    async with anyio.create_task_group() as tasks:
        for number in range(300):
            tasks.start_soon(end, f"t{number}")
    assert scene.records.asked <= 3


async def test_what_is_left_of_a_target_counts_until_it_is_asked_again_or_its_rollout_has_ended() -> None:
    """The last known of a backfill that nobody is at goes into its record when its end is told."""

    async def recorded(*happened: Event | None) -> list[str]:
        scene = Scene(Records(left=[stopped]))
        keeper = scene.keeper()
        assert await keeper.left("r001", "acme", "app") == [stopped]
        await keeper.left("r001", "other", "app")
        for event in happened:
            if event is None:
                scene.records.left = []
                await keeper.left("r001", "acme", "app")
            else:
                keeper.forget(event)
        keeper.publish(ended())
        await keeper.flush()
        return [record.state for records, _ in scene.records.saved for record in records]

    stopped = replace(RUNS, state="stopped")
    assert await recorded() == ["finished"]
    assert await recorded(samples.changed("running", rollout="r001")) == ["finished"]
    assert await recorded(samples.changed("failed", rollout="r002")) == ["finished"]
    assert await recorded(samples.changed("failed", rollout="r001")) == []
    assert await recorded(None) == []


async def test_what_is_left_is_written_at_the_end() -> None:
    scene = Scene(throttle=Views([underway()]))
    keeper = scene.keeper()
    async with keeper.keeping():
        keeper.publish(started())
        scene.throttle.views = []
        keeper.publish(samples.backfill_stopped(rollout="r001", reason="drained"))
    [(records, events)] = scene.records.saved
    assert [event.name for event in events] == ["BackfillStarted", "BackfillStopped"]
    assert records == []  # nobody ever saw more of it than these


async def test_a_store_that_fails_ends_what_is_done_and_a_lost_lead_does_not_hide_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keeping, "GATHER_SECONDS", 0.0)

    async def kept_with(error: Exception) -> None:
        scene = Scene(Records(failing=error), Views([underway()]))
        async with (keeper := scene.keeper()).keeping():
            keeper.publish(started())
            await until(lambda: scene.records.asked > 0)
            if isinstance(error, LeadershipLostError):
                return
            await anyio.sleep_forever()

    with pytest.raises(StoreError, match="disk is full"):
        await kept_with(StoreError("the disk is full"))
    await kept_with(LeadershipLostError("another leads"))
