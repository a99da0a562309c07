"""What was found of drift, as a list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from orchestrator import errors
from orchestrator.plan.drift import Standing
from orchestrator.plan.drift_records import Record
from orchestrator.registry.model import TargetKey

MOMENT = datetime(2026, 11, 21, 2, 0, tzinfo=UTC)
DRIFTED = Record(
    "acme",
    "app",
    "pg-1",
    Standing.DRIFTED,
    MOMENT,
    ("b2",),
    "postgresql 16",
    "d1",
    "globex",
    2,
    ("- index | a", "+ index | b"),
    drifted_since=MOMENT,
)
EQUAL = replace(
    DRIFTED, tenant="globex", standing=Standing.EQUAL, differing=None, lines=(), digest="d2", drifted_since=None
)
UNREAD = Record(
    "initech", "app", "pg-1", Standing.UNREAD, MOMENT, message="cannot use postgresql://u:hunter2@h: no answer"
)


@dataclass
class FakeDrifting:
    records: list[Record] = field(default_factory=lambda: [DRIFTED, EQUAL, UNREAD])
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    async def listed(
        self,
        *,
        track: str | None = None,
        standings: Sequence[Standing] = (),
        limit: int = 100,
        after: TargetKey | None = None,
    ) -> Sequence[Record]:
        found = [it for it in self.records if track in (None, it.track) and (not standings or it.standing in standings)]
        return [it for it in found if after is None or it.key > after][:limit]

    async def ask_look(self, *, by: str, track: str | None = None) -> Sequence[str]:
        if track not in (None, "app"):
            raise errors.ConfigurationError(f"there is no track {track!r}", remedy="there is: app")
        self.asked.append((by, track))
        return ["app"]
