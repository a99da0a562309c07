"""How often and how long checks are asked, and what their verdicts come to."""

from __future__ import annotations

from orchestrator.registry.model import Check
from orchestrator.rollout import asking
from orchestrator.rollout.ports import Verdict

CHECKS = (
    Check("errors", "promql", "", every_seconds=15.0, deadline_seconds=60.0),
    Check("queue", "sql", "", every_seconds=5.0, deadline_seconds=600.0),
)


def test_the_most_impatient_says_how_often_and_the_most_patient_how_long() -> None:
    assert (asking.every_seconds(CHECKS), asking.deadline_seconds(CHECKS)) == (5.0, 600.0)
    assert (asking.every_seconds(()), asking.deadline_seconds(())) == (0.0, 0.0)


def test_a_check_that_nobody_asked_has_not_passed() -> None:
    told = [Verdict("queue", True, "queue: 0")]
    found = asking.complete(CHECKS, told)
    assert [(verdict.name, verdict.passed) for verdict in found] == [("queue", True), ("errors", False)]
    assert asking.unmet(found) == "errors: the registry no longer has this check"
    assert asking.unmet(told) is None
    assert asking.unmet([]) is None
