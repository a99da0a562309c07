"""What cannot be read of a backfill's end is said, and keeps no migration from going on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from sqlalchemy.engine import make_url
from structlog.testing import capture_logs

from orchestrator.backfill.model import Backfill, Progress
from orchestrator.backfill.records import Record, standing
from orchestrator.backfill.view import Underway
from orchestrator.databases.base import Guard, Limits, Place
from orchestrator.errors import TargetUnreachableError
from orchestrator.execute import leavings, untold
from orchestrator.plan.steps import Plan
from orchestrator.registry.model import Target

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)


async def test_what_cannot_be_read_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    async def gone(place: Place, guard: Guard, question: object) -> Any:
        asked.append(question)
        raise TargetUnreachableError("it has gone", remedy="look at the server")

    async def left() -> Sequence[Record]:
        backfills = [Backfill(revision, "upgrade", 1, "set", "t", ("id",), 100) for revision in ("b2", "c3")]
        views = [
            Underway("r1", "acme", "app", "pg", one, Progress(), 100, None, None, (), NOON, NOON) for one in backfills
        ]
        return [standing(view) for view in views]

    monkeypatch.setattr(leavings, "answers", gone)
    place = Place(Target("acme", "app", "pg", "acme"), make_url("postgresql://nowhere.invalid/acme"), Limits())
    told: list[Record] = []
    with capture_logs() as lines:
        await untold.tell(
            place, cast("Guard", None), Plan((), (), "upgrade"), left, lambda record, _: told.append(record)
        )
    assert (told, len(asked)) == ([], 1)
    assert lines == [
        {
            "event": "backfill_ends_not_read",
            "log_level": "debug",
            "rollout": "r1",
            "tenant": "acme",
            "track": "app",
            "shard": "pg",
            "message": "it has gone",
            "remedy": "look at the server",
        }
    ]
