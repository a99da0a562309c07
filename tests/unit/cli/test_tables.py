"""Listings."""

from __future__ import annotations

from typing import Any

from orchestrator.cli import tables
from orchestrator.client.shapes import Migration, Preview, Target, Tenant
from tests.unit.cli.samples import group, plain, rollout


def tenant(name: str, state: str = "up_to_date", message: str | None = None, **fields: Any) -> Tenant:
    target = Target(
        track="app",
        shard="pg",
        database=name,
        schema=None,
        labels={},
        state=state,
        heads=["r1"],
        read_at=None,
        message=message,
    )
    return Tenant(tenant=name, targets=[{**target, **fields}])  # type: ignore[typeddict-item]


def test_tenants_stand_in_columns() -> None:
    shown = plain(tables.tenants([tenant("acme"), tenant("globex", "behind", schema="s", heads=[])]))
    assert shown.splitlines() == [
        "tenant  track  shard  database  state       heads",
        "acme    app    pg     acme      up to date  r1",
        "globex  app    pg     globex.s  behind      -",
    ]


def test_messages_have_a_column_only_when_there_are_some() -> None:
    shown = plain(tables.tenants([tenant("acme"), tenant("globex", "unreachable", "no [route]")]))
    assert shown.splitlines()[0].endswith("message")
    assert shown.splitlines()[2].endswith("no [route]")


def test_the_fleet_is_counted_by_state() -> None:
    assert tables.fleet([tenant("a"), tenant("b"), tenant("c", "behind")]) == "3 targets: 2 up to date, 1 behind"
    assert tables.fleet([]) == "no targets"


def test_rollouts_tell_how_many_are_at_the_goal() -> None:
    shown = plain(tables.rollouts([rollout("failed", succeeded=3, up_to_date=1, failed=2)]))
    assert shown.splitlines()[1].split() == ["20260102-030405-abcd", "app", "head", "failed", "4/6", "2", "http"]


def test_migrations_tell_their_error() -> None:
    example = group("x", 1, message="boom")["example"]
    found: Migration = {
        "tenant": "a",
        "track": "app",
        "shard": "pg",
        "wave": "everyone",
        "state": "failed",
        "attempts": 2,
        "from": None,
        "to": ["r1"],
        "steps": 1,
        "execution": None,
        "error": example,
        "duration_seconds": 1.25,
    }
    shown = plain(tables.migrations([found]))
    assert shown.splitlines()[1].split() == ["a", "pg", "failed", "-", "r1", "-", "2", "1.25", "boom"]


def plan(*groups: Any, direction: str = "upgrade") -> Preview:
    shown = [dict(zip(("heads", "state", "steps", "count", "tenants"), one, strict=True)) for one in groups]
    total = sum(one["count"] for one in shown)
    return Preview(dry_run=True, track="app", to="head", direction=direction, total=total, groups=shown)  # type: ignore[typeddict-item]


def test_a_plan_shows_groups_with_the_most_work_first() -> None:
    shown = plain(
        *tables.preview(
            plan(
                (["r2"], "up_to_date", [], 9, ["z"]),
                ([], "unprovisioned", ["r1", "r2"], 40, ["a", "b", "c", "d"]),
                (["r1"], "behind", ["r2"], 1, ["q"]),
            )
        )
    )
    headline, _, first, second, third = shown.splitlines()
    assert headline == "dry run, nothing was changed: 41 of 50 targets would be migrated, app to head"
    assert first.endswith("  a, b, c and 37 more")
    assert [line.split()[0] for line in (first, second, third)] == ["40", "1", "9"]


def test_a_plan_with_unreachable_targets_says_where_to_look() -> None:
    assert "check --connect" in plain(*tables.preview(plan(([], "unreachable", [], 1, ["a"]))))


def test_a_downgrade_is_called_so() -> None:
    assert "would be downgraded" in tables.headline(plan((["r2"], "behind", ["r2"], 1, ["a"]), direction="downgrade"))
