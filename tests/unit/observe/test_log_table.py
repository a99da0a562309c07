"""The table of log lines is what the code says, and the document is what the table says."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from orchestrator.observe import log_calls, log_events, log_keys
from orchestrator.observe.log_entries import Entry
from tests import documents, logbook

SNAKE = re.compile(r"[a-z]+(_[a-z0-9]+)+|listening|stopping|draining|adopted|standby|audited|unauthenticated")
WHO = ("rollout", "tenant", "track", "shard")


def sources() -> list[Path]:
    return [
        path for path in logbook.PACKAGE.rglob("*.py") if str(path.relative_to(logbook.PACKAGE)) not in logbook.OTHERS
    ]


CALLS = [call for path in sources() for call in logbook.calls(path)]
NAMED = {entry.name: entry for entry in logbook.ENTRIES}


def test_each_name_is_there_once_and_readable() -> None:
    assert [name for name, n in Counter(entry.name for entry in logbook.ENTRIES).items() if n > 1] == []
    assert [name for name in NAMED if not SNAKE.fullmatch(name)] == []


def test_each_use_of_a_logger_is_a_call_with_a_literal_name() -> None:
    assert len(CALLS) > 40
    assert [call.where for call in CALLS if call.name is None] == []


def test_the_calls_are_those_of_the_table() -> None:
    assert {call.name for call in CALLS} == {entry.name for entry in log_calls.ENTRIES} | {"tenants_ignored"}
    for call in CALLS:
        entry = NAMED[str(call.name)]
        assert call.level in entry.levels, call
        assert call.keys <= set(entry.keys), call


@pytest.mark.parametrize("entry", log_calls.ENTRIES, ids=lambda entry: entry.name)
def test_no_key_of_the_table_is_without_a_call(entry: Entry) -> None:
    assert {key for call in CALLS if call.name == entry.name for key in call.keys} == set(entry.keys)


def test_each_key_means_one_thing_that_is_written_down() -> None:
    used = {key for entry in logbook.ENTRIES for key in entry.keys} - {"exception"}
    assert used == log_keys.KEYS.keys()
    assert not used & {"event", "level", "logger", "timestamp", "request_id", "trace_id"}
    assert [*log_keys.KEYS] == [*dict.fromkeys([*log_keys.WHICH, *log_keys.VALUES])]


def test_durations_and_sizes_have_their_unit_in_the_name() -> None:
    keys = log_keys.KEYS.keys()
    assert not [key for key in keys if re.search(r"(_ms|_millis|_sec|_time|duration|elapsed|timeout)$", key)]
    assert {"seconds", "wait_seconds", "lock_wait_seconds", "bytes"} <= keys


def test_what_wants_a_person_says_what_to_do_and_nothing_else_does() -> None:
    for entry in logbook.ENTRIES:
        assert bool(entry.remedy) is bool(entry.levels & {"warning", "error"}), entry.name


def test_the_ends_have_all_that_one_groups_by() -> None:
    migration = NAMED["migration_finished"].keys
    assert {*WHO, "database", "schema", "wave", "outcome", "execution", "from", "to", "attempts", "seconds"} <= {
        *migration
    }
    assert {"lock_wait_seconds", "retries", "steps", "backfill_rows", "error", "error_code", "signature"} <= {
        *migration
    }
    rollout = log_events.ROLLOUT_FINISHED.keys
    assert {"counts", "total", "seconds", "outcome", "created_by", "strategy", "goal", "plan_digest", "failures"} <= {
        *rollout
    }


def test_the_finder_finds_what_it_must(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logbook, "PACKAGE", tmp_path)
    module = tmp_path / "module.py"
    module.write_text(
        "log = structlog.get_logger(__name__)\nother = logging.getLogger('x')\n"
        "log.info('a_thing', tenant=1)\nlog.exception('it_broke')\nlog.warning(f'{key}_thing')\n"
        "other.info('in words %s', 1)\nsay = log.info\nstructlog.get_logger().info('apart')\n"
    )
    found = sorted(logbook.calls(module), key=lambda call: call.where)
    assert [(call.name, call.level, set(call.keys)) for call in found] == [
        ("a_thing", "info", {"tenant"}),
        ("it_broke", "error", {"exception"}),
        (None, "warning", set()),
        (None, "info", set()),
        (None, "", set()),
        (None, "", set()),
    ]


def test_the_document_is_as_the_table_has_it() -> None:
    text = documents.LOGS.read_text()
    assert documents.made(text) == text, "run `make dashboards`"
    assert [mark for mark in logbook.tables() if f"<!-- {mark} -->" not in text] == []
    assert [entry.name for entry in logbook.ENTRIES if f"| `{entry.name}` |" not in text] == []
