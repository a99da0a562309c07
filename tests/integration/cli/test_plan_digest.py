"""Bound to a plan from the terminal, and over HTTP: `plan`, then `migrate` or `rollout start` with its digest."""

from __future__ import annotations

import json
from pathlib import Path

import anyio

from tests import environments
from tests.command import Result, run
from tests.daemon import Daemon
from tests.integration.cli.conftest import Project

STARTED_AT = "without a version table"


async def digest_of(project: Project, *arguments: str) -> str:
    done = await project.run("plan", "--json", *arguments)
    assert done.code == 0, done.err
    found: str = json.loads(done.out)["digest"]
    return found


def untouched(project: Project, count: int) -> bool:
    return all(project.database(number).stat().st_size == 0 for number in range(count))


async def test_a_plan_that_holds_is_carried_out_and_only_once(project: Project) -> None:
    digest = await digest_of(project)
    looked = await project.run("migrate", "--dry-run", "--plan-digest", digest)
    assert (looked.code, untouched(project, 6)) == (0, True), looked.err
    done = await project.run("migrate", "--plan-digest", digest)
    assert done.code == 0, done.err
    assert f"bound to plan {digest.partition('-')[0]}" in done.out
    again = await project.run("migrate", "--plan-digest", digest)
    assert again.code == 4
    assert "what would run is not what was planned; nothing was started" in again.err
    assert "steps: targets are no longer where they were" in again.err


async def test_a_tenant_that_came_after_planning_is_named(project: Project) -> None:
    digest = await digest_of(project)
    project.write_registry(7)
    for more in ([], ["--dry-run"]):
        done = await project.run("migrate", "--plan-digest", digest, *more)
        assert done.code == 4
        assert "targets: 1 more than planned (t006)" in done.err
        assert "try: look at a new plan" in done.err
    assert untouched(project, 7)
    done = await project.run("migrate", "--plan-digest", digest, "--select", "tenant!=t006")
    assert done.code == 0, done.err
    assert project.database(6).stat().st_size == 0


async def test_what_is_no_digest_is_bad_input(project: Project) -> None:
    done = await project.run("migrate", "--plan-digest", "abc")
    assert done.code == 2
    assert "'abc' is not the digest of a plan" in done.err


async def test_a_plan_does_not_hang_on_the_order_of_hashes_or_on_the_folder(project: Project, tmp_path: Path) -> None:
    folder = project.folder / "project"
    project.write_registry(6, app={"script_location": "project/alembic"})
    for revision, down in (("x1", "alpha"), ("x2", "alpha"), ("y1", "x1"), ("m", ("y1", "x2", "beta"))):
        environments.add_revision(folder, revision, down, "pass")
    found = [
        await run("plan", "--json", cwd=tmp_path, env={"PYTHONHASHSEED": str(seed)}, fresh=True) for seed in (1, 2)
    ]
    moved = Path(await anyio.Path(tmp_path).rename(tmp_path.parent / f"{tmp_path.name} moved"))
    found.append(await run("plan", "--json", cwd=moved))
    assert [done.err for done in found if done.code] == []
    assert len({json.loads(done.out)["digest"] for done in found}) == 1


async def test_the_plan_says_what_cannot_be_taken_back(project: Project) -> None:
    environments.add_revision(project.folder / "project", "gamma", "beta", "op.execute('SELECT 1')")
    done = await project.run("plan")
    assert "gamma: it cannot be taken back: its downgrade is empty" in done.out
    assert done.out.count("the server does not take DDL back") == 1
    [group] = json.loads((await project.run("plan", "--json")).out)["groups"]
    assert group["irreversible"] == {"gamma": "its downgrade is empty"}
    assert {finding["rule"] for finding in group["findings"]} == {"half_applied", "irreversible", "online", "unread"}
    assert "gamma cannot be taken back" in (await project.run("migrate", "--dry-run")).out


async def test_a_daemon_holds_to_the_digest_over_http_and_from_the_terminal(project: Project) -> None:
    registry, store = project.folder / "tenants.yaml", f"sqlite:///{project.folder}/store.db"
    async with Daemon(registry, store) as daemon:
        asked = {"track": "app", "to": "head"}
        plan = (await daemon.call("POST", "/api/v1/plans", json=asked)).json()
        assert plan["digest"] == await digest_of(project)  # whoever makes it
        project.write_registry(8)
        assert (await daemon.call("POST", "/api/v1/registry/reload")).json()["targets"] == 8
        for body in ({}, {"dry_run": True}):
            refused = await daemon.post_rollout(plan_digest=plan["digest"], **body)
            assert (refused.status_code, refused.json()["type"]) == (409, "urn:orchestrator:problem:plan-changed")
            assert refused.json()["differences"] == ["targets: 2 more than planned (t006, t007)"]
        terminal = await start(daemon, "--plan-digest", plan["digest"])
        assert terminal.code == 4
        assert "targets: 2 more than planned (t006, t007)" in terminal.err
        assert (await daemon.call("GET", "/api/v1/rollouts")).json()["items"] == []
        assert untouched(project, 8)
        assert (await daemon.post_rollout(plan_digest="abc")).status_code == 422
        project.write_registry(6)
    async with Daemon(registry, store) as daemon:  # the plan is the one that the daemon before has made
        asked = {"plan_digest": plan["digest"], "track": "app", "to": "head"}
        key = {"Idempotency-Key": "release-7"}
        started = await daemon.call("POST", "/api/v1/rollouts", json=asked, headers=key)
        assert (started.status_code, started.json()["plan_digest"]) == (201, plan["digest"]), started.text
        ended = await daemon.ended(started.json()["id"])
        assert (ended["state"], ended["counts"]["succeeded"]) == ("succeeded", 6)
        repeated = await daemon.call("POST", "/api/v1/rollouts", json=asked, headers=key)
        assert (repeated.status_code, repeated.json()["id"]) == (200, started.json()["id"])
        again = await daemon.post_rollout(plan_digest=plan["digest"])
        assert again.json()["differences"] == [
            f"steps: 6 targets are no longer {STARTED_AT} (now at beta): t000, t001, t002, t003, t004 and 1 more"
        ]


async def start(daemon: Daemon, *arguments: str) -> Result:
    return await run("rollout", "start", "--track", "app", *arguments, "--server", daemon.url, cwd=Path("/"))


async def test_the_plan_shows_backfills_and_what_is_mixed_with_them(project: Project) -> None:
    folder = project.folder / "project"
    fill = "op.backfill('alpha', set_={'id': 'id'})"
    environments.add_revision(folder, "gamma", "beta", fill, fill)
    environments.add_revision(folder, "delta", "gamma", f"{fill}\nop.drop_table('beta')", fill)
    done = await project.run("plan")
    assert done.code == 0, done.err
    lines = [" ".join(line.split()) for line in done.out.splitlines()]
    assert "gamma backfill it changes rows in batches" in lines
    assert "delta: it will not run: beside its backfills it has op.drop_table (delta.py:" in " ".join(lines)
    strict = await project.run("plan", "--fail-on", "error", "--json")
    assert strict.code == 6, strict.err
    found = json.loads(strict.out)
    assert found["worst"] == "error"
    assert [one["revision"] for one in found["groups"][0]["findings"] if one["level"] == "error"] == ["delta"]
    rules = {"config": "project/alembic.ini", "findings": {"rules": {"mixed_backfill": "warning"}}}
    project.write_registry(6, app=rules)
    assert (await project.run("plan", "--fail-on", "error")).code == 0
    assert (await project.run("plan", "--fail-on", "warning", "--markdown")).code == 6
