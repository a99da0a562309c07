"""What is told of the statements of a run of env.py."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from orchestrator.history import traced
from orchestrator.history.traced import NAMED, Tracer
from orchestrator.plan import sanitise


def test_what_failed_and_what_env_py_went_on_after_is_told_apart() -> None:
    recorder = Tracer("postgresql")
    recorder.begins(1, "SELECT 'a'", "a1")
    recorder.begins(2, "SELECT 'b'", None)
    recorder.executed(2)
    recorder.begins(1, "SELECT 'c'", "b2")
    found = recorder.ended("23505").statements
    assert [(one.revision, one.text, one.failed, one.code) for one in found] == [
        (None, "SELECT ?", False, None),
        ("a1", "SELECT ?", True, None),
        ("b2", "SELECT ?", True, "23505"),
    ]


def test_those_that_fail_are_named_beyond_the_bound_and_the_rest_is_counted() -> None:
    recorder = Tracer("postgresql")
    for number in range(3 * NAMED):
        recorder.begins(1, f"SELECT {number}", None)
        if number % 2:
            recorder.executed(1)
    found = recorder.ended(None)
    assert len(found.statements) + found.unnamed == 3 * NAMED
    assert len([one for one in found.statements if not one.failed]) <= NAMED
    assert len(found.statements) <= 2 * NAMED


def test_the_time_that_it_takes_to_make_a_text_showable_is_not_the_statements(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    def shown(sql: str, dialect: str) -> str:
        clock[0] += 100
        return sql

    monkeypatch.setattr(traced, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(sanitise, "shown", shown)
    recorder = Tracer("postgresql")
    recorder.begins(1, "SELECT 1", None)
    clock[0] += 2
    recorder.executed(1)
    assert recorder.ended(None).statements[0].seconds == 2
