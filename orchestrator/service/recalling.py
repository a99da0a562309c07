"""What the picture of a rollout, and its trace, know of the time before this process."""

from __future__ import annotations

from orchestrator.observe.rollouts import Before
from orchestrator.rollout.state import FAILURES, Rollout
from orchestrator.service.wiring import Parts


async def recall(parts: Parts, rollout: Rollout) -> None:
    """Let the picture of a rollout that is taken up know since when it is in its state, and why targets have failed.
    Raises StoreError."""
    if rollout.started_at is None:
        return  # nothing of it has begun
    ledger = parts.store.ledger
    failed = await ledger.migrations(rollout.id, states=sorted(FAILURES))
    signatures = {(one.tenant, one.track): one.failure.signature for one in failed if one.failure is not None}
    since = await ledger.state_since(rollout.id, rollout.state)
    parts.fleet.rollouts.recall(rollout.id, Before(rollout.state, since, signatures))
    if parts.tracing is not None:
        run = await ledger.runs(rollout.id)
        parts.tracing.runs.recall(rollout.id, run.attempt, run.since, run.passed)
