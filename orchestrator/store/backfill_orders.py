"""Orders of backfills that count until they are taken back: they outlive a restart, and go to whoever leads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from orchestrator.access import acts
from orchestrator.backfill.records import resuming, told, words
from orchestrator.backfill.steering import Order, Scope
from orchestrator.errors import StateError
from orchestrator.rollout.state import ACTIVE
from orchestrator.store.backfill_rows import adjustment_json, order_from, order_row, scope_row
from orchestrator.store.changes import Written
from orchestrator.store.connections import Connections
from orchestrator.store.tables import backfill_orders, rollouts
from orchestrator.store.writer import Writer

KEY = ("rollout", "shard", "tenant", "revision", "action")


class StoreBackfillOrders:
    """At most one pause and one adjustment for each scope. Everything raises StoreError."""

    def __init__(self, connections: Connections, writer: Writer) -> None:
        self._connections, self._writer = connections, writer

    async def give(self, order: Order, count: int) -> None:
        """Write an order with the act that it is; `count`: how many backfills it concerns now, for the record.

        Raises StateError for a resume within whose scope no pause lies.
        """
        acts.tell(backfills=count)
        await self._writer.alone(lambda connection: _give(connection, order))

    async def standing(self) -> Sequence[Order]:
        """In the order in which they were given."""
        it = backfill_orders.c
        wanted = select(backfill_orders).order_by(it.at, it.action, *(it[name] for name in KEY[:4]))
        rows = await self._connections.read(lambda connection: connection.execute(wanted).mappings().all())
        return [order_from(row) for row in rows]

    async def forget(self) -> None:
        """Those of rollouts that have ended."""
        await self._writer.alone(_forget)


def _give(connection: Connection, order: Order) -> Written[None]:
    if order.action == "resume":
        if not connection.execute(delete(backfill_orders).where(*_within(order.scope, "pause"))).rowcount:
            nothing = f"there is no pause of {words(order.scope)}, or of a part of it: nothing was resumed"
            raise StateError(nothing, remedy=_instead(connection, order.scope))
    elif order.action == "adjust" and not _says_something(order):
        connection.execute(delete(backfill_orders).where(*_same(order.scope, "adjust")))
    elif order.action != "abort":  # that counts for what runs now
        _keep(connection, order_row(order))
    return Written(None)


def _keep(connection: Connection, row: dict[str, Any]) -> None:
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    again = {name: value for name, value in row.items() if name not in KEY}
    connection.execute(insert(backfill_orders).values(row).on_conflict_do_update(index_elements=KEY, set_=again))


def _same(scope: Scope, action: str) -> list[ColumnElement[bool]]:
    wanted = {**scope_row(scope), "action": action}
    return [backfill_orders.c[name] == value for name, value in wanted.items()]


def _within(scope: Scope, action: str) -> list[ColumnElement[bool]]:
    """As `Scope.holds`."""
    named = {name: value for name, value in scope_row(scope).items() if value}
    return [backfill_orders.c[name] == value for name, value in {**named, "action": action}.items()]


def _says_something(order: Order) -> bool:
    return order.adjustment is not None and bool(adjustment_json(order.adjustment))


def _instead(connection: Connection, scope: Scope) -> str:
    """What is paused, so that somebody can say which of it is meant; first what holds the scope as well."""
    rows = connection.execute(select(backfill_orders).where(backfill_orders.c.action == "pause")).mappings()
    pauses = [order_from(row) for row in rows]
    if not pauses:
        return "nothing is paused: a rollout that has paused is resumed as such"
    wider = [one for one in pauses if one.scope.shared(scope) is not None]
    if not wider:
        return f"paused are: {'; '.join(map(told, pauses))}"
    ways = "; ".join(f"{told(one)} is taken back by `{resuming(one.scope)}`" for one in wider)
    return f"another pause holds it, or may, and others with it: {ways}"


def _forget(connection: Connection) -> Written[None]:
    active = select(rollouts.c.id).where(rollouts.c.state.in_(sorted(ACTIVE)))
    it = backfill_orders.c
    connection.execute(delete(backfill_orders).where(it.rollout != "", it.rollout.not_in(active)))
    return Written(None)
