"""What alerts go by survives the process that saw it: since when, and why."""

from __future__ import annotations

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from orchestrator.databases.embedded import Server
from orchestrator.registry.model import FailureBudget, Registry, Strategy, Wave
from orchestrator.rollout.state import RolloutState
from orchestrator.service.pending_watch import PendingWatch
from tests import engine, environments
from tests.engine import Engine, until
from tests.servers import MakeDatabases

CAREFUL = Strategy(
    "careful",
    4,
    (
        Wave("first", select="tenant in (t000,t001)", approval=True, on_failure=FailureBudget(2, same_signature=5)),
        Wave("rest"),
    ),
)


def _value(running: Engine, name: str, **labels: str) -> float | None:
    """The one sample that has these labels."""
    text = running.parts.metrics.render()[0].decode()
    samples = [one for family in text_string_to_metric_families(text) for one in family.samples]
    found = [
        one.value for one in samples if one.name == f"orchestrator_{name}" and labels.items() <= one.labels.items()
    ]
    return found[0] if found else None


async def test_a_restart_does_not_make_a_rollout_or_a_target_young_nor_its_failures_nameless(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    config = environments.make_project(tmp_path / "project")
    environments.add_tables(tmp_path / "project", ["alpha", "beta"])
    databases = await make_databases(3)
    await engine.provision(pg, databases[0])
    await engine.execute(pg, databases[0], "CREATE TABLE beta (id int)")
    registry: Registry = engine.registry_of(
        [environments.track_of(config)],
        [engine.shard_of(pg)],
        engine.targets_of(databases),
        strategies={"careful": CAREFUL},
    )
    store = f"sqlite:///{tmp_path}/store.db"
    async with engine.running(registry, store_url=store) as running:
        await running.service.survey.once()
        view, _ = await running.service.start_rollout(engine.head(strategy="careful"))
        rollout = view.rollout.id
        await running.reaches(rollout, RolloutState.AWAITING_APPROVAL, failed=1)
        since = _value(running, "rollout_state_since_timestamp_seconds", rollout=rollout, state="awaiting_approval")
        [signature] = {group.signature for group in (await running.service.rollout(rollout)).failures}
        assert _value(running, "rollout_failures", rollout=rollout, signature=signature) == 1
        await PendingWatch(running.parts, running.service).once()
        pending = dict(running.parts.fleet.pending())
        assert set(pending) == {("t000", "app"), ("t002", "app")}
    async with engine.running(registry, store_url=store) as running:
        await PendingWatch(running.parts, running.service).once()
        assert running.parts.fleet.pending() == pending
        await running.service.survey.once()
        assert running.parts.fleet.pending() == pending
        await running.service.resume_active()
        labels = {"rollout": rollout, "state": "awaiting_approval"}
        await until(lambda: _value(running, "rollout_state_since_timestamp_seconds", **labels) is not None)
        assert _value(running, "rollout_state_since_timestamp_seconds", **labels) == since
        assert _value(running, "rollout_failures", rollout=rollout, signature=signature) == 1
        assert _value(running, "rollout_failures", rollout=rollout, signature="untold") is None
