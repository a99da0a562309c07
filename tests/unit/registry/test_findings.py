"""A track's `findings`: how bad a rule is held to be."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.registry.findings import OURS, RULES, SQUAWKS, Findings
from tests.unit.registry.files import SHARDS, TENANTS, loaded, marked, refused


def track(findings: str) -> str:
    return f"tracks: {{app: {{script_location: alembic, findings: {findings}}}}}\n{SHARDS}{TENANTS}"


def test_what_is_written_counts(tmp_path: Path) -> None:
    rules = "{irreversible: error, squawk/ban-drop-column: off}"
    text = track(f"{{rules: {rules}, large: 5000, squawk: required, render: true}}")
    found = loaded(tmp_path, text).tracks["app"].findings
    assert found == Findings({"irreversible": "error", "squawk/ban-drop-column": "off"}, 5000, "required", True)


@pytest.mark.parametrize("text", ["{}", "{rules: }"])
def test_nothing_written_is_as_nothing_given(text: str, tmp_path: Path) -> None:
    assert loaded(tmp_path, track(text)).tracks["app"].findings == Findings()


MISTAKES = [
    ("{rules: {▶ireversible: error}}", "unknown rule 'ireversible'; did you mean 'irreversible'?"),
    ("{rules: {▶squawk/ban-drop-colum: off}}", "did you mean 'squawk/ban-drop-column'?"),
    ("{rules: {locks: ▶fatal}}", "this must be 'error', 'warning', 'info' or 'off'"),
    ("{rules: ▶[locks]}", "this must be a mapping"),
    ("{large: ▶-1}", "this must be at least 0"),
    ("{large: ▶many}", "this must be a whole number"),
    ("{squawk: ▶yes}", "this must be 'auto', 'required' or 'off'"),
    ("{▶level: error}", "unknown key 'level'"),
]


@pytest.mark.parametrize(("marked_text", "message"), MISTAKES, ids=[message for _, message in MISTAKES])
def test_each_mistake_is_told_at_its_place(marked_text: str, message: str, tmp_path: Path) -> None:
    text, places = marked(track(marked_text))
    [mistake] = refused(tmp_path, text).mistakes
    assert [(mistake.line, mistake.column)] == places
    assert message in mistake.message


def test_every_rule_has_a_level() -> None:
    assert set(RULES) == set(OURS) | {f"squawk/{name}" for name in SQUAWKS}
    assert {Findings().level(rule) for rule in RULES} == {"error", "warning", "info", "off"}


def test_a_required_linter_is_an_error_unless_a_rule_says_otherwise() -> None:
    assert Findings().level("linter_missing") == "info"
    assert Findings(squawk="required").level("linter_missing") == "error"
    assert Findings({"linter_missing": "warning"}, squawk="required").level("linter_missing") == "warning"
