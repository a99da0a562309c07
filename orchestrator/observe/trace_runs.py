"""Which run of a rollout is underway, and which visit to a wave, so that no span is sent twice under one id. Pure.

A rollout that is retried, or taken back, after its end runs once more; a wave that has passed is visited once more by a
retry, and on the way back.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from orchestrator.observe import trace_ids

# So many rollouts that have ended are remembered; of others, whoever takes them up again tells.
REMEMBERED = 1_000


@dataclass(slots=True)
class _Run:
    """`since`: when it began, of a further one; `sent`: waves whose span was sent, with the number of their visits."""

    attempt: int = 1
    since: datetime | None = None
    is_over: bool = False
    sent: Counter[str] = field(default_factory=Counter)
    underway: set[str] = field(default_factory=set)


class Runs:
    def __init__(self) -> None:
        self._runs: OrderedDict[str, _Run] = OrderedDict()

    def recall(self, rollout: str, attempt: int, since: datetime | None, passed: Mapping[str, int]) -> None:
        """Take over what is known of a rollout that is taken up: its run, since when it is underway, and how often its
        waves have passed in it."""
        underway = run.underway if (run := self._runs.get(rollout)) is not None else set()
        self._runs[rollout] = _Run(attempt, since if attempt > 1 else None, False, Counter(passed), underway)

    def begin(self, rollout: str, at: datetime) -> None:
        """It is not over, whatever was told before."""
        run = self._runs.setdefault(rollout, _Run())
        if run.is_over:
            self._runs[rollout] = _Run(run.attempt + 1, at)

    def end(self, rollout: str) -> None:
        run = self._runs.setdefault(rollout, _Run())
        run.is_over = True
        self._runs.move_to_end(rollout)
        over = [one for one, run in self._runs.items() if run.is_over]
        for forgotten in over[: max(0, len(over) - REMEMBERED)]:
            del self._runs[forgotten]

    def enter(self, rollout: str, wave: str) -> None:
        """Something of a wave is underway."""
        self._runs.setdefault(rollout, _Run()).underway.add(wave)

    def leave(self, rollout: str, wave: str) -> None:
        """Its span was sent."""
        run = self._runs.setdefault(rollout, _Run())
        run.underway.discard(wave)
        run.sent[wave] += 1

    def attempt(self, rollout: str) -> int:
        return self._of(rollout).attempt

    def since(self, rollout: str, at: datetime) -> datetime:
        """When the run began: never before the one before it ended. `at`: when its rollout, or its wave, did first."""
        begun = self._of(rollout).since
        return at if begun is None else max(at, begun)

    def span(self, rollout: str, wave: str | None = None) -> int:
        """The id of a rollout's span, or of a wave's: of the visit that is underway, or was last."""
        run = self._of(rollout)
        if wave is None:
            return trace_ids.of_span(rollout, attempt=run.attempt)
        visit = run.sent[wave] + (wave in run.underway)
        return trace_ids.of_span(rollout, wave, attempt=run.attempt, visit=max(1, visit))

    def _of(self, rollout: str) -> _Run:
        return self._runs.get(rollout) or _Run()
