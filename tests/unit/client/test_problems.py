"""From a daemon's refusals to our own errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from orchestrator import errors
from orchestrator.api import problems as told
from orchestrator.client import problems

SERVER = "http://127.0.0.1:8080"


def as_sent(error: errors.OrchestratorError) -> tuple[int, Mapping[str, Any]]:
    """Status and body of the daemon's answer to an error."""
    kind = told.kind_of(error)
    assert kind is not None
    return int(kind.status), told.told(error, kind).model_dump(mode="json", exclude_none=True)


@pytest.mark.parametrize(
    "error",
    [
        errors.NotFoundError("there is no rollout x", remedy="list them"),
        errors.StateError("rollout x has failed", remedy="retry it"),
        errors.FrozenError("nothing may start", remedy="wait"),
        errors.ConfigurationError("there is no track 'x'", remedy="there are: app"),
    ],
)
def test_an_error_comes_through_as_it_was(error: errors.OrchestratorError) -> None:
    found = problems.error(*as_sent(error), SERVER)
    assert type(found) is type(error)
    assert (found.message, found.remedy) == (error.message, error.remedy)


def test_a_conflict_names_the_rollout_in_the_way() -> None:
    found = problems.error(*as_sent(errors.ConflictError("held", rollout="r1", targets=["a/app"])), SERVER)
    assert isinstance(found, errors.ConflictError)
    assert (found.rollout, found.targets) == ("r1", ("a/app",))
    assert found.remedy is not None
    assert "rollout watch r1" in found.remedy


def test_a_plan_that_no_longer_holds_is_a_gate_that_says_what_differs() -> None:
    changed = errors.PlanChangedError("not as planned", differences=["targets: 1 more than planned (acme)"])
    found = problems.error(*as_sent(changed), SERVER)
    assert isinstance(found, errors.PlanChangedError)
    assert (found.differences, found.exit_code) == (("targets: 1 more than planned (acme)",), 4)


@pytest.mark.parametrize("error", [errors.SelectorError("bad"), errors.HistoryError("bad", track="app")])
def test_what_was_asked_for_is_refused_with_exit_code_2(error: errors.OrchestratorError) -> None:
    assert problems.error(*as_sent(error), SERVER).exit_code == 2


def test_all_mistakes_of_a_registry_are_told_once() -> None:
    mistakes = [errors.Mistake(3, 5, "unknown key 'x'"), errors.Mistake(9, 1, "unknown shard")]
    found = problems.error(*as_sent(errors.RegistryError("tenants.yaml", mistakes)), SERVER)
    assert found.message.count("unknown shard") == 1
    assert "3:5" in found.message


def test_a_daemon_that_cannot_is_exit_code_5() -> None:
    found = problems.error(*as_sent(errors.StoreError("the store is locked")), SERVER)
    assert isinstance(found, errors.DaemonError)
    assert "the store is locked" in found.message
    assert found.exit_code == 5


@pytest.mark.parametrize(("status", "code"), [(200, 5), (502, 5), (404, 5), (401, 2), (403, 2)])
def test_an_answer_that_is_not_a_daemons_is_told_as_such(status: int, code: int) -> None:
    found = problems.error(status, None, SERVER)
    assert found.exit_code == code
    assert SERVER in found.message
    assert found.remedy
