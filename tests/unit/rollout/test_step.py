"""What a rollout does next: the gate after a wave."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.errors import HALF_APPLIED
from orchestrator.rollout import decide, step
from orchestrator.rollout.state import Failure, Migration, MigrationState, Request, Rollout, RolloutState
from orchestrator.rollout.tally import Tally
from orchestrator.rollout.waves import WaveRun

NOW = datetime(2026, 11, 21, tzinfo=UTC)
S = MigrationState
CANARY = WaveRun("canary", soak_seconds=60, ended_at=NOW)
ROLLOUT = Rollout(
    "r", Request("app", "head"), ("a2",), 2, NOW, state=RolloutState.RUNNING, waves=(CANARY, WaveRun("everyone"))
)


def _in(wave: str, tenant: str, state: MigrationState, **fields: object) -> Migration:
    return replace(Migration("r", tenant, "app", "pg", wave=wave, state=state), **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("states", "soaks"),
    [
        ([S.SUCCEEDED], True),
        ([S.FAILED], True),
        ([S.SKIPPED], True),  # what somebody has skipped was to be done; whoever skips it has not waited for the soak
        ([S.SUCCEEDED, S.SKIPPED], True),
        ([S.UP_TO_DATE], False),
        ([S.UP_TO_DATE, S.UP_TO_DATE], False),
    ],
)
def test_a_wave_soaks_unless_there_was_nothing_to_do_in_it(states: list[MigrationState], soaks: bool) -> None:
    tally = Tally(
        [*(_in("canary", f"t{n}", state) for n, state in enumerate(states)), _in("everyone", "last", S.PENDING)]
    )
    following = step.next_step(ROLLOUT, tally, NOW + timedelta(seconds=1))
    assert isinstance(following, step.Hold if soaks else step.Mark), following


def test_what_is_half_applied_is_not_rolled_back_and_never_called_so() -> None:
    half = _in(
        "canary", "half", S.FAILED, attempts=1, from_heads=(), to_heads=("a1",), failure=Failure(HALF_APPLIED, "boom")
    )
    done = _in("canary", "done", S.SUCCEEDED, attempts=1, from_heads=(), to_heads=("a2",))
    back = replace(ROLLOUT, rolling_back=True)
    turned = decide.turned([half, done], NOW)
    assert [(m.tenant, m.reverting) for m in turned] == [("done", True)], "no downgrade takes back what stayed"
    ended = [half, replace(turned[0], state=S.ROLLED_BACK)]
    assert decide.final_state(back, Tally(ended)) is RolloutState.FAILED
    assert decide.final_state(back, Tally(ended[1:])) is RolloutState.ROLLED_BACK
