"""What a rollout says to a backfill that runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.events import now
from orchestrator.rollout.interruptions import Interruption, interruption
from orchestrator.rollout.state import Request, Rollout, RolloutState

ROLLOUT = Rollout("r1", Request("app", "head"), ("a1",), 1, now(), state=RolloutState.RUNNING)
PAUSED = {"state": RolloutState.PAUSED, "reason": "paused by kim"}
ABORTED = {"aborting": True, "reason": "aborted by kim"}


def _told(changes: dict[str, Any], **asked: Any) -> Interruption | None:
    given = {"back": False, "draining": False, "renewing": False, **asked}
    return interruption(replace(ROLLOUT, **changes), **given)


def test_a_rollout_that_runs_says_nothing() -> None:
    assert _told({}) is None
    assert _told({"rolling_back": True}, back=True) is None


@pytest.mark.parametrize(
    ("changes", "asked", "then", "reason"),
    [
        (PAUSED, {}, "held", "the rollout is paused: paused by kim"),
        (ABORTED, {}, "cancelled", "aborted by kim"),
        ({}, {"draining": True}, "pending", "shutting down"),
        ({}, {"renewing": True}, "pending", "the files have changed"),
        ({"rolling_back": True}, {}, "pending", "takes back"),
        ({}, {"skipped": "tomorrow"}, "skipped", "tomorrow"),
        # Several at once: what ends it for good goes first, and nothing waits where it may stop.
        (PAUSED, {"draining": True}, "pending", "shutting down"),
        (PAUSED, {"skipped": "tomorrow"}, "skipped", "tomorrow"),
        (ABORTED, {"draining": True, "skipped": "tomorrow"}, "cancelled", "aborted by kim"),
        ({"rolling_back": True, **PAUSED}, {"back": True}, "held", "paused"),
    ],
)
def test_what_becomes_of_it(changes: dict[str, Any], asked: dict[str, Any], then: str, reason: str) -> None:
    told = _told(changes, **asked)
    assert told is not None
    assert told.then == then
    assert reason in told.reason
