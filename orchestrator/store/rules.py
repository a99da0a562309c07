"""What a change may do to a rollout, decided from values that were read in the change's own transaction. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from orchestrator.errors import ConflictError, NotFoundError, OrchestratorError, StateError, StoreError
from orchestrator.events import RolloutEvent
from orchestrator.rollout.state import UNFINISHED, Migration, MigrationState, Rollout, RolloutState, covered

# How long an idempotency key stands for the rollout that was made under it; after that it is as good as new.
KEY_KEPT = timedelta(hours=24)

Numbered = tuple[RolloutEvent, int]
MigrationKey = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Stored:
    """What a rollout's row says while the transaction holds it."""

    state: RolloutState
    total: int
    last_sequence: int


class Holding(Enum):
    """What a change of state means for the targets that the rollout holds."""

    KEEP = "keep"
    ACQUIRE = "acquire"
    RELEASE = "release"


def key(migration: Migration) -> MigrationKey:
    return migration.rollout, migration.tenant, migration.track


def unknown(rollout_id: str) -> NotFoundError:
    return NotFoundError(f"there is no rollout {rollout_id}", remedy="`orchestrator rollout list` shows them")


def finished(rollout_id: str, state: RolloutState) -> StateError:
    return StateError(f"rollout {rollout_id} has finished ({state})", remedy="start another one")


def conflict(holder: str, targets: Sequence[str], count: int) -> ConflictError:
    """`targets` are the first of the `count` targets that the rollout `holder` holds."""
    more = f" and {count - len(targets)} more" if count > len(targets) else ""
    return ConflictError(
        f"rollout {holder} is active and holds {', '.join(targets)}{more}",
        rollout=holder,
        targets=targets,
        remedy=f"wait until it has finished, or abort it: `orchestrator rollout abort {holder}`",
    )


def holding(rollout_id: str, before: RolloutState, after: RolloutState, *, reopening: bool = False) -> Holding:
    """Raises StateError for a step out of a finished state, which only a reopening may take, and only there."""
    if before.finished and before is not after and not (reopening and not after.finished):
        raise StateError(f"rollout {rollout_id} has finished ({before}) and cannot become {after}")
    if reopening and not before.finished:
        raise StateError(f"rollout {rollout_id} is active already ({before})")
    if before.finished == after.finished:
        return Holding.KEEP
    return Holding.RELEASE if after.finished else Holding.ACQUIRE


def refusal(
    migration: Migration, stored: Stored | None, known: Collection[MigrationKey] | None
) -> OrchestratorError | None:
    """Why this migration's new state cannot be saved; None when it can. `known`: which were frozen; None: it was."""
    if stored is None:
        return unknown(migration.rollout)
    if known is not None and key(migration) not in known:
        return NotFoundError(f"{migration.key} is not among the targets of rollout {migration.rollout}")
    if stored.state.finished:
        return StateError(
            f"rollout {migration.rollout} has finished ({stored.state}): {migration.key} cannot become "
            f"{migration.state}",
            remedy="`orchestrator rollout retry` opens it again",
        )
    return None


def uncovered(rollout: Rollout, total: int, counts: Mapping[MigrationState, int]) -> StoreError | None:
    """Promise 3: why the rollout, frozen at `total` targets, cannot be in its state; None when it can."""
    left = {state: counts[state] for state in sorted(UNFINISHED) if counts.get(state)}
    if rollout.total == total and covered(total, counts) and not (rollout.state.finished and left):
        return None
    rest = "".join(f", {n} of them {state}" for state, n in left.items())
    return StoreError(
        f"coverage: rollout {rollout.id} over {rollout.total} targets cannot be {rollout.state}: "
        f"{sum(counts.values())} of {total} are recorded{rest}",
        remedy="this is a bug: please report it; the rollout stays as it was",
    )


def number(stored: Mapping[str, Stored], events: Iterable[RolloutEvent]) -> tuple[list[Numbered], dict[str, int]]:
    """Give each event the next number of its rollout; also each rollout's last number.

    Raises NotFoundError for an event of a rollout that is not stored.
    """
    last: dict[str, int] = {}
    numbered: list[Numbered] = []
    for event in events:
        if event.rollout not in stored:
            raise unknown(event.rollout)
        last[event.rollout] = last.get(event.rollout, stored[event.rollout].last_sequence) + 1
        numbered.append((event, last[event.rollout]))
    return numbered, last
