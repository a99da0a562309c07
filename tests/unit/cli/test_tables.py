"""Listings."""

from __future__ import annotations

from typing import Any

from orchestrator.cli import tables
from orchestrator.client.shapes import Migration, Preview, Source, Target, Tenant
from tests.unit.cli.samples import group, plain, rollout


def tenant(name: str, state: str = "up_to_date", message: str | None = None, **fields: Any) -> Tenant:
    target = Target(
        track="app",
        shard="pg",
        database=name,
        schema=None,
        source="file",
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


def test_who_names_a_tenant_has_a_column_only_when_it_is_not_always_the_file() -> None:
    shown = plain(tables.tenants([tenant("acme"), tenant("globex", source="pg/databases")]))
    assert [line.split()[-1] for line in shown.splitlines()] == ["source", "file", "pg/databases"]


def source(**fields: Any) -> Source:
    well = Source(
        name="saas",
        question="query",
        shard="control",
        targets=3,
        stale=False,
        stale_since=None,
        reason=None,
        refreshed_at="T1",
        refresh_seconds=60.0,
        ignored=0,
        ignored_examples=[],
    )
    return {**well, **fields}  # type: ignore[typeddict-item]


def test_a_stale_source_has_a_line_and_one_that_is_well_has_none() -> None:
    assert list(tables.sources([source()])) == []
    assert list(tables.sources([source(stale=True, stale_since="T2", reason="no answer")])) == [
        "source saas is stale since T2; 3 targets of its last answer, T1, are kept: no answer"
    ]
    assert list(tables.sources([source(stale=True, stale_since="T2", reason="no answer", refreshed_at=None)])) == [
        "source saas is stale since T2; which tenants it has is not known: no answer"
    ]
    assert list(tables.sources([source(ignored=2, ignored_examples=["row 1: a", "row 2: b"])])) == [
        "source saas names 2 that cannot be tenants: row 1: a; row 2: b"
    ]


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
    fields = ("heads", "state", "steps", "count", "tenants", "problem")
    shown = [dict(zip(fields, (*one, None)[: len(fields)], strict=True), irreversible={}) for one in groups]
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


def test_a_plan_says_why_nothing_is_run() -> None:
    shown = plain(*tables.preview(plan((["r1", "r2"], "unknown", [], 1, ["a"], "'-1' is ambiguous"))))
    assert "'-1' is ambiguous" in shown


def test_a_plan_with_unreachable_targets_says_where_to_look() -> None:
    assert "check --connect" in plain(*tables.preview(plan(([], "unreachable", [], 1, ["a"]))))


def test_a_downgrade_is_called_so() -> None:
    assert "would be downgraded" in tables.headline(plan((["r2"], "behind", ["r2"], 1, ["a"]), direction="downgrade"))
