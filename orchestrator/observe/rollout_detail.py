"""Of how many active rollouts /metrics tells wave by wave, so that there are not more series than there is room for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from orchestrator.observe.rollouts import MIGRATION_STATES, RolloutPicture
from orchestrator.observe.shard_labels import OTHER

# Of so many rollouts, the newest, there are series for states at all.
MAX_DETAILED = 20
# The commonest signatures of a rollout; the rest is summed up as `other`.
MAX_SIGNATURES = 10
# What each active rollout takes in any case: when it began, how far it is and the like, and the budget that is used
# most, which an alert looks at.
OF_EACH = 8
# What one takes besides whose waves are told as one: its states.
SUMMED_UP = len(MIGRATION_STATES)


class Detail(NamedTuple):
    """How many rollouts, the newest, have states at all, and how many of those are told wave by wave."""

    told: int
    by_wave: int


def detail(series: Sequence[int], room: int) -> Detail:
    """`series`: of each active rollout, the newest first, what it takes wave by wave; `room`: for all of them together.

    >>> detail([40, 40, 40], 200), detail([40] * 20, 700), detail([40] * 20, 200), detail([900], 190)
    (Detail(told=3, by_wave=3), Detail(told=20, by_wave=11), Detail(told=1, by_wave=1), Detail(told=1, by_wave=0))
    """
    left = room - OF_EACH * len(series)
    newest = series[:MAX_DETAILED]
    if not newest:
        return Detail(0, 0)
    # The newest is what people look at: it comes before a second one.
    by_wave = int(newest[0] <= left)
    left -= newest[0] if by_wave else SUMMED_UP
    told = 1 + min(len(newest) - 1, max(0, left) // SUMMED_UP)
    left -= (told - 1) * SUMMED_UP
    while 0 < by_wave < told and (more := newest[by_wave] - SUMMED_UP) <= left:
        by_wave, left = by_wave + 1, left - more
    return Detail(told, by_wave)


def series(picture: RolloutPicture) -> int:
    """What a rollout takes wave by wave, besides what each takes."""
    budgets = max(0, len(picture.allowed) - 1)
    return len(MIGRATION_STATES) * len(picture.waves) + budgets + len(commonest(picture.failures()))


def waves(picture: RolloutPicture, *, summed_up: bool) -> Mapping[str, Counter[str]]:
    return {OTHER: picture.counts} if summed_up else picture.waves


def budgets(picture: RolloutPicture, *, summed_up: bool) -> Mapping[str, float]:
    """Where waves are told as one, the budget that is used most."""
    used = picture.budgets_used()
    return {OTHER: max(used.values())} if used and summed_up else used


def commonest(failures: Counter[str]) -> dict[str, int]:
    """
    >>> commonest(Counter({f"cause {n}": 1 for n in range(12)}))["other"]
    2
    """
    shown = dict(failures.most_common(MAX_SIGNATURES))
    if rest := failures.total() - sum(shown.values()):
        shown[OTHER] = shown.get(OTHER, 0) + rest
    return shown
