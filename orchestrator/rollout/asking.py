"""How often and how long a wave's checks are asked, and what their verdicts come to. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.registry.model import Check
from orchestrator.rollout.ports import Verdict


def every_seconds(checks: Sequence[Check]) -> float:
    """How long to wait between two times of asking: as the most impatient check says."""
    return min((check.every_seconds for check in checks), default=0.0)


def deadline_seconds(checks: Sequence[Check]) -> float:
    """How long they may take to pass, from the first asking: as the most patient check says."""
    return max((check.deadline_seconds for check in checks), default=0.0)


def complete(checks: Sequence[Check], verdicts: Sequence[Verdict]) -> Sequence[Verdict]:
    """The verdicts, with one for each check that the wave had when the rollout began and nobody asked: it has not
    passed.

    >>> [verdict.said for verdict in complete([Check("errors", "sql", "")], [])]
    ['errors: the registry no longer has this check']
    """
    told = {verdict.name for verdict in verdicts}
    gone = [check.name for check in checks if check.name not in told]
    return [*verdicts, *(Verdict(name, False, f"{name}: the registry no longer has this check") for name in gone)]


def unmet(verdicts: Sequence[Verdict]) -> str | None:
    """What has not passed, in words; None when everything has.

    >>> unmet([Verdict("errors", False, "errors: 0.7, allowed is at most 0.5"), Verdict("up", True, "up: 1")])
    'errors: 0.7, allowed is at most 0.5'
    """
    said = [verdict.said for verdict in verdicts if not verdict.passed]
    return "; ".join(said) if said else None
