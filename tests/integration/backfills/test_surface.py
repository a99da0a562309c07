"""What daemons show of backfills and carry out of orders: real stores, HTTP, a throttle that only says what runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
import yaml

from orchestrator.backfill.model import Backfill, Progress
from orchestrator.backfill.steering import Adjustment, Order, Scope
from orchestrator.backfill.view import Hold, Underway
from orchestrator.databases.embedded import Server
from orchestrator.events import BackfillFinished, BackfillHeld, BackfillStarted, now
from orchestrator.service import keeping, wiring
from tests import environments, live
from tests.engine import until
from tests.live import Live
from tests.servers import MakeDatabases

PLACE = "/api/v1/backfills"
WHY = {"reason": "month-end"}


@dataclass
class Throttle:
    """Says what the test says."""

    views: list[Underway] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)

    def underway(self) -> Sequence[Underway]:
        return list(self.views)

    def of(self, rollout: str, tenant: str, track: str) -> Underway | None:
        wanted = rollout, tenant, track
        return next((view for view in self.views if (view.rollout, view.tenant, view.track) == wanted), None)

    def order(self, order: Order) -> None:
        self.orders.append(order)

    def restore(self, kept: Iterable[Order]) -> None:
        self.orders = list(kept)

    def throttled_seconds(self) -> Mapping[tuple[str, str], float]:
        return {}

    def signals(self) -> Mapping[tuple[str, str], float]:
        return {}

    def in_progress(self) -> Mapping[str, int]:
        return {}

    def resting(self) -> Mapping[str, int]:
        return {}

    def on_deadline(self, tell: Callable[[str, str], object]) -> None:
        """Nothing is held here."""

    async def closed(self) -> None:
        """Nothing is open here."""


def underway(rollout: str, tenant: str = "t0", **fields: Any) -> Underway:
    backfill = Backfill("c3", "upgrade", 1, "set", "tickets", ("id",), 1000)
    progress = Progress(seen=250, changed=200, estimated=1000, last_key="[250]")
    view = Underway(rollout, tenant, "app", "files", backfill, progress, 800, 95.5, 7.85, (), now(), now())
    return replace(view, **fields)


def told(view: Underway) -> dict[str, Any]:
    it = view.backfill
    return {
        "rollout": view.rollout,
        "track": view.track,
        "tenant": view.tenant,
        "shard": view.shard,
        "revision": it.revision,
        "direction": it.direction,
        "ordinal": it.ordinal,
        "table": it.table,
    }


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "GATHER_SECONDS", 0.02)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Two tenants in files; a rollout waits for an approval before its first wave."""
    environments.make_project(tmp_path / "project")
    environments.add_tables(tmp_path / "project", ["alpha"])
    (tmp_path / "files").mkdir()
    for number in range(2):
        (tmp_path / "files" / f"t{number}.db").touch()
    registry = {
        "tracks": {"app": {"config": "project/alembic.ini", "unprovisioned": "migrate"}},
        "shards": {"files": {"url": "sqlite:///files"}},
        "strategies": {"gated": {"approval": True, "waves": [{"name": "everyone"}]}},
        "tenants": [{"id": f"t{n}", "shard": "files", "database": f"t{n}.db", "track": "app"} for n in range(2)],
    }
    path = tmp_path / "tenants.yaml"
    path.write_text(yaml.safe_dump(registry))
    return path


@pytest.fixture
async def store(pg: Server, make_databases: MakeDatabases) -> str:
    [name] = await make_databases(1, "store")
    return pg.url(name)


Run = Callable[..., AbstractAsyncContextManager[tuple[Live, httpx2.AsyncClient, Throttle]]]


@pytest.fixture
def run(config: Path) -> Run:
    @asynccontextmanager
    async def running(store: str, **settings: Any) -> AsyncIterator[tuple[Live, httpx2.AsyncClient, Throttle]]:
        throttle = Throttle()
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(wiring, "Throttle", lambda around: throttle)
            opening = live.running(config, store_url=store, survey_seconds=3600, lease_seconds=4, **settings)
            one = await opening.__aenter__()
        try:
            async with one.client() as client:
                yield one, client, throttle
        finally:
            await opening.__aexit__(None, None, None)

    return running


