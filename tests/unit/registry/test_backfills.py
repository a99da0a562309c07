"""How backfills are throttled, as the registry file says it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.registry import backfill_forms, changes, manifest
from orchestrator.registry.backfills import DEFAULT_RULES, DEFAULT_THRESHOLDS, SIGNALS, Rules, Threshold
from orchestrator.registry.times import Hours
from tests.unit.registry.files import TENANTS, TRACKS, loaded, marked, places_of, refused
from tests.unit.registry.test_fuzz_values import caught

WINDOWS = 'windows: {nights: {timezone: Europe/Berlin, open: [{from: "22:00", to: "06:00"}]}}\n'
WHOLE = f"""\
{TRACKS}{TENANTS}{WINDOWS}
backfill:
  rows_per_second: 5000
  target: 250ms
  signals: {{replication_lag: 3s, dead_rows: off, threads_running: {{above: 50, below: 20}}}}
  probes: [{{name: queue, sql: SELECT count(*) FROM jobs, database: app, above: 100}}]
shards:
  pg:
    url: postgresql://u@h
    backfill:
      rows_per_second: 0
      smallest: 50
      largest: 20000
      duty: 25%
      deadline: 10m
      hours: {{windows: [nights], open: [{{days: sat, from: "00:00", to: "24:00"}}]}}
      signals:
        replication_lag_bytes: 512MB
        long_transactions: {{above: 10m, below: 30s}}
        autovacuum: hold
        wal_waiting: off
      probes:
        - {{name: errors, promql: errors_now, url: https://p.internal, above: 0.5, below: 0.1, empty: pass}}
        - {{name: page, http: https://app.internal/ok, contains: fine, token: "${{PASSWORD}}", every: 2s, timeout: 3s}}
        - {{name: calm, sql: SELECT true}}
  my: {{url: mysql://u@m}}
"""


def rules_of(folder: Path, text: str, shard: str = "pg") -> Rules:
    return loaded(folder, text).shards[shard].backfill


def test_a_file_with_all_of_it(tmp_path: Path) -> None:
    rules = rules_of(tmp_path, WHOLE)
    assert (rules.rows_per_second, rules.target_seconds, rules.duty, rules.deadline_seconds) == (None, 0.25, 0.25, 600)
    assert (rules.smallest, rules.largest, rules.batch_size) == (50, 20_000, None)
    named, own = rules.hours
    assert (named.name, named.timezone) == ("nights", "Europe/Berlin")
    assert own.open == (Hours((5,), 0, 1440),)
    assert rules.thresholds == {
        **{name: one for name, one in DEFAULT_THRESHOLDS.items() if name not in ("dead_rows", "wal_waiting")},
        "replication_lag": Threshold.over(3.0),
        "replication_lag_bytes": Threshold.over(float(512 << 20)),
        "long_transactions": Threshold(600.0, 30.0),
        "autovacuum": Threshold(0.5, 0.5),
        "threads_running": Threshold(50.0, 20.0),
    }
    errors, page, calm = rules.probes
    assert (errors.name, errors.threshold, errors.is_number) == ("probe:errors", Threshold(0.5, 0.1), True)
    assert (errors.check.probe, errors.check.url, errors.check.empty_passes) == (
        "promql",
        "https://p.internal",
        True,
    )
    assert (page.is_number, page.check.text, page.check.token) == (False, "https://app.internal/ok", "s3cret")
    assert (page.check.every_seconds, page.check.timeout_seconds) == (2.0, 3.0)
    assert (calm.is_number, calm.check.shard, calm.check.database) == (False, None, None)
    assert "s3cret" not in repr(rules)


def test_a_shard_that_says_nothing_has_what_is_said_of_all(tmp_path: Path) -> None:
    rules = rules_of(tmp_path, WHOLE, "my")
    assert (rules.rows_per_second, rules.target_seconds, rules.duty) == (5000.0, 0.25, 1.0)
    assert rules.thresholds["threads_running"] == Threshold(50.0, 20.0)
    assert [probe.name for probe in rules.probes] == ["probe:queue"]
    assert rules.probes[0].threshold == Threshold(100.0, 80.0)


def test_a_file_that_says_nothing_has_the_defaults(tmp_path: Path) -> None:
    text = f"{TRACKS}{TENANTS}shards: {{pg: {{url: postgresql://u@h}}}}\n"
    assert rules_of(tmp_path, text) == DEFAULT_RULES
    assert rules_of(tmp_path, f"{text}backfill:\n") == DEFAULT_RULES


def test_an_empty_list_of_probes_takes_away_those_of_all(tmp_path: Path) -> None:
    text = WHOLE.replace("my: {url: mysql://u@m}", "my: {url: mysql://u@m, backfill: {probes: []}}")
    assert rules_of(tmp_path, text, "my").probes == ()


def test_what_a_signal_is_by_default_is_written_in_the_form() -> None:
    properties = backfill_forms.SignalsForm.model_fields
    assert list(properties) == list(SIGNALS)
    written: dict[str, Callable[[str], float]] = {
        "seconds": backfill_forms.lasting,
        "bytes": backfill_forms.size,
        "count": float,
    }
    for name, signal in SIGNALS.items():
        words = (properties[name].description or "").removesuffix(".").replace(" when left out", "").split()
        assert words[-1] == "off" if signal.above is None else written[signal.unit](words[-1]) == signal.above, name


MISTAKES = [
    ("backfill: ▶[]", "`backfill` must be a mapping"),
    ("backfill: {▶rows: 5}", "unknown key 'rows'"),
    ("backfill: {rows_per_second: ▶-1}", "at least 0"),
    ("backfill: {rows_per_second: ▶many}", "must be a number"),
    ("backfill: {target: ▶1ms}", "from 10ms to 60s"),
    ("backfill: {target: ▶2m}", "from 10ms to 60s"),
    ("backfill: {duty: ▶0%}", "a part of the time"),
    ("backfill: {duty: ▶120%}", "a part of the time"),
    ("backfill: {smallest: ▶0}", "at least 1"),
    ("backfill: {smallest: ▶500, largest: 100}", "`smallest` (500) is more than `largest` (100)"),
    ("backfill: {largest: ▶5}", "`smallest` (10) is more than `largest` (5)"),
    ("backfill: {deadline: ▶soon}", "a duration of at least 1s"),
    ("backfill: {hours: ▶{}}", "`open` is missing, or `windows`"),
    ("backfill: {hours: {windows: [▶nigths]}}", "did you mean 'nights'?"),
    ("backfill: {hours: {timezone: ▶Berlin, windows: [nights]}}", "no time zone"),
    ('backfill: {hours: {open: [{from: ▶"25:00", to: "06:00"}]}}', "a time of the day"),
    ('backfill: {hours: {open: [{from: ▶"06:00", to: "06:00"}]}}', "no time at all"),
    ("backfill: {hours: {blackouts: [{from: 2026-12-24, to: ▶2026-12-20}]}}", "must come after `from`"),
    ("backfill: {signals: {▶replica_lags: 5s}}", "did you mean 'replica_lag'?"),
    ("backfill: {signals: {replication_lag: ▶5x}}", "a duration such as 500ms"),
    ("backfill: {signals: {replication_lag: {above: 5s, below: ▶6s}}}", "must be at most `above`"),
    ("backfill: {signals: {replication_lag: ▶{below: 6s}}}", "`above` is missing"),
    ("backfill: {signals: {replication_lag_bytes: ▶1PB}}", "a number of bytes"),
    ("backfill: {signals: {wal_waiting: ▶lots}}", "must be a number"),
    ("backfill: {signals: {wal_waiting: ▶-5}}", "at least 0"),
    ("backfill: {signals: {wal_waiting: ▶[5]}}", "must be a mapping"),
    ("backfill: {signals: {autovacuum: ▶5}}", "must be 'hold' or 'off'"),
    ("backfill: {probes: [▶{name: x}]}", "one of `sql`, `promql` or `http` is missing"),
    ("backfill: {probes: [{name: x, sql: SELECT 1, ▶http: https://h/x}]}", "make them two probes"),
    ("backfill: {probes: [▶{name: x, promql: up, url: https://h}]}", "`above` is missing"),
    ("backfill: {probes: [{name: x, sql: SELECT true, ▶below: 1}]}", "`below` goes with `above`"),
    ("backfill: {probes: [{name: x, sql: SELECT 1, above: 1, below: ▶2}]}", "must be at most `above`"),
    ("backfill: {probes: [{name: x, http: https://h/x, ▶above: 1}]}", "`above` goes with `sql` or `promql`"),
    ("backfill: {probes: [▶{name: x, sql: SELECT 1, every: 10s}]}", "12s at most together"),
    ("backfill: {probes: [{name: x, sql: SELECT 1}, {name: ▶x, sql: SELECT 2}]}", "a probe 'x' already"),
    ("backfill: {probes: [{name: x, sql: SELECT 1, database: d, shard: ▶gp}]}", "unknown shard 'gp'"),
    ("backfill: {probes: [▶{name: x, sql: SELECT 1, shard: pg}]}", "`database` is missing"),
    ("backfill: {probes: [{name: x, http: https://h, token: ▶plain}]}", "does not belong into this file"),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES, ids=str)
def test_mistakes_are_told_where_they_are(tmp_path: Path, text: str, message: str) -> None:
    clean, places = marked(text)
    before = f"{TRACKS}{TENANTS}{WINDOWS}shards: {{pg: {{url: postgresql://u@h}}}}\n"
    error = refused(tmp_path, before + clean)
    assert [mistake.message for mistake in error.mistakes if message in mistake.message]
    assert places_of(error.mistakes) == [(line + before.count("\n"), column) for line, column in places]


def test_all_mistakes_of_all_shards_come_at_once(tmp_path: Path) -> None:
    text, places = marked(
        f"""{TRACKS}{TENANTS}shards:
  pg: {{url: postgresql://u@h, backfill: {{target: ▶x, signals: {{▶threads_running: 5}}}}}}
  my: {{url: mysql://u@m, backfill: {{duty: ▶2, probes: [{{name: x, sql: SELECT 1, ▶status: 200}}]}}}}
  lite: {{url: "sqlite:///x", backfill: {{signals: {{▶wal_waiting: 2}}, probes: [▶{{name: x, sql: SELECT 1}}]}}}}
backfill: {{largest: ▶0}}
"""
    )
    assert sorted(places_of(refused(tmp_path, text).mistakes)) == sorted(places)


def test_a_section_that_changes_moves_no_target_and_changes_no_plan(tmp_path: Path) -> None:
    before = loaded(tmp_path, WHOLE)
    after = loaded(tmp_path, WHOLE.replace("rows_per_second: 5000", "rows_per_second: 10").replace("250ms", "1s"))
    assert before.digest != after.digest, "a reload tells that something is new"
    assert changes.between(before, {}, after, {}) == (0, 0, ())
    assert [before.place_of(one) for one in before.targets] == [after.place_of(one) for one in after.targets]
    assert before.targets == after.targets


def test_the_schema_has_it_on_a_shard_and_for_all() -> None:
    schema = manifest.json_schema()
    definitions = schema["$defs"]
    for holder in (schema, definitions["ShardForm"]):
        assert {"$ref": "#/$defs/BackfillForm"} in holder["properties"]["backfill"]["anyOf"]
    shapes = definitions["SignalsForm"]["properties"]["replication_lag"]["anyOf"]
    assert {"const": "off"} in shapes
    assert {"$ref": "#/$defs/LastingForm"} in shapes
    assert "deadline" not in definitions["ProbeForm"]["properties"]
    assert json.loads(json.dumps(schema)) == schema


@given(st.text(max_size=12) | st.from_regex(r"\A[0-9]{1,7}(\.[0-9]{1,4})? ?(ms|[smhd]|kB|MB|GB|TB|B|%)?\Z"))
def test_any_text_is_a_number_with_its_unit_or_refused(text: str) -> None:
    for read, largest in (
        (backfill_forms.lasting, 1e6 * 86_400),
        (backfill_forms.size, 1e15 * (1 << 40)),
        (backfill_forms.part, 1.0),
    ):
        refused = caught(ValueError, lambda read=read: read(text))  # type: ignore[misc]
        assert "such as" in str(refused) if refused else 0 <= read(text) <= largest
