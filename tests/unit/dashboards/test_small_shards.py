"""Dashboards of a fleet of so many shards that small ones have no name of their own everywhere."""

from __future__ import annotations

import re

import pytest

from deploy.grafana import generate
from deploy.grafana.variables import OF_SHARD, SMALL_ONES
from orchestrator.observe.shard_labels import OTHER
from tests.unit.observe.test_cardinality import large
from tests.unit.observe.test_metrics import Observed

# Names the targets that have waited longest, wherever they are.
_OF_TARGETS = {"orchestrator_laggard_info"}


def selectors() -> dict[str, tuple[str, str, str]]:
    """By panel: a metric's family, what is selected of it by shard, and what the panel says."""
    found = {}
    for name, dashboard in generate.dashboards().items():
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                for metric, labels in re.findall(r"(orchestrator_\w+)(\{[^}]*\$shard[^}]*\})", target["expr"]):
                    family = re.sub(r"_(bucket|total)$", "", metric)
                    found[f"{name}: {panel['title']} {metric}"] = family, labels, panel["description"]
    return {where: one for where, one in found.items() if one[0] not in _OF_TARGETS}


def fleet(*, signals: int) -> Observed:
    it = large(3_000, on=30)
    read = {(f"pg-{n}", f"signal {number}"): float(n) for n in range(30) for number in range(signals)}
    it.metrics.backfills.signals = lambda: read
    return it


def named(it: Observed, family: str) -> set[str]:
    return {sample.labels["shard"] for sample in it.families()[family].samples}


@pytest.mark.parametrize("signals", [2, 6])
def test_no_panel_is_empty_for_a_shard_that_can_be_chosen(signals: int) -> None:
    it, asked = fleet(signals=signals), selectors()
    assert len(asked) > 10
    offered = named(it, "orchestrator_targets")
    assert offered == {f"pg-{n}" for n in range(30)}
    for where, (family, labels, told) in asked.items():
        if not offered <= named(it, family):
            assert OTHER in named(it, family), where
            assert OF_SHARD in labels, where
            assert SMALL_ONES in told, where


def test_signals_are_told_of_each_shard_and_of_some_only_where_they_are_many() -> None:
    assert named(fleet(signals=3), "orchestrator_backfill_signal") == {f"pg-{n}" for n in range(30)}
    many = named(fleet(signals=6), "orchestrator_backfill_signal")
    assert OTHER in many
    assert len(many) < 30
