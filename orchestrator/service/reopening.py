"""What becomes of a finished rollout that a person wants to go on with. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from orchestrator import events
from orchestrator.errors import StateError
from orchestrator.rollout import decide
from orchestrator.rollout.ports import Expedition
from orchestrator.rollout.state import Migration, Rollout, RolloutState
from orchestrator.rollout.tally import Tally

# The rollout as it is to be, with those of its migrations that change; without any, nothing is to be done.
Reopen = Callable[[Rollout, Sequence[Migration]], tuple[Rollout, Sequence[Migration]]]


def retried(
    rollout: Rollout, migrations: Sequence[Migration], reason: str, signature: str | None
) -> tuple[Rollout, Sequence[Migration]]:
    """With its failed and cancelled targets pending again; those failures that stay are accepted."""
    again = decide.retried(rollout, migrations, signature)
    return _opened(rollout, migrations, again, reason), again


def turned(
    rollout: Rollout, migrations: Sequence[Migration], reason: str, expedition: Expedition
) -> tuple[Rollout, Sequence[Migration]]:
    """With what it changed on its way back. Raises StateError when that is nothing, or cannot all be taken back."""
    changed = [m for m in migrations if m.changed and not m.reverting and not m.is_half_applied]
    if not changed and not rollout.rolling_back:
        raise _nothing_to_take_back(rollout, any(m.touched for m in migrations))
    if (problem := expedition.irreversible(changed)) is not None:
        raise decide.irreversible(rollout, problem)
    back = replace(rollout, rolling_back=True)
    again = [*decide.turned(migrations, events.now()), *decide.retried(back, migrations)]
    return _opened(back, migrations, again, reason), again


def _nothing_to_take_back(rollout: Rollout, touched: bool) -> StateError:
    if touched:
        return StateError(
            f"rollout {rollout.id} has brought no target to another revision, so there is no downgrade to run; rows "
            "that its backfills have changed before they were stopped stay so",
            remedy=f"`orchestrator rollout retry {rollout.id}` goes on behind the last row that was changed",
        )
    return StateError(
        f"rollout {rollout.id} has changed no target: there is nothing to take back",
        remedy="look at its targets with `orchestrator rollout show --migrations`",
    )


def counted(migrations: Sequence[Migration], again: Sequence[Migration]) -> Tally:
    """The migrations as they are when these have changed."""
    return Tally({migration.key: migration for migration in (*migrations, *again)}.values())


def _opened(rollout: Rollout, migrations: Sequence[Migration], again: Sequence[Migration], reason: str) -> Rollout:
    waves = decide.tolerating(rollout, counted(migrations, again))
    return replace(
        rollout, state=RolloutState.RUNNING, reason=reason, finished_at=None, aborting=False, waves=waves, waiting=None
    )
