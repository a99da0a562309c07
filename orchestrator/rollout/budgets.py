"""When failures are too many. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from orchestrator.registry.model import FailureBudget
from orchestrator.rollout.tally import WaveTally


@dataclass(frozen=True, slots=True)
class Stop:
    """A reaction to what has gone wrong, with its reason in words."""

    then: Literal["pause", "abort", "rollback"]
    reason: str


def allowed(budget: FailureBudget, total: int) -> int | None:
    """So many of a wave's targets may fail; None where their number alone never stops it.

    >>> allowed(FailureBudget(percent=2), 149), allowed(FailureBudget(count=0), 149), allowed(FailureBudget(), 149)
    (2, 0, None)
    """
    if budget.count is not None:
        return budget.count
    return None if budget.percent is None else int(total * budget.percent / 100)


def over_budget(budget: FailureBudget, tally: WaveTally, wave: str | None = None) -> Stop | None:
    """Whether the failures of a wave so far exceed its budget, and what follows; `wave` is named where there are more.

    >>> from orchestrator.rollout.state import MigrationState
    >>> tally = WaveTally()
    >>> tally.counts.update({MigrationState.FAILED: 3, MigrationState.PENDING: 97})
    >>> over_budget(FailureBudget(count=2), tally).reason
    '3 of 100 targets failed, more than the 2 that are allowed'
    """
    reason = _reason(budget, tally)
    if reason is None:
        return None
    return Stop(budget.then, reason if wave is None else f"wave {wave}: {reason}")


def _reason(budget: FailureBudget, tally: WaveTally) -> str | None:
    failed, total = tally.failures, tally.total
    signature, alike = max(tally.signatures.items(), key=lambda item: item[1], default=("", 0))
    if budget.same_signature is not None and alike >= budget.same_signature:
        return f"{alike} of {total} targets failed in the same way ({signature})"
    if budget.consecutive is not None and tally.streak >= budget.consecutive:
        return f"{tally.streak} targets failed one after the other"
    if budget.count is not None and failed > budget.count:
        allowed = f"the {budget.count} that are allowed"
    elif budget.percent is not None and failed > total * budget.percent / 100:
        allowed = f"the {budget.percent:g} % that are allowed"
    else:
        return None
    return f"{failed} of {total} targets failed, more than {allowed}"
