from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.registry import manifest
from orchestrator.registry.model import Check, Discovery, FailureBudget, Registry, Strategy, Target, Track, Wave
from tests.unit.registry.files import ENVIRON, SHARDS, TENANTS, TRACKS, VALID, loaded, write

EXAMPLE = Path(__file__).parents[3] / "tenants.example.yaml"
EXAMPLE_ENVIRON = {
    "PG_EU_1_PASSWORD": "p@ss",
    "PG_US_1_URL": "postgresql://u:p%40@pg-us-1.internal",
    "PROMETHEUS_PASSWORD": "s3cret",
    "HEALTH_TOKEN": "t0ken",
}


def test_sources_of_tenants_are_read(tmp_path: Path) -> None:
    text = f"""{TRACKS}{SHARDS}tenants: []
discover:
  - {{shard: pg, databases: "t_(?P<tenant>.+)", exclude: [t_test, "*_old"], refresh: 5m, adopt: a1}}
  - {{name: schemas, shard: pg, database: app, schemas: "(?P<tenant>.+)", track: app, labels: {{tier: free}}}}
  - shard: pg
    database: saas
    create: true
    query: |
      SELECT id AS tenant
      FROM tenants
  - {{url: "https://api.internal/tenants?key=${{KEY}}", token: "${{TOKEN}}", refresh: 90}}
"""
    databases, schemas, query, url = loaded(tmp_path, text, {"KEY": "k&y", "TOKEN": "s3cret"}).discoveries
    assert databases == Discovery(
        "pg/databases",
        "databases",
        "t_(?P<tenant>.+)",
        shard="pg",
        pattern="t_(?P<tenant>.+)",
        exclude=("t_test", "*_old"),
        adopt="a1",
        refresh_seconds=300.0,
    )
    assert (schemas.name, schemas.database, schemas.track, schemas.labels) == (
        "schemas",
        "app",
        "app",
        {"tier": "free"},
    )
    assert (query.name, query.create_schema, query.pattern) == ("pg/saas/query", True, None)
    assert query.text == "SELECT id AS tenant\nFROM tenants\n"
    assert (url.name, url.text) == ("api.internal", "https://api.internal/tenants?key=k&y")
    assert (url.token, url.refresh_seconds) == ("s3cret", 90.0)
    assert "s3cret" not in repr(url)
    assert "k&y" not in repr(url)


CHECKS = """
strategies:
  canary:
    waves:
      - name: first
        count: 1
        checks:
          - {name: queue, sql: "SELECT count(*) FROM dead", shard: pg, database: saas, schema: ops, max: 0}
          - {name: rows, sql: "SELECT true", on: tenants, sample: 20, track: app, deadline: 10m, timeout: 5s}
          - name: errors
            promql: sum(rate(errors[5m]))
            url: https://prom/${PASSWORD}
            user: me
            password: ${PASSWORD}
            max: 0.5
            for: 5m
            empty: pass
          - {name: page, http: "https://app/healthz?key=${PASSWORD}", token: "${PASSWORD}", status: 204, contains: ok}
      - {name: rest, checks: [{name: late, sql: "SELECT 1", on: tenants, equals: 1, every: 30s}]}
"""


def test_checks_become_values_without_secrets_in_their_repr(tmp_path: Path) -> None:
    registry = loaded(tmp_path, TRACKS + SHARDS + TENANTS + CHECKS)
    first, rest = registry.strategies["canary"].waves
    queue, rows, errors, page = first.checks
    assert queue == Check(
        "queue", "sql", "SELECT count(*) FROM dead", shard="pg", database="saas", schema="ops", most=0.0
    )
    assert rows == Check(
        "rows", "sql", "SELECT true", sample=20, track="app", deadline_seconds=600.0, timeout_seconds=5.0
    )
    assert (errors.url, errors.user, errors.password) == ("https://prom/s3cret", "me", "s3cret")
    assert (errors.most, errors.least, errors.for_seconds, errors.empty_passes) == (0.5, None, 300.0, True)
    assert (page.text, page.token, page.status) == ("https://app/healthz?key=s3cret", "s3cret", 204)
    assert (page.every_seconds, page.deadline_seconds, page.timeout_seconds) == (15.0, 300.0, 10.0)
    assert rest.checks == (Check("late", "sql", "SELECT 1", equals="1", every_seconds=30.0),)
    assert "s3cret" not in repr(registry)


def test_a_check_that_changes_changes_the_registry(tmp_path: Path) -> None:
    text = TRACKS + SHARDS + TENANTS + CHECKS
    assert loaded(tmp_path, text).digest == loaded(tmp_path, text).digest
    assert loaded(tmp_path, text).digest != loaded(tmp_path, text.replace("max: 0.5", "max: 0.6")).digest
    assert loaded(tmp_path, text).digest != loaded(tmp_path, text, {"PASSWORD": "other"}).digest


