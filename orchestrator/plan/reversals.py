"""Which steps cannot be taken back, and from when on a rollout cannot. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol


class Reversals(Protocol):
    """A migration history, as far as taking back needs it."""

    @property
    def irreversible(self) -> Mapping[str, str]:
        """Why a revision cannot be taken back, for those of which it is sure."""
        ...


def irreversible(history: Reversals, steps: Iterable[str]) -> Mapping[str, str]:
    """Those of the steps that cannot be taken back, in their order, and why. Of a stamp's steps ask nothing: it runs
    none."""
    known = history.irreversible
    return {step: known[step] for step in steps if step in known}


def not_past(waves: Sequence[tuple[str, Iterable[Sequence[str]]]], known: Mapping[str, str]) -> str | None:
    """How far a rollout can be rolled back, in words; None when it can be to the end.

    `waves` are their names, in order, with the steps of each group of targets in them; `known` is what `irreversible`
    tells of all those steps.

    >>> not_past([("canary", [("a",)]), ("rest", [("a",), ("a", "b")])], {"b": "its downgrade is empty"})
    'not reversible past wave 1 (canary): wave 2 (rest) runs b, which cannot be taken back: its downgrade is empty'
    >>> not_past([("everyone", [("a", "b")])], {"b": "it has no downgrade"})
    'not reversible: it runs b, which cannot be taken back: it has no downgrade'
    """
    for number, (name, groups) in enumerate(waves):
        steps = dict.fromkeys(step for steps in groups for step in steps if step in known)
        if not steps:
            continue
        shown = list(steps)
        more = f" and {len(shown) - 1} more" if len(shown) > 1 else ""
        runs = f"runs {shown[0]}{more}, which cannot be taken back: {known[shown[0]]}"
        if number == 0:
            return f"not reversible: {f'the first wave ({name})' if len(waves) > 1 else 'it'} {runs}"
        return f"not reversible past wave {number} ({waves[number - 1][0]}): wave {number + 1} ({name}) {runs}"
    return None


def told(found: Mapping[str, str], targets: int) -> str:
    """
    >>> told({"b": "it has no downgrade", "c": "its downgrade is empty"}, 40)
    '40 targets have run b (it has no downgrade) and 1 more that cannot be taken back'
    """
    step, why = next(iter(found.items()))
    more = f" and {len(found) - 1} more that cannot be taken back" if len(found) > 1 else ""
    return f"{targets} target{'s have' if targets != 1 else ' has'} run {step} ({why}){more}"
