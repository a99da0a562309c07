"""Dashboards and alerts against a real Prometheus, which scrapes a real daemon while it rolls out.

Rules are those of deploy/prometheus/rules.yml, but for how long something must last: seconds instead of minutes.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import httpx2 as httpx
import yaml

from deploy.grafana import generate
from orchestrator.databases.embedded import Server, free_port
from tests import engine, environments, prometheus
from tests.daemon import Daemon, write_registry
from tests.dashboards import page
from tests.dashboards.asking import Prometheus
from tests.dashboards.questions import Window
from tests.engine import until
from tests.prometheus import Scraping
from tests.servers import MakeDatabases

RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "rules.yml"
# What dashboards have in place of `$…`.
VARIABLES = {"$__rate_interval": "5s", "$__range": "1h", "$job": "orchestrator"}
SHORTER = {"> 900": "> 1", "> 1800": "> 1", "> 14400": "> 1", "> 604800": "> 1", "[5m]": "[5s]", "[12m]": "[3s]"}
CANARIES, TENANTS = 22, 44
FAILING, AHEAD = range(5), 5
ROWS = 120
FAILURES = ("failed", "locked", "unreachable", "ahead")


def shorter(rules: str) -> str:
    for long, short in SHORTER.items():
        assert long in rules
        rules = rules.replace(long, short)
    content = yaml.safe_load(rules)
    for group in content["groups"]:
        group["interval"] = "500ms"
        for rule in group["rules"]:
            rule.pop("for", None)
    return yaml.safe_dump(content)


def expressions() -> dict[str, str]:
    """What is asked by the dashboards, annotations included, by where it stands there."""
    found: dict[str, str] = {}
    for name, dashboard in generate.dashboards().items():
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                found[f"{name}: {panel['title']} {target['refId']}"] = target["expr"]
        for annotation in dashboard["annotations"]["list"]:
            found[f"{name}: {annotation['name']}"] = annotation["expr"]
    return {where: filled(promql) for where, promql in found.items()}


def filled(promql: str) -> str:
    for name, value in VARIABLES.items():
        promql = promql.replace(name, value)
    return re.sub(r"\$\w+", ".*", promql)


class Watching:
    """Asks the server over and over: which queries had an answer by now, and which alerts have fired."""

    def __init__(self, scraping: Scraping) -> None:
        self._scraping = scraping
        self.unanswered = expressions()
        self.fired: set[str] = set()

    async def run(self) -> None:
        while True:
            for where, promql in list(self.unanswered.items()):
                if await self._scraping.ask(promql):
                    del self.unanswered[where]
            self.fired |= await self._scraping.firing()
            await anyio.sleep(0.2)

    async def fires(self, *names: str) -> None:
        wanted = {f"Orchestrator{name}" for name in names}
        try:
            await until(lambda: wanted <= self.fired)
        except TimeoutError:
            raise AssertionError(f"did not fire: {wanted - self.fired}") from None


@asynccontextmanager
async def watching(scraping: Scraping) -> AsyncIterator[Watching]:
    async with anyio.create_task_group() as tasks:
        watcher = Watching(scraping)
        tasks.start_soon(watcher.run)
        yield watcher
        tasks.cancel_scope.cancel()


def make_project(folder: Path) -> None:
    environments.make_project(folder)
    failing = {f"t{number:03}" for number in FAILING}
    environments.add_revision(
        folder,
        "touched",
        None,
        'op.add_column("tickets", sa.Column("done", sa.Integer))\n'
        f"if context.get_x_argument(as_dictionary=True)['tenant'] in {failing}:\n"
        '    op.execute("SELECT 1 / 0")',
    )
    environments.add_revision(folder, "filled", "touched", 'op.backfill("tickets", {"done": "id"}, batch_size=20)')


def make_registry(folder: Path, pg: Server, pg2: Server, databases: Sequence[str]) -> tuple[Path, dict[str, str]]:
    """The last two canaries are on a shard of their own, whose server has no connections to spare."""
    config, environ = write_registry(
        folder, pg, databases, {"app": {"config": "project/alembic.ini"}}, max_concurrent=8
    )
    content = yaml.safe_load(config.read_text())
    content["shards"]["tight"] = {"url": "${TIGHT_URL}", "max_concurrent": 4, "reserve_connections": 1000}
    # What holds backfills once somebody lowers the threshold; and so slow that they are seen by several scrapes.
    busy = {"name": "busy", "sql": "SELECT 50", "above": 100, "every": "1s"}
    content["backfill"] = {"rows_per_second": 400, "probes": [busy]}
    for number, tenant in enumerate(content["tenants"]):
        tenant["labels"] = {"canary": str(number < CANARIES).lower()}
        if CANARIES - 2 <= number < CANARIES:
            tenant["databases"]["app"]["shard"] = "tight"
    budget = {"max": 10, "same_signature": 0, "then": "pause"}
    waves = [{"name": "canary", "select": "canary=true", "approval": True}, {"name": "everyone"}]
    content["strategies"] = {"careful": {"on_failure": budget, "waves": waves}}
    content["schedules"] = {"yearly": {"cron": "0 0 1 1 *", "track": "app", "select": f"tenant=t{TENANTS - 1:03}"}}
    asked = "SELECT '' AS tenant WHERE false"
    content["discover"] = [
        {"name": "accounts", "shard": "pg", "database": databases[0], "query": asked, "track": "app"}
    ]
    content["notifications"] = [{"name": "nobody", "command": ["/bin/true"], "on": ["approval_needed"]}]
    config.write_text(yaml.safe_dump(content))
    return config, {**environ, "TIGHT_URL": pg2.url("").rstrip("/")}


async def fill(server: Server, databases: Sequence[str]) -> None:
    for database in databases:
        await engine.execute(
            server,
            database,
            "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)",
            f"CREATE TABLE tickets AS SELECT id FROM generate_series(1, {ROWS}) AS id",
            "ALTER TABLE tickets ADD PRIMARY KEY (id)",
            "ANALYZE tickets",
        )


async def test_every_query_has_an_answer_every_alert_fires_and_the_numbers_are_the_apis(
    pg: Server, pg2: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    began = time.time()
    make_project(tmp_path / "project")
    roomy, tight = await make_databases(TENANTS - 2), await make_databases(2, server=pg2)
    await fill(pg, roomy)
    await fill(pg2, tight)
    await engine.execute(pg, roomy[AHEAD], "INSERT INTO alembic_version VALUES ('unheard_of')")
    config, environ = make_registry(tmp_path, pg, pg2, [*roomy[: CANARIES - 2], *tight, *roomy[CANARIES - 2 :]])
    environ |= {"ORCHESTRATOR_LOCK_TIMEOUT_SECONDS": "0.3", "ORCHESTRATOR_METRICS_LAGGARDS": "5"}
    async with (
        prometheus.scraping(shorter(RULES.read_text())) as scraping,
        Daemon(config, f"sqlite:///{tmp_path}/store.db", environ) as daemon,
        watching(scraping) as watched,
    ):
        scraping.aim(daemon.url)
        async with engine.locked_table(pg2, tight[-1], "tickets"):
            rollout = (await daemon.post_rollout(strategy="careful")).json()["id"]
            await watched.fires("RolloutStalled", "FailureBudgetBurning", "ShardThrottled")
            await watched.fires("TargetPendingTooLong", "TargetsAhead")
            await until(lambda: "rollout.json: Retries each minute, by reason A" not in watched.unanswered)
        await watched.fires("RolloutAwaitingApproval")
        await shows_what_the_api_says(scraping, daemon, rollout)

        assert (await order(daemon, "adjust", thresholds={"probe:busy": 10})).status_code == 200
        await steer(daemon, rollout, "approve")
        await watched.fires("BackfillThrottled")
        await steer(daemon, rollout, "pause")
        await watched.fires("RolloutPaused")
        await steer(daemon, rollout, "resume")
        assert (await order(daemon, "adjust", reset=True)).status_code == 200
        ended = await daemon.ended(rollout)
        await watched.fires("RolloutFailed")
        await counted_what_the_api_says(scraping, daemon, ended)

        await engine.execute(pg, roomy[-1], "ALTER TABLE tickets ADD COLUMN by_hand integer")
        assert (await daemon.call("POST", "/api/v1/drift/look", json={"track": "app"})).status_code == 200
        await watched.fires("TargetsDrifted")
        await has_the_drift_of_the_api(scraping, daemon)
        assert (await daemon.call("POST", "/api/v1/registry/reload")).status_code == 200
        assert (await daemon.call("POST", "/api/v1/schedules/yearly/run")).status_code == 200
        await the_daemon_has_trouble(scraping, daemon, watched, tmp_path)

        try:
            await until(lambda: not watched.unanswered, 60)
        except TimeoutError:
            raise AssertionError(f"no answer: {watched.unanswered}") from None
        assert await scraping.rule_errors() == []
        await draws_every_graph(scraping, Window(began, time.time(), scrape_seconds=1))
        await daemon.stop()
        await watched.fires("NoLeader")
        assert watched.fired == set(alerts()), "an alert that nothing here makes fire is not tried"


async def the_daemon_has_trouble(scraping: Scraping, daemon: Daemon, watched: Watching, folder: Path) -> None:
    good = daemon.config.read_text()
    daemon.config.write_text("tracks: []\n")
    await watched.fires("RegistryStale")
    daemon.config.write_text(good)

    with store(folder) as connection:
        connection.execute("ALTER TABLE audit RENAME TO mislaid")
    assert (await daemon.call("GET", "/api/v1/audit")).status_code >= 500
    with store(folder) as connection:
        connection.execute("ALTER TABLE mislaid RENAME TO audit")
    await watched.fires("StoreErrors")

    again = ("--port", str(free_port()))
    async with Daemon(daemon.config, f"sqlite:///{folder}/other.db", daemon.environ, again) as second:
        scraping.aim(daemon.url, second.url)
        await watched.fires("TwoLeaders")
        second.kill()
        await second.start()
        await watched.fires("Restarted")
    await watched.fires("Down")


@contextmanager
def store(folder: Path) -> Iterator[sqlite3.Connection]:
    """The daemon's store, as somebody else opens it."""
    with closing(sqlite3.connect(folder / "store.db", isolation_level=None)) as connection:
        yield connection


