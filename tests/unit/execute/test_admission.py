"""What a share tells of those that wait."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy.engine import make_url

from orchestrator.databases.occupancy import Occupancy
from orchestrator.execute.admission import Admission
from orchestrator.execute.gate import Gate
from orchestrator.execute.rooms import HeadRooms
from orchestrator.execute.slots import Part, Slots
from orchestrator.registry.model import Registry, Shard, Target
from orchestrator.rollout.ports import Share
from orchestrator.rollout.state import Migration, Request, Rollout
from orchestrator.rollout.windows import Freeze
from tests.engine import until

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
FREEZE = Freeze("anna", "incident 7", NOW)
REGISTRY = Registry(
    Path("/tenants.yaml"), "", {}, {"pg": Shard("pg", make_url("postgresql://h"))}, (Target("t0", "app", "pg", "d0"),)
)


class _Control:
    """Of a rollout that has paused, say: nothing may start."""

    admits = overrides = False

    def __init__(self) -> None:
        self.held: list[tuple[str, Sequence[Any], Freeze | None]] = []

    async def admit(self) -> bool:
        return False

    async def hold(self, shard: str, held: Sequence[Any], freeze: Freeze | None) -> None:
        self.held.append((shard, held, freeze))


async def test_a_share_that_is_over_waits_for_nothing() -> None:
    async def frozen() -> Freeze | None:
        return FREEZE

    async def ask(registry: Registry, target: Target) -> Occupancy | None:
        return None

    rollout = Rollout("r1", Request("app", "head", created_by="ci"), goal=("b",), total=1, created_at=NOW)
    share = Share(rollout, "", "pg", [Migration("r1", "t0", "app", "pg")])
    control, slots = _Control(), Slots(4)
    rooms = HeadRooms(slots, ask, lambda event: None)
    known: Any = control
    admission = Admission(share, Part(), slots, rooms, lambda: REGISTRY, known, Gate(read=frozen))
    async with admission.open():
        await until(lambda: bool(control.held))
        assert control.held.pop() == ("pg", [], FREEZE)
        assert await admission.next() is None
    assert control.held.pop() == ("pg", [], None)
