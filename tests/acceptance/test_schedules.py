"""A rollout that starts by itself, by a real clock, with two real daemons on one store."""

from __future__ import annotations

from pathlib import Path

import anyio
import yaml

from orchestrator.databases.embedded import Server
from tests import engine, environments
from tests.daemon import Daemon, write_registry
from tests.engine import until
from tests.servers import MakeDatabases

QUESTION = "SELECT planned_at, outcome, rollout, by FROM schedule_runs ORDER BY 1"


async def test_the_next_minute_starts_one_rollout(pg: Server, make_databases: MakeDatabases, tmp_path: Path) -> None:
    environments.make_project(tmp_path / "project")
    environments.add_tables(tmp_path / "project", ["alpha"])
    databases = await make_databases(3)
    [store] = await make_databases(1, "store")
    config, environ = write_registry(tmp_path, pg, databases, {"app": {"config": "project/alembic.ini"}})
    written = yaml.safe_load(config.read_text())
    written["schedules"] = {"minutely": {"cron": "* * * * *", "timezone": "Europe/Berlin"}}
    config.write_text(yaml.safe_dump(written))
    async with (
        Daemon(config, pg.url(store), environ) as leader,
        Daemon(config, pg.url(store), environ) as standby,
    ):

        async def ran() -> bool:
            await anyio.sleep(0.5)  # each look is a new connection
            return bool(await engine.fetch(pg, store, QUESTION))

        await until(ran, seconds=180)
        [(_, outcome, rollout, by), *later] = await engine.fetch(pg, store, QUESTION)
        assert (outcome, by) == ("started", None)
        # A slow machine may see the next minute come: there is nothing to do in it.
        assert all(one[1] in ("nothing_pending", "skipped") for one in later)
        ended = await standby.ended(rollout)
        assert (ended["state"], ended["created_by"]) == ("succeeded", "schedule:minutely")
        assert ended["schedule"]["name"] == "minutely"
        listed = (await leader.call("GET", "/api/v1/rollouts")).json()["items"]
        assert [one["id"] for one in listed] == [rollout]
        metrics = (await leader.call("GET", "/metrics")).text
        assert 'orchestrator_schedule_next_run_timestamp_seconds{schedule="minutely"}' in metrics

        # From here on by hand, over the standby: what it is told holds for the leader.
        disabled = await standby.call("POST", "/api/v1/schedules/minutely/disable")
        assert (disabled.status_code, disabled.json()["next_runs"]) == (200, [])
        assert (await standby.call("POST", "/api/v1/freeze", json={"reason": "incident 7"})).status_code == 200
        waiting = (await leader.post_rollout(to="base", direction="downgrade")).json()["id"]

        async def waits() -> bool:
            return "incident 7" in ((await leader.rollout(waiting))["waiting"] or "")

        await until(waits)
        assert (await leader.call("POST", "/api/v1/schedules/minutely/run")).status_code == 409
        assert (await standby.call("DELETE", "/api/v1/freeze")).json()["frozen"] is False
        assert (await leader.ended(waiting))["state"] == "succeeded"
        run = (await standby.call("POST", "/api/v1/schedules/minutely/run")).json()
        assert (await leader.ended(run["rollout"]))["state"] == "succeeded"
