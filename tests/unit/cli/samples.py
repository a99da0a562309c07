"""Rollouts as a daemon tells them, and the events that made them."""

from __future__ import annotations

from io import StringIO
from typing import Any

from rich.console import Console, RenderableType

from orchestrator.client.shapes import FailureGroup, Rollout

STATES = ("pending", "running", "succeeded", "up_to_date", "failed", "locked", "unreachable", "ahead", "cancelled")


def rollout(state: str = "succeeded", *, failures: list[FailureGroup] | None = None, **counts: int) -> Rollout:
    return Rollout(
        id="20260102-030405-abcd",
        track="app",
        to="head",
        state=state,
        reason=None,
        strategy="default",
        select="",
        direction="upgrade",
        goal=["r3"],
        goals={"app": ["r3"]},
        plan_digest=None,
        created_at="2026-01-02T03:04:05.000Z",
        started_at="2026-01-02T03:04:05.000Z",
        finished_at="2026-01-02T03:04:09.000Z" if state in ("succeeded", "failed", "aborted") else None,
        created_by="http",
        waiting=None,
        waves=[],
        counts={name: counts.get(name, 0) for name in STATES},
        total=sum(counts.values()),
        coverage={"planned": sum(counts.values()), "accounted": sum(counts.values()), "holds": True},
        eta_seconds=None,
        failures=failures or [],
        executions={},
        backfills=[],
        irreversible={},
        not_reversible=None,
        trace_id=None,
        schedule=None,
        override=None,
    )


def group(signature: str, count: int, *tenants: str, message: str = "boom", remedy: str | None = None) -> FailureGroup:
    return FailureGroup(
        signature=signature,
        count=count,
        example={
            "kind": "failed",
            "code": None,
            "revision": "r2",
            "message": message,
            "remedy": remedy,
            "signature": signature,
        },
        tenants=list(tenants),
    )


def event(name: str, second: float = 0, **data: Any) -> tuple[str, dict[str, Any]]:
    """An event of rollout `r`, so many seconds after the full minute."""
    return name, {"rollout": "r", "track": "app", "at": f"2026-01-02T03:04:{second:06.3f}Z", **data}


def created(total: int, second: float = 0) -> tuple[str, dict[str, Any]]:
    return event("RolloutCreated", second, total=total, to="head")


def started(tenant: str) -> tuple[str, dict[str, Any]]:
    return event("MigrationStarted", tenant=tenant)


def finished(tenant: str, outcome: str = "succeeded", **data: Any) -> tuple[str, dict[str, Any]]:
    return event("MigrationFinished", tenant=tenant, outcome=outcome, **data)


def changed(state: str, second: float = 0, reason: str | None = None, **counts: int) -> tuple[str, dict[str, Any]]:
    return event("RolloutStateChanged", second, state=state, reason=reason, counts=counts)


def plain(*shown: RenderableType, width: int = 100) -> str:
    """What a terminal of that width would show, without colours and trailing blanks."""
    console = Console(file=StringIO(), width=width, highlight=False, markup=False, emoji=False)
    console.print(*shown, sep="\n")
    assert isinstance(console.file, StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())