def test_a_file_becomes_a_registry(tmp_path: Path) -> None:
    registry = loaded(tmp_path, VALID)
    assert registry.source == tmp_path / "tenants.yaml"
    assert registry.tracks == {"app": Track("app", tmp_path / "alembic")}
    assert registry.shards["pg"].url.password == "s3cret"
    assert registry.shards["pg"].max_concurrent == 4
    assert registry.targets == (
        Target("acme", "app", "pg", "acme", labels={"region": "eu", "tier": "free"}),
        Target("initech", "app", "local", "initech.db"),
    )
    everyone = Wave("everyone", on_failure=FailureBudget(percent=2, then="abort"))
    assert registry.strategies == {"careful": Strategy("careful", 2, (everyone,))}


def test_a_shard_leaves_connections_to_applications_and_may_limit_each_database(tmp_path: Path) -> None:
    given = "max_per_database: 2, reserve_connections: 0"
    shards = f"shards: {{pg: {{url: postgresql://h, {given}}}, plain: {{url: postgresql://i}}}}\n"
    registry = loaded(tmp_path, TRACKS + shards + TENANTS)
    pg, plain = registry.shards["pg"], registry.shards["plain"]
    assert (pg.max_per_database, pg.reserve_connections) == (2, 0)
    assert (plain.max_per_database, plain.reserve_connections) == (None, 5)


def test_an_sqlite_target_is_a_file_in_the_shards_folder(tmp_path: Path) -> None:
    registry = loaded(tmp_path, VALID)
    assert registry.url_for(registry.targets[1]).database == str(tmp_path / "data" / "initech.db")


def test_relative_paths_start_at_the_files_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, VALID)
    monkeypatch.chdir(tmp_path)
    registry = manifest.load(Path("tenants.yaml"), ENVIRON)
    assert registry.source == tmp_path / "tenants.yaml"
    assert registry.tracks["app"].script_location == tmp_path / "alembic"


def test_a_track_can_be_a_folder_in_a_package(tmp_path: Path) -> None:
    tracks = "tracks: {app: {script_location: 'tests.unit:registry'}}\n"
    registry = loaded(tmp_path, tracks + SHARDS + TENANTS)
    assert registry.tracks["app"].script_location == Path(__file__).parent


def test_a_track_can_be_a_configuration_file(tmp_path: Path) -> None:
    (tmp_path / "alembic.ini").touch()
    tracks = "tracks: {app: {config: '${FOLDER}/alembic.ini', section: dwh, driver: psycopg2}}\n"
    registry = loaded(tmp_path, tracks + SHARDS + TENANTS, {"FOLDER": str(tmp_path)})
    expected = Track("app", config=tmp_path / "alembic.ini", section="dwh", driver="psycopg2")
    assert registry.tracks["app"] == expected


def test_environment_values_keep_their_placeholders(tmp_path: Path) -> None:
    variables = '{URL: "{url}?x={tenant}", JSON: \'{"a": {}}\', KEY: "${PASSWORD}", PLAIN: "$${x"}'
    tracks = f"tracks: {{app: {{script_location: alembic, isolation: process, environment: {variables}}}}}\n"
    registry = loaded(tmp_path, tracks + SHARDS + TENANTS, {"PASSWORD": "{tenant"})
    assert registry.tracks["app"].environment == {
        "URL": "{url}?x={tenant}",
        "JSON": '{"a": {}}',
        "KEY": "{tenant",
        "PLAIN": "${x",
    }


def test_version_tables_are_named_for_each_target(tmp_path: Path) -> None:
    names = "version_table: 'v_{tenant}_{track}', version_table_schema: '{tenant}'"
    tracks = f"tracks: {{app: {{script_location: alembic, {names}}}}}\n"
    (target,) = loaded(tmp_path, tracks + SHARDS + "tenants: [{id: 'a {b}', shard: pg, database: x}]").targets
    assert (target.version_table, target.version_table_schema) == ("v_a {b}_app", "a {b}")


def test_targets_may_share_a_database_with_version_tables_of_their_own(tmp_path: Path) -> None:
    tracks = "tracks: {app: {script_location: alembic, version_table: 'v_{tenant}'}}\n"
    tenants = "tenants: [{id: a, shard: pg, database: x}, {id: b, shard: pg, database: x}]"
    assert len(loaded(tmp_path, tracks + SHARDS + tenants).targets) == 2


