"""`backup` and `verify` in the registry file."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import RegistryError
from orchestrator.registry import verifications
from orchestrator.registry.model import Registry
from orchestrator.registry.precautions import Assertion, Backup, RowGuard
from tests.unit.registry.files import loaded

START = """\
tracks:
  app:
    script_location: alembic
{track}
shards: {{}}
tenants: []
strategies:
  night:
{strategy}
"""


def _load(folder: Path, strategy: str = "    approval: true", track: str = "") -> Registry:
    (folder / "alembic").mkdir(exist_ok=True)
    return loaded(folder, START.format(track=track, strategy=strategy))


def test_a_wave_has_the_strategys_backup_its_own_over_it_or_none(tmp_path: Path) -> None:
    strategy = """\
    backup: {directory: backups, deadline: 10m, keep: 5}
    waves:
      - {name: canary, count: 1, backup: {keep: 9, per_shard: 1}}
      - {name: half, percent: 50, backup: none}
      - {name: quarter, percent: 25, backup: {command: "make $$ORCHESTRATOR_TENANT"}}
      - {name: rest}
"""
    waves = _load(tmp_path, strategy).strategies["night"].waves
    common = Backup(tmp_path / "backups", deadline_seconds=600, keep=5)
    assert waves[0].backup == Backup(tmp_path / "backups", deadline_seconds=600, keep=9, per_shard=1)
    assert waves[1].backup is None
    assert waves[2].backup is not None
    assert waves[2].backup.directory == tmp_path / "backups"
    assert waves[3].backup == common


def test_one_wave_alone_may_be_backed_up(tmp_path: Path) -> None:
    strategy = """\
    waves:
      - {name: canary, count: 1, backup: {directory: /backups}}
      - {name: rest}
"""
    waves = _load(tmp_path, strategy).strategies["night"].waves
    assert [wave.backup for wave in waves] == [Backup(Path("/backups")), None]


def test_a_strategy_without_waves_backs_all_up(tmp_path: Path) -> None:
    (wave,) = _load(tmp_path, "    backup: {command: make it}").strategies["night"].waves
    assert wave.backup == Backup(command="make it")
    (wave,) = _load(tmp_path, "    backup: none").strategies["night"].waves
    assert wave.backup is None


@pytest.mark.parametrize(
    ("strategy", "said"),
    [
        ("    backup: {keep: 3}", "`directory` is missing"),
        ("    backup: {directory: x, keep: 0}", "this must be at least 1"),
        ("    backup: {directory: x, deadline: soon}", "this must be a duration"),
        ("    backup: {directroy: x}", "did you mean 'directory'?"),
        ("    backup: no", "this must be a mapping"),
        ("    waves:\n      - {name: all, backup: {check: look}}", "strategies.night.waves[0].backup: `directory` is"),
    ],
)
def test_mistakes_in_backups_are_told_at_their_place(strategy: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"9:|10:") as told:
        _load(tmp_path, strategy)
    assert said in str(told.value)


def test_what_is_to_be_verified(tmp_path: Path) -> None:
    track = """\
    verify:
      - sql: SELECT count(*) = 0 FROM orders WHERE total IS NULL
        name: every order has a total
      - {sql: SELECT count(*) FROM plans, expect: 3, timeout: 5m}
      - {rows: sales.orders, may: stay, within: 1%, revision: abc}
      - {rows: orders, within: 5}
"""
    assert _load(tmp_path, track=track).tracks["app"].verify == (
        Assertion("SELECT count(*) = 0 FROM orders WHERE total IS NULL", "every order has a total"),
        Assertion("SELECT count(*) FROM plans", expect="3", timeout_seconds=300),
        RowGuard("sales.orders", may="stay", within_percent=1, revision="abc"),
        RowGuard("orders", within_count=5),
    )


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("{name: x}", "give `sql`, or `rows`"),
        ("{sql: SELECT 1, rows: orders}", "give `sql`, or `rows`"),
        ("{sql: SELECT 1, may: grow}", "`may` and `within` belong to `rows`"),
        ("{rows: orders, expect: 3}", "`expect` belongs to `sql`"),
        ("{rows: orders, may: vary}", "this must be 'grow', 'shrink' or 'stay'"),
        ("{rows: sales., within: 3}", "`rows` must be the name of a table"),
        ("{rows: orders, within: some}", "this must be a count"),
        ("{sqll: SELECT 1}", "did you mean 'sql'?"),
    ],
)
def test_mistakes_in_verifications_are_told(entry: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(RegistryError) as told:
        _load(tmp_path, track=f"    verify:\n      - {entry}")
    assert said in str(told.value)


def test_a_revision_says_it_in_the_same_words() -> None:
    written = ["SELECT true", {"sql": "SELECT 3", "expect": 3}, {"rows": "orders", "within": 2, "timeout": 90}]
    assert verifications.declared("abc", written) == (
        Assertion("SELECT true", revision="abc"),
        Assertion("SELECT 3", expect="3", revision="abc"),
        RowGuard("orders", within_count=2, revision="abc", timeout_seconds=90),
    )
    with pytest.raises(ValueError, match="entry 2 of `verify`: `revision` is the file's own"):
        verifications.declared("abc", ["SELECT 1", {"sql": "SELECT 1", "revision": "abc"}])
