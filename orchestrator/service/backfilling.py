"""Backfills as they are shown and steered, by whichever process is asked."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Any

from orchestrator.api.backfill_ports import Field, Fleet
from orchestrator.backfill import orders
from orchestrator.backfill.effects import Effect, effect
from orchestrator.backfill.records import Key, Record, State, Sum, key_of, standing, summed
from orchestrator.backfill.steering import Adjustment, Order, Scope
from orchestrator.backfill.view import Underway
from orchestrator.errors import ConfigurationError, RequestError
from orchestrator.events import BackfillOrdered
from orchestrator.registry.model import Registry, Shard
from orchestrator.service.steering import COMMANDS, Steering
from orchestrator.service.wiring import Parts
from orchestrator.store import rules

LEFT = "the process that ran it has ended; its checkpoint tells how far it came"
# What a leader carries out for others: a method of the service.
COMMAND = "order_backfills"
COMMANDS.add(COMMAND)


class Backfilling:
    """Implements `api.backfill_ports.Backfills`."""

    def __init__(self, parts: Parts, steering: Steering) -> None:
        self._parts, self._steering = parts, steering
        self._store = parts.store.backfills

    # Looking

    async def listed(
        self,
        *,
        only: Mapping[Field, str] | None = None,
        states: Sequence[State] = (),
        limit: int = 100,
        after: Key | None = None,
    ) -> Sequence[Record]:
        await self._parts.keeper.catch_up()
        found = await self._store.records.listed(only=only, states=states, limit=limit, after=after)
        return [record for record in self._as_of_now(found) if not states or record.state in states]

    async def fleet(self, only: Mapping[Field, str] | None = None) -> Fleet:
        return Fleet(await self.sums(only), await self._store.orders.standing())

    async def sums(self, only: Mapping[Field, str] | None = None) -> Sequence[Sum]:
        await self._parts.keeper.catch_up()
        records = self._as_of_now(await self._store.records.unfinished(only))
        return summed(await self._store.records.ended(only), records)

    def _as_of_now(self, records: Iterable[Record]) -> list[Record]:
        live = {key_of(view): standing(view) for view in self._underway}
        return [live.get(record.key, record) for record in records]

    @property
    def _underway(self) -> Sequence[Underway]:
        return self._parts.keeper.throttle.underway()

    # Steering

    async def lead(self) -> None:
        """Take over what an earlier process has left, and let the orders that stand count. Before anything runs."""
        await self._store.records.abandon(LEFT, self._parts.clock())
        await self._store.orders.forget()
        self._parts.keeper.throttle.restore(await self._store.orders.standing())

    async def order(self, order: Order) -> Effect:
        await self._check(order)
        if self._steering.leads:
            return await self._carry_out(order)
        before = await self._store.orders.standing()
        await self._steering.ask(COMMAND, order.scope.rollout or "", {"by": order.by, "order": order_json(order)})
        return self._effect(before, order, [record.view for record in await self._store.records.unfinished()])

    async def carry_out(self, by: str, order: Mapping[str, Any]) -> None:
        """What a standby has asked for."""
        given = order_from(by, order)
        await self._check(given)
        await self._carry_out(given)

    async def _carry_out(self, order: Order) -> Effect:
        order = replace(order, at=self._moment(order))
        comes_to = self._effect(self._parts.keeper.throttle.orders, order, self._underway)
        await self._store.orders.give(order, comes_to.count)
        self._parts.keeper.throttle.order(order)
        adjustment = None if order.adjustment is None else asdict(order.adjustment)
        told = BackfillOrdered(
            action=order.action,
            by=order.by,
            count=comes_to.count,
            reason=order.reason,
            adjustment=adjustment,
            **asdict(order.scope),
        )
        self._parts.bus.publish(told)
        return comes_to

    def _effect(self, before: Iterable[Order], order: Order, views: Iterable[Underway]) -> Effect:
        homes = {(target.tenant, target.shard) for target in self._parts.source.current.targets}
        return effect(before, order, views, homes)

    def _moment(self, order: Order) -> datetime:
        """By the clock of the process that leads, whoever was asked; after what stands, since the store keeps orders by
        their time. An abort is not kept: it concerns what runs now, and nothing that begins later."""
        now = self._parts.clock()
        if order.action == "abort":
            return now
        after = (one.at + timedelta(microseconds=1) for one in self._parts.keeper.throttle.orders)
        return max([now, *after])

    async def _check(self, order: Order) -> None:
        registry, scope = self._parts.source.current, order.scope
        if (refused := orders.refusal(order)) is not None:
            raise RequestError(refused)
        if scope.rollout is not None and order.action != "resume":  # which takes back what nothing needs any more
            rollout = await self._parts.store.ledger.rollout(scope.rollout)
            if rollout.state.finished:
                raise rules.finished(rollout.id, rollout.state)
        here = self._underway
        if scope.shard is not None:
            _known("shard", scope.shard, {*registry.shards, *(view.shard for view in here)})
        if scope.tenant is not None:
            _known("tenant", scope.tenant, {*_tenants(registry), *(view.tenant for view in here)})
        if order.adjustment is not None:
            shards = [(shard.dialect, shard.backfill) for shard in _shards(registry, scope)]
            if (unheard := orders.unheard(order.adjustment, shards)) is not None:
                raise RequestError(unheard)


def order_json(order: Order) -> dict[str, Any]:
    """An order as a command has it; who gives it stands beside."""
    return {**asdict(order), "at": order.at.isoformat()}


def order_from(by: str, values: Mapping[str, Any]) -> Order:
    adjustment = None if values["adjustment"] is None else Adjustment(**values["adjustment"])
    at = datetime.fromisoformat(values["at"])
    return Order(Scope(**values["scope"]), values["action"], by, at, values["reason"], adjustment)


def _tenants(registry: Registry) -> set[str]:
    return {target.tenant for target in registry.targets}


def _shards(registry: Registry, scope: Scope) -> Collection[Shard]:
    """Where what the scope covers may be; those that a reload has taken away are not known any more."""
    homes = {target.shard for target in registry.targets if scope.tenant in (None, target.tenant)}
    wanted = {scope.shard} if scope.shard is not None else registry.shards if scope.tenant is None else homes
    return [registry.shards[name] for name in wanted if name in registry.shards]


def _known(what: str, name: str, there: Collection[str]) -> None:
    if name in there:
        return
    close = difflib.get_close_matches(name, there, n=1)
    many = len(there) > 20
    remedy = f"did you mean {close[0]!r}?" if close else None if many else f"there are: {', '.join(sorted(there))}"
    raise ConfigurationError(f"there is no {what} {name!r}", remedy=remedy)