@pytest.mark.parametrize(
    "text",
    ["007", "012", "12:30:45", "no", "yes", "on", "2026-01-01", "1e3", "0x1F", "true", "1_000", "3.10", "=", "+1"],
)
def test_plain_scalars_are_the_text_that_was_written(tmp_path: Path, text: str) -> None:
    tenants = f"tenants: [{{id: {text}, shard: pg, database: {text}, labels: {{x: {text}}}}}]"
    (target,) = loaded(tmp_path, TRACKS + SHARDS + tenants).targets
    assert (target.tenant, target.database, target.labels) == (text, text, {"x": text})


@pytest.mark.parametrize("name", ['o"brien', "with space", "Größe/日本", "it's", "{x}", "a;b"])
def test_databases_may_have_any_name(tmp_path: Path, name: str) -> None:
    quoted = "'" + name.replace("'", "''") + "'"
    (target,) = loaded(tmp_path, f"{TRACKS}{SHARDS}tenants: [{{id: {quoted}, shard: pg, database: {quoted}}}]").targets
    assert (target.tenant, target.database) == (name, name)


def test_anchors_and_merge_keys_save_writing(tmp_path: Path) -> None:
    tenants = (
        "tenants:\n"
        "  - &first {id: a, shard: pg, database: a, labels: &free {tier: free}}\n"
        "  - {<<: *first, id: b, database: b}\n"
        "  - {id: c, shard: pg, database: c, labels: {<<: [*free], x: y}}\n"
    )
    targets = loaded(tmp_path, TRACKS + SHARDS + tenants).targets
    assert [(target.tenant, dict(target.labels)) for target in targets] == [
        ("a", {"tier": "free"}),
        ("b", {"tier": "free"}),
        ("c", {"tier": "free", "x": "y"}),
    ]


def test_sections_with_nothing_below_them_are_empty(tmp_path: Path) -> None:
    text = f"\ufeff{TRACKS}{SHARDS}tenants: []\nstrategies:\ndiscover:\n"
    assert loaded(tmp_path, text).targets == ()


def test_the_digest_follows_the_content(tmp_path: Path) -> None:
    before = loaded(tmp_path, VALID)
    assert loaded(tmp_path, "# a comment\n" + VALID.replace("  local:", "  local:  ")).digest == before.digest
    assert loaded(tmp_path, VALID.replace("tier: free", "tier: paid")).digest != before.digest
    assert loaded(tmp_path, VALID, {"PASSWORD": "rotated"}).digest != before.digest


def test_the_digest_is_the_same_in_another_order(tmp_path: Path) -> None:
    one, two = "{id: a, shard: pg, database: a}", "{id: b, shard: pg, database: b}"
    digests = {
        loaded(tmp_path, f"{TRACKS}{SHARDS}tenants: [{first}, {second}]").digest
        for first, second in ((one, two), (two, one))
    }
    assert len(digests) == 1


def test_the_example_can_be_read() -> None:
    registry = manifest.load(EXAMPLE, EXAMPLE_ENVIRON)
    assert [str(target.key) for target in registry.targets] == [
        "acme/app",
        "globex/app",
        "initech/app",
        "initech/analytics",
        "umbrella/app",
        "007/app",
    ]
    assert registry.url_for(registry.targets[1]).password == "p@"


def test_the_example_shows_every_key_that_works() -> None:
    text = EXAMPLE.read_text()
    schema = manifest.json_schema()
    forms = ("Track", "Shard", "Tenant", "Strategy", "Wave", "Check", "Backfill", "Signals", "Hours", "Probe")
    keys = {key for form in forms for key in schema["$defs"][f"{form}Form"]["properties"]}
    assert {key for key in keys if f"{key}:" not in text} == set()


def test_the_schema_describes_the_file() -> None:
    schema = manifest.json_schema()
    assert schema["title"] == "Tenant registry of the migration orchestrator"
    assert schema["required"] == ["tracks", "shards", "tenants"]
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["TenantForm"]["properties"]["id"]["type"] == ["string", "number", "boolean"]


def test_five_thousand_tenants_are_read_at_once(tmp_path: Path) -> None:
    lines = [f"  - {{id: t{n}, shard: pg, database: d{n}, labels: {{tier: free, number: {n}}}}}\n" for n in range(5000)]
    path = write(tmp_path, f"{TRACKS}{SHARDS}tenants:\n{''.join(lines)}")
    start = time.process_time()
    registry = manifest.load(path, {})
    assert len(registry.targets) == 5000
    assert time.process_time() - start < 1.5


def test_registries_are_values(tmp_path: Path) -> None:
    registry = loaded(tmp_path, VALID)
    assert isinstance(replace(registry, digest="x"), Registry)
    assert registry == loaded(tmp_path, VALID)
