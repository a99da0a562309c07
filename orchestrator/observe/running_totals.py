"""A counter over what is counted elsewhere by shard, and told under the labels that shards have now."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from orchestrator.observe.shard_labels import OTHER, Shards

Pair = tuple[str, str]  # a shard, or its label; and a reason


class RunningTotals:
    """What has come to a shard since it was looked at last counts for the label that the shard has then. So no total
    ever falls, as the sum for `other` would when one of its shards gets a name: Prometheus would take that for a
    process that has begun anew. `most`: so many reasons of each shard; the rest is one, `other`."""

    def __init__(self, shards: Shards, most: int) -> None:
        self._shards, self._most = shards, most
        self._seen: dict[Pair, float] = {}
        self._totals: defaultdict[str, dict[str, float]] = defaultdict(dict)

    def follow(self, values: Mapping[Pair, float]) -> Mapping[Pair, float]:
        """Take over what the shards have come to by now, and return all totals."""
        for pair, value in values.items():
            reasons = self._totals[self._shards.wide(pair[0])]
            reason = pair[1] if pair[1] in reasons or len(reasons) < self._most else OTHER
            seen = self._seen.get(pair, 0.0)
            reasons[reason] = reasons.get(reason, 0.0) + max(0.0, value - seen)
            self._seen[pair] = max(value, seen)
        return {(shard, reason): n for shard, reasons in self._totals.items() for reason, n in reasons.items()}

    def forget_shards(self) -> None:
        """Leave out shards that have no name any more."""
        for shard in [shard for shard in self._totals if self._shards.wide(shard) != shard]:
            del self._totals[shard]
