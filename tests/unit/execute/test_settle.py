"""Which version table a target has."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
from sqlalchemy.engine import make_url
from structlog.testing import capture_logs

from orchestrator.errors import HistoryError
from orchestrator.execute.settle import Settler
from orchestrator.history.findings import UNCLEAR, EnvPy
from orchestrator.history.library import Library
from orchestrator.history.revisions import History, Snapshot
from orchestrator.registry.model import Registry, Shard, Target, Track
from tests.engine import registry_of

ACME = Target("acme", "app", "pg", "shop", version_table="v_acme")
GLOBEX = Target("globex", "app", "pg", "shop", version_table="v_globex")
TRACK = Track("app", script_location=Path("/srv"), version_table="v_{tenant}")


class _Known:
    """Stands for a library in which one history was read."""

    def __init__(self, env_py: EnvPy) -> None:
        self.histories = {"app": History(TRACK, Snapshot("/srv", (), False, "digest", (), env_py))}

    def known(self, track: str) -> History | None:
        return self.histories.get(track)


def settler(env_py: EnvPy) -> tuple[Settler, History]:
    known = _Known(env_py)
    return Settler(cast(Library, known)), known.histories["app"]


def registry(*targets: Target, dialect: str = "postgresql") -> Registry:
    shard = Shard("pg", make_url("postgresql://u@db" if dialect == "postgresql" else "sqlite://"))
    return registry_of([TRACK, Track("other", script_location=Path("/srv2"))], [shard], targets)


@pytest.mark.parametrize(
    ("env_py", "table", "schema"),
    [
        (EnvPy(), "v_acme", None),
        (EnvPy(version_table=("own",)), "own", None),
        (EnvPy(version_table=("own_", "_x")), "own_acme_x", None),
        (EnvPy(version_table=UNCLEAR), "v_acme", None),
        (EnvPy(version_table_schema=("meta",)), "v_acme", "meta"),
        (EnvPy(version_table=UNCLEAR, version_table_schema=("", "")), "v_acme", "acme"),
    ],
)
def test_what_env_py_sets_wins(env_py: EnvPy, table: str, schema: str | None) -> None:
    settled = settler(env_py)[0].settled(ACME)
    assert (settled.version_table, settled.version_table_schema) == (table, schema)


def test_a_target_whose_history_was_not_read_is_as_the_registry_has_it() -> None:
    other = Target("acme", "other", "pg", "shop")
    assert settler(EnvPy(version_table=("own",)))[0].settled(other) is other


async def test_it_is_told_once_for_each_registry_and_finding() -> None:
    one, history = settler(EnvPy(version_table=("own_", "")))
    with capture_logs() as lines:
        await one.note(registry(ACME, GLOBEX), history)
        await one.note(registry(ACME, GLOBEX), history)
    assert lines == [
        {
            "event": "version_table_overruled",
            "log_level": "warning",
            "track": "app",
            "env_py": "own_{tenant}",
            "registry": "v_{tenant}",
        }
    ]


async def test_what_the_registry_says_as_well_is_not_told() -> None:
    one, history = settler(EnvPy(version_table=("v_", "")))
    with capture_logs() as lines:
        await one.note(registry(ACME, GLOBEX), history)
    assert lines == []


@pytest.mark.parametrize(
    "targets",
    [
        (ACME, GLOBEX),
        (ACME, Target("initech", "other", "pg", "shop", version_table="own")),
        (ACME, Target("initech", "other", "pg", "shop", version_table="own", schema="public")),
    ],
)
async def test_targets_that_come_to_share_a_version_table_are_an_error_that_names_both(
    targets: tuple[Target, Target],
) -> None:
    one, history = settler(EnvPy(version_table=("own",)))
    with pytest.raises(HistoryError) as failed:
        await one.note(registry(*targets), history)
    for target in targets:
        assert str(target.key) in failed.value.message
    assert "'own'" in failed.value.message
    assert "with the tenant in it" in (failed.value.remedy or "")
    with pytest.raises(HistoryError):
        await one.note(registry(*targets), history)


@pytest.mark.parametrize(
    "other",
    [
        Target("globex", "app", "pg", "another"),
        Target("globex", "app", "pg", "shop", schema="globex"),
    ],
)
async def test_targets_at_places_of_their_own_may_have_the_same_name(other: Target) -> None:
    one, history = settler(EnvPy(version_table=("own",)))
    await one.note(registry(ACME, other), history)


async def test_each_track_is_looked_at_for_itself() -> None:
    _, history = settler(EnvPy(version_table=("own",)))
    other = History(Track("other", script_location=Path("/srv2")), history.snapshot)
    known = _Known(history.env_py)
    known.histories["other"] = other
    one = Settler(cast(Library, known))
    shop = [Target(name, "other", "pg", "another") for name in ("acme", "globex")]
    both = registry(Target("acme", "app", "pg", "shop"), *shop)
    await one.note(both, history)
    with pytest.raises(HistoryError, match="acme/other and globex/other"):
        await one.note(both, other)
