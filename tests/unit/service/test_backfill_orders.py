"""When an order of backfills counts, whoever was asked for it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

from orchestrator.backfill.steering import Action, Order, Scope
from orchestrator.service.backfilling import Backfilling, order_json

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)


class _Leader:
    """A service that leads, with a clock that stands still, and what it was told to keep."""

    def __init__(self) -> None:
        self.kept: list[Order] = []
        self.throttle = SimpleNamespace(orders=[], order=self._order, underway=lambda: ())
        store = SimpleNamespace(backfills=SimpleNamespace(orders=SimpleNamespace(give=self._give)))
        parts = SimpleNamespace(
            store=store,
            keeper=SimpleNamespace(throttle=self.throttle),
            clock=lambda: NOON,
            bus=SimpleNamespace(publish=lambda event: None),
            source=SimpleNamespace(current=SimpleNamespace(targets=())),
        )
        self.service = Backfilling(cast("Any", parts), cast("Any", SimpleNamespace(leads=True)))

    async def _give(self, order: Order, count: int) -> None:
        self.kept.append(order)

    def _order(self, order: Order) -> None:
        self.throttle.orders.append(order)

    async def ask(self, action: Action, minutes: int) -> datetime:
        """By a process whose clock is so many minutes ahead; when it counts."""
        order = Order(Scope(), action, "user:ann", NOON + timedelta(minutes=minutes))
        await self.service.carry_out(order.by, order_json(order))
        return self.kept[-1].at


async def test_an_order_counts_from_when_the_leader_carries_it_out() -> None:
    leader = _Leader()
    assert await leader.ask("pause", 10) == NOON
    assert await leader.ask("resume", -10) > NOON, "kept in the order in which they came"
    assert [order.at for order in leader.throttle.orders] == [order.at for order in leader.kept]


async def test_an_abort_is_not_put_after_what_an_earlier_leader_kept() -> None:
    """Else it would concern what begins after it, where that leader's clock was ahead."""
    leader = _Leader()
    ahead = Order(Scope(), "pause", "user:ann", NOON + timedelta(hours=1))
    leader.throttle.orders.append(ahead)
    assert await leader.ask("abort", 0) == NOON
    assert await leader.ask("resume", 0) > ahead.at
