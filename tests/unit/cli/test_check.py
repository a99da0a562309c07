"""What `check` makes of what it found."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestrator.api.ports import TargetView
from orchestrator.cli import check
from orchestrator.history.findings import EnvPy
from orchestrator.registry.model import Target
from orchestrator.rollout.state import FleetState
from orchestrator.service.checking import Findings, ShardFinding, TrackFinding, troubles
from tests.unit.cli.samples import plain


def view(tenant: str, state: FleetState, message: str | None = None, *, shard: str = "pg") -> TargetView:
    target = Target(tenant, "app", shard, f"db_{tenant}")
    return TargetView(target, state, ("r9",), datetime(2026, 1, 1, tzinfo=UTC), message)


def test_targets_with_messages_that_differ_in_the_database_only_have_one_cause() -> None:
    views = [view(name, FleetState.UNREACHABLE, f"database db_{name} does not exist") for name in ("b", "a", "c")]
    other = view("d", FleetState.UNREACHABLE, "password authentication failed")
    first, second = troubles([other, *views, view("e", FleetState.BEHIND)])
    assert (first.count, first.tenants, first.message) == (3, ("a", "b", "c"), "database db_b does not exist")
    assert (second.count, second.tenants) == (1, ("d",))


def test_shards_are_told_apart() -> None:
    views = [view("a", FleetState.UNREACHABLE, "away"), view("b", FleetState.UNREACHABLE, "away", shard="pg2")]
    assert {trouble.shard for trouble in troubles(views)} == {"pg", "pg2"}


def test_a_target_ahead_of_this_build_is_named_with_its_revision() -> None:
    [trouble] = troubles([view("a", FleetState.AHEAD)])
    assert trouble.message == "its revision r9 is not in this build"


@pytest.mark.parametrize(
    ("mistakes", "states", "code"),
    [(False, [], 0), (True, [], 2), (False, ["unreachable"], 5), (True, ["unreachable"], 2), (False, ["ahead"], 2)],
)
def test_exit_codes(mistakes: bool, states: Sequence[str], code: int) -> None:
    assert check.exit_code(mistakes, states) == code


def test_findings_are_shown_per_track_and_shard() -> None:
    track = TrackFinding(
        "app",
        12,
        "process",
        "head",
        "/srv/alembic",
        True,
        ("postgresql+asyncpg",),
        revisions=15,
        heads=("r9",),
        env_py=EnvPy(version_table=("v_", ""), connections=2, arguments=("region", "tenant"), imports=("shop",)),
        version_table="v_{tenant}",
        set_by="env.py",
    )
    shard = ShardFinding("pg-eu", "postgresql", "db.internal:5432", 12, 8)
    shown = plain(*check.found(Findings(Path("/srv/tenants.yaml"), (track,), (shard,), 10, 12)))
    assert shown.splitlines() == [
        "/srv/tenants.yaml: 10 tenants, 12 targets",
        "",
        "track app",
        "  history        /srv/alembic",
        "  revisions      15",
        "  heads          r9",
        "  goal           head",
        "  env.py         async, with postgresql+asyncpg, in a process",
        "  connection     its own, 2 of them",
        "  version table  v_{tenant}, set by env.py",
        "  transaction    one for all revisions",
        "  -x arguments   asks for region, tenant; not given: region",
        "  imports        shop",
        "  targets        12",
        "",
        "shard  dialect     place             targets  at once",
        "pg-eu  postgresql  db.internal:5432       12        8",
    ]


def test_troubles_are_shown_by_cause() -> None:
    found = troubles([view(f"t{n}", FleetState.UNREACHABLE, "away") for n in range(9)])
    assert plain(*check.connected(10, found)).splitlines() == [
        "",
        "connected: 1 of 10 targets are well",
        "  unreachable  9 targets on pg: t0, t1, t2, t3, t4 and 4 more",
        "    away",
    ]
