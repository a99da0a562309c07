"""How often and how long checks are asked, and what their verdicts come to."""

from __future__ import annotations

from orchestrator.registry.model import Check, Strategy, Wave
from orchestrator.rollout import asking
from orchestrator.rollout.ports import Verdict
from orchestrator.rollout.waves import planned

CHECKS = (
    Check("errors", "promql", "", every_seconds=15.0, deadline_seconds=60.0),
    Check("queue", "sql", "", every_seconds=5.0, deadline_seconds=600.0),
)


def test_the_most_impatient_says_how_often_and_the_most_patient_how_long() -> None:
    plain, patient = planned(Strategy("s", waves=(Wave("a"), Wave("b", checks=CHECKS))))
    assert (patient.checks, patient.check_every, patient.check_deadline) == (("errors", "queue"), 5.0, 600.0)
    assert plain.checks == ()


def test_a_check_that_nobody_asked_has_not_passed() -> None:
    told = [Verdict("queue", True, "queue: 0")]
    found = asking.complete(["errors", "queue"], told)
    assert [(verdict.name, verdict.passed) for verdict in found] == [("queue", True), ("errors", False)]
    assert asking.unmet(found) == "errors: the registry no longer has this check"
    assert asking.unmet(told) is None
    assert asking.unmet([]) is None
