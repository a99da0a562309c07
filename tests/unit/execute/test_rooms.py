"""Servers are asked for their head-room no oftener than need be, and what they say is acted on and told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from sqlalchemy.engine import make_url

from orchestrator.databases.occupancy import Filling, Occupancy
from orchestrator.errors import TargetError, TargetUnreachableError
from orchestrator.events import Event, ShardLimitChanged, ShardThrottled
from orchestrator.execute import rooms
from orchestrator.execute.rooms import HeadRooms
from orchestrator.execute.slots import Limits, Only, Part, Slots
from orchestrator.registry.model import Registry, Shard, Target, TargetKey
from tests.engine import until

SHARD = Shard("pg", make_url("postgresql://h"), max_concurrent=8, max_per_database=4)
TARGETS = tuple(Target(f"t{number}", "app", "pg", f"d{number}") for number in range(5))
FULL = TargetUnreachableError("too many", kind="too_many_connections", code="53300", retriable=True)
ROOMY, TIGHT = Occupancy(97, 0), Occupancy(97, 86)


class _Server:
    """Answers with what it is told to; an answer may be an error, or None for no server at all."""

    def __init__(self) -> None:
        self.says: Occupancy | Exception | None = ROOMY
        self.by_database: dict[str, Occupancy | Exception] = {}
        self.asked: list[str] = []
        self.slow = False

    async def ask(self, registry: Registry, target: Target) -> Occupancy | None:
        self.asked.append(target.database)
        if self.slow:
            await anyio.sleep_forever()
        said = self.by_database.get(target.database, self.says)
        if isinstance(said, Exception):
            raise said
        return said


class Scene:
    def __init__(self) -> None:
        self.server, self.events, self.slots = _Server(), list[Event](), Slots(100)
        self.registry = Registry(Path("/tenants.yaml"), "", {}, {"pg": SHARD}, TARGETS)
        self.rooms = HeadRooms(self.slots, self.server.ask, self.events.append)

    @asynccontextmanager
    async def driven(self, keys: list[TargetKey] | None = None) -> AsyncIterator[None]:
        async with self.rooms.driven("pg", lambda: self.registry, keys or [target.key for target in TARGETS]):
            yield

    @property
    def limit(self) -> int:
        return self.rooms.limits(self.registry, "pg").shard

    def told(self) -> list[tuple[str, int]]:
        events = [event for event in self.events if isinstance(event, (ShardThrottled, ShardLimitChanged))]
        return [("throttled" if isinstance(event, ShardThrottled) else "limit", event.limit) for event in events]


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setattr(rooms, "ASK_EVERY_SECONDS", 0.05)
    monkeypatch.setattr(rooms, "ASK_AGAIN_SECONDS", 0.01)
    return Scene()


async def test_a_server_with_room_takes_as_many_as_the_registry_says_and_nothing_is_told(scene: Scene) -> None:
    async with scene.driven():
        assert scene.limit == 1, "until it has answered"
        await until(lambda: scene.limit == 8)
        await until(lambda: len(scene.server.asked) >= 3)
    assert set(scene.server.asked) == {"d0"}
    assert scene.told() == []


async def test_a_server_that_fills_up_and_empties_is_followed_and_told_once_for_each_change(scene: Scene) -> None:
    async with scene.driven():
        await until(lambda: scene.limit == 8)
        scene.server.says = TIGHT
        await until(lambda: scene.limit == 3)
        asked = len(scene.server.asked)
        await until(lambda: len(scene.server.asked) >= asked + 3)
        assert scene.told() == [("throttled", 3), ("limit", 3)]
        scene.server.says = replace(TIGHT, used=88)
        await until(lambda: scene.limit == 2)
        scene.server.says = FULL
        await until(lambda: scene.limit == 0)
        scene.server.says = ROOMY
        await until(lambda: scene.limit == 8)
    assert scene.told()[2:] == [("limit", 2), ("throttled", 0), ("limit", 0), ("limit", 8)]
    last = scene.events[-1]
    assert isinstance(last, ShardLimitChanged)
    assert last.reason is None


async def test_what_was_throttled_is_told_to_be_free_when_nothing_is_driven_any_more(scene: Scene) -> None:
    scene.server.says = TIGHT
    async with scene.driven():
        await until(lambda: scene.limit == 3)
    assert scene.limit == 8
    assert scene.told() == [("throttled", 3), ("limit", 3), ("limit", 8)]


async def test_a_new_answer_lets_waiting_claims_in_at_once(scene: Scene) -> None:
    scene.server.says = FULL
    async with scene.driven(), anyio.create_task_group() as tasks:
        await until(lambda: scene.limit == 0)
        scene.slots.limit("pg", scene.rooms.limits(scene.registry, "pg"))
        tasks.start_soon(scene.slots.acquire, Part(), "pg", Only("d0"))
        await until(lambda: len(scene.server.asked) > 6)
        assert scene.slots.use.total == 0
        scene.server.says = ROOMY
        await until(lambda: scene.slots.use.total == 1)


async def test_of_two_rollouts_on_a_shard_one_asks(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "ASK_EVERY_SECONDS", 60.0)
    async with scene.driven():
        await until(lambda: scene.limit == 8)
        async with scene.driven():
            await anyio.wait_all_tasks_blocked()
            assert scene.limit == 8, "what is known is used"
    async with scene.driven():  # the next wave
        await anyio.wait_all_tasks_blocked()
        assert scene.limit == 8
    assert len(scene.server.asked) == 1


async def test_a_target_that_was_refused_has_the_server_asked_at_once_and_nobody_starts_until_then(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms, "ASK_EVERY_SECONDS", 60.0)
    async with scene.driven():
        await until(lambda: scene.limit == 8)
        scene.server.says = TIGHT
        scene.rooms.note(scene.registry, "pg", TargetError("no such table", code="42P01"))
        assert scene.limit == 8
        scene.rooms.note(scene.registry, "pg", FULL)
        assert scene.limit == 0
        await until(lambda: scene.limit == 3)
    assert len(scene.server.asked) == 2


async def test_a_database_that_is_full_or_gone_is_passed_over_for_another(scene: Scene) -> None:
    scene.server.by_database = {"d0": FULL, "d1": TargetUnreachableError("gone", kind="missing_database", code="3D000")}
    async with scene.driven():
        await until(lambda: scene.limit == 8)
    assert scene.server.asked[:3] == ["d0", "d1", "d2"]
    assert set(scene.server.asked[3:]) <= {"d2"}, "who answered is asked again"


@pytest.mark.parametrize(
    "answer",
    [TargetUnreachableError("down", retriable=True), ValueError("a bug"), None],
    ids=["down", "bug", "no server"],
)
async def test_where_nobody_can_be_asked_the_registry_counts(scene: Scene, answer: Exception | None) -> None:
    scene.server.says = answer
    async with scene.driven():
        await until(lambda: scene.limit == 8)
        scene.rooms.note(scene.registry, "pg", FULL)
        await until(lambda: scene.limit == 8)
    assert scene.told() == []


async def test_a_server_that_says_nothing_keeps_nobody_waiting_for_long(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms, "ASK_SECONDS", 0.05)
    scene.server.slow = True
    async with scene.driven():
        assert scene.limit == 1
        await until(lambda: scene.limit == 8)


async def test_after_some_minutes_without_room_targets_are_refused_with_the_reason(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms, "PATIENCE_SECONDS", 0.2)
    scene.server.says = FULL
    async with scene.driven():
        await until(lambda: scene.limit == 0)
        assert scene.rooms.refusal("pg") is None
        await until(lambda: scene.limit == 8)
        refusal = scene.rooms.refusal("pg")
        assert refusal is not None
        assert (refusal.kind, refusal.retriable) == ("too_many_connections", False)
        assert "has had no connection to spare for 0.2 s (too many)" in refusal.message
    async with scene.driven():
        assert scene.rooms.refusal("pg") is None, "who tries again waits again"
        scene.server.says = ROOMY
        await until(lambda: scene.limit == 8)


async def test_a_full_database_waits_while_others_go_on_and_is_tried_in_the_end(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms, "PATIENCE_SECONDS", 0.2)
    scene.server.says = replace(ROOMY, databases={"d1": Filling(10, 0, 10), "d2": Filling(0, 0, 11)})

    def limits() -> Limits:
        return scene.rooms.limits(scene.registry, "pg")

    async with scene.driven():
        await until(lambda: limits().shard == 8)
        assert [limits().of(name) for name in ("d0", "d1", "d2")] == [4, 0, 3]
        await until(lambda: limits().of("d1") == 1)
        assert scene.rooms.refusal("pg") is None
    (told,) = [event for event in scene.events if isinstance(event, ShardThrottled)]
    assert "database d1" in told.reason


async def test_a_shard_that_leaves_the_registry_is_no_longer_asked(scene: Scene) -> None:
    async with scene.driven():
        await until(lambda: scene.limit == 8)
        scene.registry = replace(scene.registry, shards={}, targets=())
        asked, watch = len(scene.server.asked), scene.rooms._watches["pg"]
        before = watch.asked_at
        await until(lambda: watch.asked_at != before)
        assert scene.limit == 1
        assert len(scene.server.asked) == asked


async def test_a_throttled_shard_that_leaves_the_registry_is_told_to_be_free(scene: Scene) -> None:
    scene.server.says = TIGHT
    async with scene.driven():
        await until(lambda: scene.limit == 3)
        scene.registry = replace(scene.registry, shards={}, targets=())
        await until(lambda: scene.told()[-1] == ("limit", 8))
    last = scene.events[-1]
    assert isinstance(last, ShardLimitChanged)
    assert last.reason is None
    assert scene.told() == [("throttled", 3), ("limit", 3), ("limit", 8)]
