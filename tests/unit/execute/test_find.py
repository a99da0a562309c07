"""A frozen target is looked up again each time it is tried, in the registry as it is by then."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from orchestrator.errors import TargetError
from orchestrator.execute.classify import ErrorClass, classify, outcome
from orchestrator.execute.frozen import find_target
from orchestrator.registry.model import Registry, Shard, Target, Track
from orchestrator.rollout.state import Migration, MigrationState

TARGET = Target("acme", "app", "pg", "acme", source="saas")
REGISTRY = Registry(
    Path("/x"), "", {"app": Track("app")}, {"pg": Shard("pg", make_url("postgresql://h"))}, (TARGET,), {}
)
MIGRATION = Migration("r1", "acme", "app", "pg", place=REGISTRY.place_of(TARGET))


def test_it_is_found_whichever_source_names_it_by_now() -> None:
    assert find_target(REGISTRY, MIGRATION) is TARGET
    other = replace(TARGET, source="file")
    assert find_target(replace(REGISTRY, targets=(other,)), MIGRATION) is other


def test_one_that_is_gone_has_vanished_for_good() -> None:
    with pytest.raises(TargetError) as caught:
        find_target(replace(REGISTRY, targets=()), MIGRATION)
    assert caught.value.kind == "vanished"
    assert classify(caught.value) is ErrorClass.PERMANENT


def test_one_that_a_source_may_name_which_has_not_answered_yet_is_tried_again_and_not_called_gone() -> None:
    with pytest.raises(TargetError) as caught:
        find_target(replace(REGISTRY, targets=(), unanswered=("saas",)), MIGRATION)
    assert "saas gave no good answer since the start" in caught.value.message
    assert classify(caught.value) is ErrorClass.TRANSIENT
    assert outcome(caught.value) is MigrationState.UNREACHABLE
