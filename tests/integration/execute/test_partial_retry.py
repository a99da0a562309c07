"""A retry of some of the failures: what is told of the others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from orchestrator.databases.embedded import Server
from orchestrator.registry.model import FailureBudget, Strategy, Wave
from orchestrator.rollout.state import RolloutState
from tests import engine, environments
from tests.engine import Engine
from tests.servers import MakeDatabases

FIRST = Wave("first", select="tenant in (t000,t001,t002)", approval=True, on_failure=FailureBudget(5, same_signature=9))
CAREFUL = Strategy("careful", 4, (FIRST, Wave("rest")))
FAILING = """
tenant = context.get_x_argument(as_dictionary=True)["tenant"]
op.execute("SELECT * FROM gate")
if tenant in ("t000", "t001"):
    op.execute("SELECT 1 / 0")
op.execute("SELECT * FROM nowhere")
"""


def _causes(running: Engine) -> Mapping[str, float]:
    """By signature, as the metric has them."""
    text = running.parts.metrics.render()[0].decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    return {one.labels["signature"]: one.value for one in families["orchestrator_rollout_failures"].samples}


async def test_failures_that_are_retried_are_no_failures_while_they_wait_for_their_turn(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    config = environments.make_project(tmp_path / "project")
    environments.add_revision(tmp_path / "project", "alpha", None, FAILING)
    databases = await make_databases(4)
    for database in databases:
        await engine.execute(pg, database, "CREATE TABLE gate (id int)")
        await engine.provision(pg, database)
    registry = engine.registry_of(
        [environments.track_of(config)],
        [engine.shard_of(pg, max_concurrent=1)],
        engine.targets_of(databases),
        strategies={"careful": CAREFUL},
    )
    async with engine.running(registry, store_url=f"sqlite:///{tmp_path}/store.db", lock_timeout_seconds=90) as running:
        view, _ = await running.service.start_rollout(engine.head(strategy="careful"))
        rollout = view.rollout.id
        await running.reaches(rollout, RolloutState.AWAITING_APPROVAL, failed=3)
        causes = {group.signature: group.count for group in (await running.service.rollout(rollout)).failures}
        assert _causes(running) == causes
        [retried] = [signature for signature, count in causes.items() if count == 2]
        async with engine.locked_table(pg, databases[0], "gate"):
            await running.service.retry(rollout, by="test", signature=retried)
            await running.reaches(rollout, RolloutState.RUNNING, running=1, pending=2, failed=1)
            told = {group.signature: group.count for group in (await running.service.rollout(rollout)).failures}
            assert _causes(running) == told
            assert set(told) == set(causes) - {retried}
        await running.reaches(rollout, RolloutState.AWAITING_APPROVAL, failed=3)
        assert _causes(running) == causes
        stored = await running.service.events(rollout)
        assert all("again" not in event.data for event in stored), "the ledger has them"
