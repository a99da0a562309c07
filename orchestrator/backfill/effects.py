"""What an order comes to for the backfills that are underway. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.backfill import orders
from orchestrator.backfill.steering import Order, Scope
from orchestrator.backfill.view import PAUSED, ROUTINE, Underway


@dataclass(frozen=True, slots=True)
class Effect:
    """`count`: the backfills underway that it concerns; of a resume, those that go on with it. The rest is a resume's:
    `taken_back` are the pauses that no longer stand, `paused_by` those that do and hold some of its scope, and `holds`
    counts by reason what keeps the others of its scope waiting."""

    count: int
    taken_back: Sequence[Order] = ()
    paused_by: Sequence[Order] = ()
    holds: Mapping[str, int] = field(default_factory=dict)


def effect(
    given: Iterable[Order], order: Order, views: Iterable[Underway], homes: Collection[tuple[str, str]] = ()
) -> Effect:
    """`given`: the orders that stand, this one not among them; `homes`: where targets are, as (tenant, shard)."""
    concerned = [view for view in views if covers(order.scope, view)]
    if order.action != "resume":
        return Effect(len(concerned))
    before = [one for one in orders.remaining(given) if one.action == "pause"]
    taken = [one for one in before if orders.takes_back(order, one)]
    left = [one for one in before if one not in taken]
    there = {*homes, *((view.tenant, view.shard) for view in concerned)}
    count, holds = 0, Counter[str]()
    for view in concerned:
        waits = _waits(view, left)
        holds.update(waits)
        count += not waits and any(covers(one.scope, view) for one in taken)
    return Effect(count, taken, [one for one in left if _meets(order.scope, one.scope, there)], dict(holds))


def covers(scope: Scope, view: Underway) -> bool:
    return scope.covers(view.rollout, view.shard, view.tenant, view.backfill.revision)


def _waits(view: Underway, pauses: Iterable[Order]) -> set[str]:
    """What it waits for. Whether it is paused is known by the orders: what is shown of it may be a moment old."""
    others = {hold.reason for hold in view.holds} - ROUTINE - {PAUSED}
    return {PAUSED, *others} if any(covers(one.scope, view) for one in pauses) else others


def _meets(one: Scope, other: Scope, homes: Collection[tuple[str, str]]) -> bool:
    """Whether there may be a backfill that both cover, now or later."""
    both = one.shared(other)
    if both is None:
        return False
    return both.tenant is None or both.shard is None or (both.tenant, both.shard) in homes