async def order(daemon: Daemon, action: str, **fields: Any) -> httpx.Response:
    return await daemon.call("POST", f"/api/v1/backfills/{action}", json={"all": True, "reason": "month-end", **fields})


async def steer(daemon: Daemon, rollout: str, action: str) -> None:
    answer = await daemon.call("POST", f"/api/v1/rollouts/{rollout}/{action}", json={})
    assert answer.status_code == 200, answer.text


async def by(scraping: Scraping, label: str, promql: str) -> dict[str, float]:
    """What a query answers, by a label; without what is 0."""
    return {labels[label]: value for labels, value in await scraping.ask(promql) if value}


async def says(found: Callable[[], Awaitable[object]], expected: object) -> None:
    """Wait until the next scrape has seen it."""
    answers: list[object] = []

    async def same() -> bool:
        answers.append(await found())
        return answers[-1] == expected

    try:
        await until(same)
    except TimeoutError:
        raise AssertionError(f"{answers[-1]} is not {expected}") from None


async def shows_what_the_api_says(scraping: Scraping, daemon: Daemon, rollout: str) -> None:
    """While it waits, nothing moves."""
    told = await daemon.rollout(rollout)
    assert told["state"] == "awaiting_approval"
    counts = {state: n for state, n in told["counts"].items() if n}
    assert counts == {"succeeded": CANARIES - 6, "failed": 5, "ahead": 1, "pending": TENANTS - CANARIES}
    of = f'{{rollout="{rollout}"}}'
    await says(partial(by, scraping, "state", f"sum by (state) (orchestrator_rollout_targets{of})"), counts)
    causes = {group["signature"]: group["count"] for group in told["failures"]}
    await says(partial(by, scraping, "signature", f"orchestrator_rollout_failures{of}"), causes)
    ratio = {rollout: CANARIES / TENANTS}
    await says(partial(by, scraping, "rollout", f"orchestrator_rollout_progress_ratio{of}"), ratio)
    await says(partial(by, scraping, "wave", f"orchestrator_rollout_failure_budget_used_ratio{of}"), {"canary": 6 / 11})
    await says(partial(by, scraping, "rollout", f"orchestrator_rollout_waiting{of}"), {rollout: 1})
    await has_the_states_of_the_tenants(scraping, daemon)


