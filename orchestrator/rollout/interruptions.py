"""Why a backfill that runs does not go on to its next batch, as its rollout wants it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from orchestrator.rollout.state import Rollout, RolloutState

ROLLOUT_PAUSED = "the rollout is paused"


@dataclass(frozen=True, slots=True)
class Interruption:
    """What becomes of a backfill's migration: `held`, it goes on when it may; `pending`, it stops, and is gone on with
    later; `cancelled` or `skipped`, it stops, and that is its outcome. `reason` in words."""

    then: Literal["held", "pending", "cancelled", "skipped"]
    reason: str


def interruption(
    rollout: Rollout, *, back: bool, draining: bool, renewing: bool, skipped: str | None = None
) -> Interruption | None:
    """None: it goes on. `back`: it takes back what the rollout has done; `skipped`: why a person leaves its target
    out."""
    if rollout.aborting:
        return Interruption("cancelled", rollout.reason or "the rollout was aborted")
    if skipped is not None:
        return Interruption("skipped", skipped)
    if draining:
        return Interruption("pending", "the process that runs it is shutting down; the next start goes on with it")
    if rollout.rolling_back is not back:
        return Interruption("pending", "the rollout takes back what it has done")
    if renewing:
        return Interruption("pending", "the files have changed; it goes on with the new ones")
    if rollout.state is RolloutState.PAUSED:
        return Interruption("held", f"{ROLLOUT_PAUSED}{f': {rollout.reason}' if rollout.reason else ''}")
    return None
