"""Whether a wave's targets are backed up: as the registry has it now, and never by guessing."""

from __future__ import annotations

import pytest

from orchestrator.errors import MigrationFailedError
from orchestrator.execute.backup import wanted
from orchestrator.execute.classify import ErrorClass, classify
from orchestrator.registry.model import Registry, Strategy, Wave
from orchestrator.registry.precautions import Backup
from tests import engine

BACKUP = Backup(command="make it")
NIGHT = Strategy("night", waves=(Wave("canary", backup=BACKUP), Wave("rest")))


def _registry(**strategies: Strategy) -> Registry:
    return engine.registry_of([], [], [], strategies=strategies)


def test_each_wave_has_its_own() -> None:
    assert wanted(_registry(night=NIGHT), "night", "canary") == BACKUP
    assert wanted(_registry(night=NIGHT), "night", "rest") is None


def test_without_a_strategy_of_that_name_the_default_takes_none() -> None:
    assert wanted(_registry(), "default", "everyone") is None
    own = Strategy("default", waves=(Wave("everyone", backup=BACKUP),))
    assert wanted(_registry(default=own), "default", "everyone") == BACKUP


@pytest.mark.parametrize(("strategy", "wave"), [("night", "canary"), ("day", "noon"), ("default", "canary")])
def test_what_is_gone_means_that_nothing_may_be_touched(strategy: str, wave: str) -> None:
    with pytest.raises(MigrationFailedError, match="no longer in the registry") as told:
        wanted(_registry(day=Strategy("day")), strategy, wave)
    assert told.value.kind == "backup"
    assert classify(told.value) is ErrorClass.PERMANENT
