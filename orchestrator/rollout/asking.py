"""What the verdicts of a wave's checks come to. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.rollout.ports import Verdict


def complete(names: Sequence[str], verdicts: Sequence[Verdict]) -> Sequence[Verdict]:
    """The verdicts, with one for each check that the wave had when the rollout began and nobody asked: it has not
    passed.

    >>> [verdict.said for verdict in complete(["errors"], [])]
    ['errors: the registry no longer has this check']
    """
    told = {verdict.name for verdict in verdicts}
    gone = [name for name in names if name not in told]
    return [*verdicts, *(Verdict(name, False, f"{name}: the registry no longer has this check") for name in gone)]


def unmet(verdicts: Sequence[Verdict]) -> str | None:
    """What has not passed, in words; None when everything has.

    >>> unmet([Verdict("errors", False, "errors: 0.7, allowed is at most 0.5"), Verdict("up", True, "up: 1")])
    'errors: 0.7, allowed is at most 0.5'
    """
    said = [verdict.said for verdict in verdicts if not verdict.passed]
    return "; ".join(said) if said else None