async def begun(client: httpx2.AsyncClient) -> str:
    answer = await client.post("/api/v1/rollouts", json={"track": "app", "to": "head", "strategy": "gated"})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def listed(client: httpx2.AsyncClient, **asked: str) -> list[dict[str, Any]]:
    answer = await client.get(PLACE, params=asked)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def test_what_runs_is_shown_as_it_is_and_kept_as_it_ended(run: Run, tmp_path: Path) -> None:
    async with run(f"sqlite:///{tmp_path}/store.db") as (one, client, throttle):
        rollout = await begun(client)
        view = underway(rollout)
        throttle.views = [view]
        one.parts.keeper.publish(BackfillStarted(**told(view), seen=250, changed=200, estimated=1000))
        await until(lambda: there(client, state="running"))
        throttle.views = [replace(view, progress=replace(view.progress, seen=300), size=7)]
        [shown] = await listed(client, tenant="t0")
        assert (shown["rows_seen"], shown["batch_size"]) == (300, 7), "as of now, whatever was written"
        hold = Hold("replication_lag", "9 s behind", now())
        throttle.views = [replace(view, holds=(hold,))]
        one.parts.keeper.publish(BackfillHeld(shard="files", reason="replication_lag", text="9 s behind"))
        await until(lambda: there(client, state="held"))
        sums = (await client.get(f"{PLACE}/summary")).json()["revisions"]
        assert [(it["revision"], it["states"]["held"], it["holds"]) for it in sums] == [
            ("c3", 1, {"replication_lag": 1})
        ]
        finished = BackfillFinished(**told(view), seen=1010, changed=900, seconds=9.0, rows=700, batches=(0.5,))
        one.parts.keeper.publish(finished)
        throttle.views = []
        await until(lambda: there(client, state="finished"))
        [shown] = await listed(client)
        assert (shown["rows_seen"], shown["rows_changed"], shown["ratio"], shown["holds"]) == (1010, 900, 1.0, [])
        assert (await client.get(f"/api/v1/rollouts/{rollout}")).json()["backfills"][0]["states"]["finished"] == 1
        events = await one.parts.store.ledger.events(rollout, limit=1000)
        names = [event.name for event in events if event.name.startswith("Backfill")]
        assert names == ["BackfillStarted", "BackfillFinished"]
        metrics = (await client.get("/metrics")).text
        assert 'orchestrator_backfill_rows_total{revision="c3",shard="files",track="app"} 700.0' in metrics


async def there(client: httpx2.AsyncClient, **asked: str) -> bool:
    return bool(await listed(client, **asked))


