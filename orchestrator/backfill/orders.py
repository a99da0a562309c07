"""What people have ordered, folded into what counts for one backfill. Pure."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from orchestrator.backfill.steering import Adjustment, Order, Scope
from orchestrator.registry.backfills import PROBE, SIGNALS, Rules, Threshold

LARGEST_BATCH = 1_000_000


@dataclass(frozen=True, slots=True)
class Standing:
    """What counts for one backfill: `paused` is the order that says so; it keeps to `rules`."""

    rules: Rules
    paused: Order | None = None


@dataclass(frozen=True, slots=True)
class Who:
    """One backfill, as scopes know it."""

    rollout: str
    shard: str
    tenant: str
    revision: str


def standing(orders: Iterable[Order], rules: Rules, who: Who) -> Standing:
    """What the orders say of this backfill; `rules` are its shard's. Its budget is told by `of_shard`."""
    kept = remaining(one for one in orders if concerns(one, who))
    for order in sorted(kept, key=_by_weight):
        if order.action == "adjust" and order.adjustment is not None:
            rules = _adjusted(rules, order.adjustment)
    paused = next((one for one in kept if one.action == "pause"), None)
    return Standing(rules, paused)


def concerns(order: Order, who: Who) -> bool:
    return order.scope.covers(who.rollout, who.shard, who.tenant, who.revision)


def of_shard(orders: Iterable[Order], rules: Rules, shard: str) -> Rules:
    """The shard's own rules with what is ordered for all of its backfills: budget, and thresholds of its signals."""
    kept = (one for one in remaining(orders) if one.scope in (Scope(), Scope(shard=shard)))
    for order in sorted(kept, key=_by_weight):
        if order.action == "adjust" and order.adjustment is not None:
            rules = _adjusted(_budgeted(rules, order.adjustment), order.adjustment)
    return rules


def remaining(orders: Iterable[Order]) -> Sequence[Order]:
    """The orders that still count, the oldest first: pauses that nobody has taken back, and the last adjustments.

    They count in the order in which they come: `at` may be of another clock.
    """
    kept: dict[tuple[Scope, str], Order] = {}
    for order in orders:
        if order.action == "resume":
            kept = {key: one for key, one in kept.items() if not takes_back(order, one)}
        elif order.action == "adjust":
            kept.pop((order.scope, "adjust"), None)
            if order.adjustment is not None and order.adjustment != Adjustment():
                kept[order.scope, "adjust"] = order
        elif order.action == "pause":
            kept.pop((order.scope, "pause"), None)
            kept[order.scope, "pause"] = order
    return list(kept.values())


def takes_back(order: Order, before: Order) -> bool:
    """Whether a resume takes back what was ordered before: a pause within its scope. Not a wider one, since that holds
    others as well."""
    return order.action == "resume" and before.action == "pause" and order.scope.holds(before.scope)


def refusal(order: Order) -> str | None:
    """Why an order cannot be meant; None: it can."""
    adjustment, scope = order.adjustment, order.scope
    if (order.action == "adjust") != (adjustment is not None):
        return "an adjustment goes with `adjust`, and with nothing else"
    if adjustment is None:
        return None
    if adjustment.rows_per_second is not None:
        if scope != Scope(shard=scope.shard):
            return "`rows_per_second` is shared by all backfills of a shard: order it for a shard, or for all"
        if not 0 <= adjustment.rows_per_second < math.inf:
            return "`rows_per_second` must be 0, for no budget, or more"
    if adjustment.duty is not None and not 0 < adjustment.duty <= 1:
        return "`duty` must be above 0 and at most 1"
    if adjustment.batch_size is not None and not 1 <= adjustment.batch_size <= LARGEST_BATCH:
        return f"`batch_size` must be from 1 to {LARGEST_BATCH:,} rows"
    for name, value in adjustment.thresholds.items():
        if name not in SIGNALS and not name.startswith(PROBE):
            close = difflib.get_close_matches(name, SIGNALS, n=1)
            meant = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(SIGNALS)}, and {PROBE}NAME"
            return f"there is no signal {name!r}: {meant}"
        if not 0 <= value < math.inf:
            return f"the threshold of `{name}` must be 0 or more"
    return None


def unheard(adjustment: Adjustment, shards: Collection[tuple[str, Rules]]) -> str | None:
    """Why a threshold would hold nothing on any of these shards, of which the dialect and the rules are given; None:
    each holds something, or there are no shards to ask."""
    probes = {probe.name: probe for _, rules in shards for probe in rules.probes}
    dialects = {dialect for dialect, _ in shards}
    for name in adjustment.thresholds if shards else ():
        if not name.startswith(PROBE):
            told_by = SIGNALS[name].dialects
            if told_by.isdisjoint(dialects):
                listed, those = (" and ".join(sorted(names)) for names in (told_by, dialects))
                return f"`{name}` is told by {listed}, and what is meant is on {those}: name one of theirs"
        elif name not in probes:
            close = difflib.get_close_matches(name, probes, n=1)
            there = (
                f"there are: {', '.join(sorted(probes))}"
                if probes
                else "its shards have none: the registry gives them, under `probes`"
            )
            return f"there is no probe {name!r}: {f'did you mean {close[0]!r}?' if close else there}"
        elif not probes[name].is_number:
            return f"`{name}` is answered with yes or no, and has no threshold: name another, or pause"
    return None


def _by_weight(order: Order) -> int:
    """The narrower a scope, the more it counts; of two alike, the later one, as long as the sort is stable."""
    scope = order.scope
    return sum(part is not None for part in (scope.rollout, scope.shard, scope.tenant, scope.revision))


def _adjusted(rules: Rules, adjustment: Adjustment) -> Rules:
    thresholds = {name: _threshold(rules, name, above) for name, above in adjustment.thresholds.items()}
    return replace(
        rules,
        duty=rules.duty if adjustment.duty is None else adjustment.duty,
        batch_size=rules.batch_size if adjustment.batch_size is None else adjustment.batch_size,
        thresholds={**rules.thresholds, **thresholds},
    )


def _threshold(rules: Rules, name: str, above: float) -> Threshold:
    """With the hysteresis that the file has for it."""
    probes = {probe.name: probe.threshold for probe in rules.probes}
    known = rules.thresholds.get(name) or probes.get(name)
    return Threshold(above, above * known.below / known.above) if known and known.above else Threshold.over(above)


def _budgeted(rules: Rules, adjustment: Adjustment) -> Rules:
    if adjustment.rows_per_second is None:
        return rules
    return replace(rules, rows_per_second=adjustment.rows_per_second or None)