async def counted_what_the_api_says(scraping: Scraping, daemon: Daemon, ended: dict[str, Any]) -> None:
    outcomes = {state: n for state, n in ended["counts"].items() if n}
    assert (ended["state"], sum(outcomes.values())) == ("failed", TENANTS)
    await says(partial(by, scraping, "outcome", "sum by (outcome) (orchestrator_migrations_total)"), outcomes)
    await says(partial(by, scraping, "outcome", "orchestrator_rollouts_total"), {"failed": 1})
    rows = {"filled": float(ROWS * outcomes["succeeded"])}
    await says(partial(changed_rows, daemon, ended["id"]), rows)
    await says(partial(by, scraping, "revision", "sum by (revision) (orchestrator_backfill_rows_total)"), rows)
    await says(partial(by, scraping, "rollout", '{rollout!=""}'), {})
    await has_the_states_of_the_tenants(scraping, daemon)


async def changed_rows(daemon: Daemon, rollout: str) -> dict[str, float]:
    return {found["revision"]: found["rows_changed"] for found in (await daemon.rollout(rollout))["backfills"]}


async def has_the_states_of_the_tenants(scraping: Scraping, daemon: Daemon) -> None:
    listed = (await daemon.call("GET", "/api/v1/tenants", params={"limit": 500})).json()["items"]
    states = Counter(target["state"] for tenant in listed for target in tenant["targets"])
    await says(partial(by, scraping, "state", "sum by (state) (orchestrator:targets:sum)"), dict(states))


async def has_the_drift_of_the_api(scraping: Scraping, daemon: Daemon) -> None:
    wanted = {"standing": ["drifted", "undecided"]}
    [drifted] = (await daemon.call("GET", "/api/v1/drift", params=wanted)).json()["items"]
    assert (drifted["tenant"], drifted["differing"]) == (f"t{TENANTS - 1:03}", 1)
    assert "by_hand" in drifted["difference"][0]
    await says(partial(by, scraping, "track", "orchestrator_drifted_targets"), {"app": 1})


async def draws_every_graph(scraping: Scraping, window: Window) -> None:
    """Over the whole time, nothing of what graphs and timelines ask has stayed without an answer."""
    asked = Prometheus(scraping.url, scraping.client)
    for dashboard in generate.dashboards().values():
        drawn = page.html(await asked.answered(dashboard, window))
        shown = [panel for panel in dashboard["panels"] if panel["type"] in ("timeseries", "state-timeline")]
        assert drawn.count("<svg") == len(shown), dashboard["title"]
        assert "$" not in drawn


def alerts() -> list[str]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule]