async def test_orders_stand_over_a_restart_and_what_ran_is_stopped(run: Run, tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/store.db"
    async with run(store) as (one, client, throttle):
        rollout = await begun(client)
        throttle.views = [underway(rollout), underway(rollout, "t1")]
        one.parts.keeper.publish(BackfillStarted(**told(throttle.views[0])))
        await until(lambda: there(client))
        paused = await client.post(f"{PLACE}/pause", json={"shard": "files", **WHY})
        assert (paused.status_code, paused.json()["count"]) == (200, 2)
        await client.post(f"{PLACE}/adjust", json={"tenant": "t0", "duty": 0.5, **WHY})
        await client.post(f"{PLACE}/abort", json={"rollout": rollout, "tenant": "t1", **WHY})
        await client.post(f"{PLACE}/pause", json={"all": True, **WHY})
        nothing_of_it = await client.post(f"{PLACE}/resume", json={"tenant": "t0", **WHY})
        assert nothing_of_it.status_code == 409
        assert "orchestrator backfill resume --shard files" in nothing_of_it.json()["remedy"]
        await client.post(f"{PLACE}/pause", json={"tenant": "t0", **WHY})
        stays = (await client.post(f"{PLACE}/resume", json={"tenant": "t0", **WHY})).json()
        assert (stays["count"], stays["holds"]) == (0, {"paused": 1})
        assert [it["scope"]["tenant"] for it in stays["taken_back"]] == ["t0"]
        assert [it["scope"]["shard"] for it in stays["paused_by"]] == ["files", None]
        goes_on = (await client.post(f"{PLACE}/resume", json={"all": True, **WHY})).json()
        assert (goes_on["count"], len(goes_on["taken_back"]), goes_on["paused_by"]) == (2, 2, [])
        await client.post(f"{PLACE}/pause", json={"shard": "files", **WHY})
        await client.post(f"{PLACE}/resume", json={"all": True, **WHY})
        await client.post(f"{PLACE}/pause", json={"shard": "files", **WHY})
        ordered = ["pause", "adjust", "abort", "pause", "pause", "resume", "resume", "pause", "resume", "pause"]
        assert [order.action for order in throttle.orders] == ordered
        audited = [row.values for row in await one.parts.store.audit.entries()]
        asked = [(it["action"], it["outcome"], it["details"].get("backfills")) for it in audited[1:9]]
        assert asked == [
            ("pause_backfills", "done", 2),
            ("adjust_backfills", "done", 1),
            ("abort_backfills", "done", 1),
            ("pause_backfills", "done", 2),
            ("resume_backfills", "refused", 0),
            ("pause_backfills", "done", 1),
            ("resume_backfills", "done", 0),
            ("resume_backfills", "done", 2),
        ]
        vars(one.parts.keeper)["flush"] = nothing  # as if the process had been killed
    async with run(store) as (one, client, throttle):
        scopes = {(order.action, order.scope): order.adjustment for order in throttle.orders}
        assert scopes == {
            ("pause", Scope(shard="files")): None,
            ("adjust", Scope(tenant="t0")): Adjustment(duty=0.5),
        }
        states = {it["tenant"]: (it["state"], it["reason"]) for it in await listed(client)}
        assert {state for state, _ in states.values()} == {"stopped"}
        assert "has ended" in states["t0"][1]
        standing = (await client.get(f"{PLACE}/summary")).json()["orders"]
        assert [(it["action"], it["scope"]["tenant"], it["reason"]) for it in standing] == [
            ("adjust", "t0", "month-end"),
            ("pause", None, "month-end"),
        ]


async def nothing(**given: Any) -> None:
    pass


async def test_what_cannot_be_ordered_is_refused_and_changes_nothing(run: Run, tmp_path: Path) -> None:
    async with run(f"sqlite:///{tmp_path}/store.db") as (_, client, throttle):
        rollout = await begun(client)
        await client.post(f"/api/v1/rollouts/{rollout}/abort")

        async def ended() -> bool:
            return bool((await client.get(f"/api/v1/rollouts/{rollout}")).json()["state"] == "aborted")

        await until(ended)
        for action, body, status, said in (
            ("pause", {"shard": "file"}, 422, "did you mean 'files'?"),
            ("pause", {"tenant": "t9"}, 422, "there are: t0, t1"),
            ("pause", {"rollout": "r0"}, 404, "there is no rollout"),
            ("pause", {"rollout": rollout}, 409, "has finished"),
            ("resume", {"shard": "files"}, 409, "no pause of shard files"),
            ("adjust", {"tenant": "t0", "rows_per_second": 5}, 400, "`rows_per_second` is shared"),
            ("adjust", {"all": True, "thresholds": {"lag": 5}}, 400, "there is no signal 'lag'"),
            ("adjust", {"tenant": "t0", "thresholds": {"threads_running": 5}}, 400, "is on sqlite"),
            ("adjust", {"all": True, "thresholds": {"probe:red": 5}}, 400, "there is no probe 'probe:red'"),
        ):
            answer = await client.post(f"{PLACE}/{action}", json={**body, **WHY})
            assert answer.status_code == status, answer.text
            assert said in answer.text
        assert throttle.orders == []
        assert (await client.get(f"{PLACE}/summary")).json() == {"revisions": [], "orders": []}


async def test_a_standby_has_the_leader_carry_it_out_and_keeps_to_it_when_it_leads(run: Run, store: str) -> None:
    async with run(store) as (second, asking, taken):
        pass  # makes the tables, so that nobody waits for them below
    async with anyio.create_task_group() as tasks:
        leading = anyio.Event()
        leave = anyio.Event()
        found: dict[str, Any] = {}

        async def lead() -> None:
            async with run(store) as (one, client, throttle):
                found.update(one=one, client=client, throttle=throttle)
                leading.set()
                await leave.wait()

        tasks.start_soon(lead)
        await leading.wait()
        rollout = await begun(found["client"])
        found["throttle"].views = [underway(rollout, holds=(Hold("paused", "paused by anna", now()),))]
        found["one"].parts.keeper.publish(BackfillStarted(**told(found["throttle"].views[0])))
        await until(lambda: there(found["client"]))
        async with run(store) as (second, asking, taken):
            assert (await asking.get("/readyz")).json()["role"] == "standby"
            [shown] = await listed(asking, state="held")
            assert (shown["tenant"], shown["holds"][0]["text"]) == ("t0", "paused by anna")
            answer = await asking.post(f"{PLACE}/pause", json={"shard": "files", **WHY})
            assert (answer.status_code, answer.json()["count"]) == (200, 1), answer.text
            assert [(order.action, order.scope) for order in found["throttle"].orders] == [
                ("pause", Scope(shard="files"))
            ]
            assert taken.orders == []
            refused = await asking.post(f"{PLACE}/resume", json={"tenant": "t0", **WHY})
            assert (refused.status_code, "shard files" in refused.json()["remedy"]) == (409, True)
            audited = [row.values for row in await second.parts.store.audit.entries()]
            ordered = [it for it in audited if it["action"].endswith("_backfills")]
            assert [(it["action"], it["outcome"]) for it in ordered] == [
                ("pause_backfills", "done"),
                ("resume_backfills", "refused"),
            ]
            goes_on = (await asking.post(f"{PLACE}/resume", json={"all": True, **WHY})).json()
            assert (goes_on["count"], [it["scope"]["shard"] for it in goes_on["taken_back"]]) == (1, ["files"])
            await asking.post(f"{PLACE}/pause", json={"shard": "files", **WHY})
            leave.set()
            await until(lambda: rollout in second.service.active)
            assert [order.scope for order in taken.orders] == [Scope(shard="files")]
