"""Notifications as the store keeps them: written in one transaction with how far the rollouts were looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import Connection, RowMapping, Select, and_, delete, func, or_, select, update

from orchestrator.errors import NotFoundError, StateError
from orchestrator.notify.notices import NAMES, Delivery, Happened, Stream
from orchestrator.notify.ports import Compose, Gathered, Kept, State
from orchestrator.store import inserting
from orchestrator.store.changes import Written
from orchestrator.store.connections import Connections
from orchestrator.store.fence import Fence
from orchestrator.store.rows import event_from, storable, storable_json
from orchestrator.store.tables import events, notification_marks, notifications, rollouts
from orchestrator.store.writer import Writer, fenced

# Rollouts and events that one transaction looks at.
STREAMS, EVENTS = 50, 200
# More than so many do not wait for one channel.
WAITING_LIMIT = 1_000
DELIVERED_KEPT, DEAD_KEPT = timedelta(days=7), timedelta(days=30)
ERROR_LIMIT = 1_000

T = TypeVar("T")
_number = notifications.c.number


class StoreOutbox:
    """Implements `notify.ports.Outbox`; listing and retrying are any process's to do."""

    def __init__(self, connections: Connections, writer: Writer, fence: Fence) -> None:
        self._connections, self._writer, self._fence = connections, writer, fence

    # What the notifier does

    async def gather(self, compose: Compose, now: datetime) -> Gathered:
        if not await self._connections.read(lambda connection: connection.execute(_unseen(1)).first()):
            return Gathered()
        return await self._write(lambda connection: _gather(connection, compose, now))

    async def add(self, deliveries: Sequence[Delivery], now: datetime) -> Gathered:
        if not deliveries:
            return Gathered()
        return await self._write(lambda connection: _add(connection, deliveries, now))

    async def due(self, now: datetime) -> Sequence[str]:
        wanted = select(notifications.c.channel).where(_due(now)).distinct()
        return await self._connections.read(lambda connection: connection.scalars(wanted).all())

    async def claim(self, channel: str, now: datetime, until: datetime) -> Delivery | None:
        return await self._write(lambda connection: _claim(connection, channel, now, until))

    async def delivered(self, delivery: Delivery, now: datetime) -> None:
        values = {"state": "delivered", "finished_at": now, "next_at": None, "error": None}
        await self._settle(delivery, values, _begun(delivery))

    async def failed(self, delivery: Delivery, error: str, now: datetime, again_at: datetime | None) -> None:
        values: dict[str, Any] = {"error": storable(error, ERROR_LIMIT), "next_at": again_at}
        if not again_at:
            values |= {"state": "dead", "finished_at": now}
        untouched = notifications.c.next_at == delivery.until  # or somebody wants it sent again meanwhile: that counts
        await self._settle(delivery, values, and_(_begun(delivery), untouched))

    async def abandon(self, channels: Sequence[str], error: str, now: datetime) -> int:
        of_others = and_(notifications.c.state == "pending", notifications.c.channel.not_in(channels))
        first = select(_number).where(of_others).limit(1)
        if not await self._connections.read(lambda connection: connection.execute(first).first()):
            return 0
        values = {"state": "dead", "error": error, "finished_at": now, "next_at": None}
        done = update(notifications).where(of_others).values(values)
        return await self._write(lambda connection: connection.execute(done).rowcount)

    async def forget(self, now: datetime) -> None:
        finished = notifications.c.finished_at
        over = or_(
            and_(notifications.c.state == "delivered", finished < now - DELIVERED_KEPT),
            and_(notifications.c.state == "dead", finished < now - DEAD_KEPT),
        )
        await self._write(lambda connection: connection.execute(delete(notifications).where(over)))

    # What anybody may do

    async def listed(
        self, *, states: Sequence[State] = (), channels: Sequence[str] = (), limit: int = 100, before: int | None = None
    ) -> Sequence[Kept]:
        """Newest first; `before`: the number of the last one of the page before."""
        wanted = select(notifications).order_by(_number.desc()).limit(limit)
        if states:
            wanted = wanted.where(notifications.c.state.in_(states))
        if channels:
            wanted = wanted.where(notifications.c.channel.in_(channels))
        if before is not None:
            wanted = wanted.where(_number < before)
        return [_kept(row) for row in await self._rows(wanted)]

    async def retry(self, delivery_id: str, now: datetime) -> Kept:
        """Send a dead letter again, with all its attempts, or one that waits at once. Raises NotFoundError, and
        StateError when it was delivered. A part of the act that does it."""
        return await self._writer.alone(lambda connection: Written(_retry(connection, delivery_id, now)))

    async def _settle(self, delivery: Delivery, values: dict[str, Any], attempt: Any) -> None:
        settled = update(notifications).where(notifications.c.id == delivery.id, attempt).values(values)
        await self._write(lambda connection: connection.execute(settled))

    async def _write(self, work: Callable[[Connection], T]) -> T:
        return await self._connections.write(fenced(self._fence, work))

    async def _rows(self, wanted: Select[Any]) -> Sequence[RowMapping]:
        return await self._connections.read(lambda connection: connection.execute(wanted).mappings().all())


def _unseen(limit: int) -> Select[Any]:
    """Rollouts whose stream is longer than what was looked at. A terminal's own are its business: it shows them."""
    seen = func.coalesce(notification_marks.c.sequence, 0)
    columns = (rollouts.c.id, rollouts.c.track, rollouts.c.to, rollouts.c.created_by, rollouts.c.last_sequence)
    marks = rollouts.outerjoin(notification_marks, notification_marks.c.rollout == rollouts.c.id)
    mark = (seen.label("seen"), func.coalesce(notification_marks.c.state, "pending").label("before"))
    unseen = select(*columns, *mark).select_from(marks).where(rollouts.c.last_sequence > seen)
    return unseen.where(rollouts.c.foreground.is_(False)).order_by(rollouts.c.created_at, rollouts.c.id).limit(limit)


def _gather(connection: Connection, compose: Compose, now: datetime) -> Gathered:
    rows = connection.execute(_unseen(STREAMS)).all()
    made: list[Delivery] = []
    more = len(rows) == STREAMS
    for row in rows:
        of_rollout = and_(events.c.rollout == row.id, events.c.sequence > row.seen, events.c.name.in_(NAMES))
        wanted = select(events).where(of_rollout, events.c.sequence <= row.last_sequence)
        found = connection.execute(wanted.order_by(events.c.sequence).limit(EVENTS)).mappings().all()
        stored = [event_from(one) for one in found]
        happened = [Happened(one.sequence, one.name, one.data) for one in stored]
        new, state = compose(Stream(row.id, row.track, row.to, row.created_by, row.before, happened))
        made += new
        # Where there were more than we asked for, the next transaction begins after the last of these.
        whole = len(happened) < EVENTS
        more = more or not whole
        _mark(connection, row.id, row.last_sequence if whole else happened[-1].sequence, state)
    added = _add(connection, made, now) if made else Gathered()
    return Gathered(added.added, added.dropped, more)


def _mark(connection: Connection, rollout: str, sequence: int, state: str) -> None:
    values = {"sequence": sequence, "state": state}
    put = inserting.into(connection, notification_marks).values(rollout=rollout, **values)
    connection.execute(put.on_conflict_do_update(index_elements=["rollout"], set_=values))


def _add(connection: Connection, deliveries: Sequence[Delivery], now: datetime) -> Gathered:
    counted = select(notifications.c.channel, func.count()).where(notifications.c.state == "pending")
    waiting = Counter[str]()
    for channel, n in connection.execute(counted.group_by(notifications.c.channel)):
        waiting[channel] = n
    dropped = []
    for one in deliveries:
        if waiting[one.channel] >= WAITING_LIMIT:
            dropped.append(one)
            continue
        put = inserting.into(connection, notifications).values(_row(one, now))
        waiting[one.channel] += connection.execute(put.on_conflict_do_nothing(index_elements=["id"])).rowcount
    return Gathered(len(deliveries) - len(dropped), dropped)


def _claim(connection: Connection, channel: str, now: datetime, until: datetime) -> Delivery | None:
    oldest = select(notifications).where(_due(now), notifications.c.channel == channel).order_by(_number).limit(1)
    row = connection.execute(oldest.with_for_update()).mappings().one_or_none()
    if row is None:
        return None
    attempts = row["attempts"] + 1
    begun = update(notifications).where(_number == row["number"])
    connection.execute(begun.values(attempts=attempts, next_at=until))
    return Delivery(row["id"], row["channel"], row["kind"], row["body"], attempts, until)


def _begun(delivery: Delivery) -> Any:
    """The attempt that `delivery` counts is still the last one."""
    return notifications.c.attempts == delivery.attempts


def _retry(connection: Connection, delivery_id: str, now: datetime) -> Kept:
    wanted = select(notifications).where(notifications.c.id == delivery_id)
    row = connection.execute(wanted.with_for_update()).mappings().one_or_none()
    if row is None:
        raise NotFoundError(
            f"there is no notification {delivery_id!r}", remedy="list them: orchestrator notifications list"
        )
    if row["state"] == "delivered":
        raise StateError(f"notification {delivery_id} was delivered", remedy="nothing is to be done about it")
    attempts = 0 if row["state"] == "dead" else row["attempts"]
    again = {"state": "pending", "next_at": now, "finished_at": None, "attempts": attempts}
    connection.execute(update(notifications).where(_number == row["number"]).values(again))
    return _kept(connection.execute(wanted).mappings().one())


def _due(now: datetime) -> Any:
    return and_(notifications.c.state == "pending", notifications.c.next_at <= now)


def _row(delivery: Delivery, now: datetime) -> dict[str, Any]:
    return {
        "id": delivery.id,
        "channel": storable(delivery.channel),
        "kind": delivery.kind,
        "body": storable_json(dict(delivery.body)),
        "state": "pending",
        "attempts": 0,
        "created_at": now,
        "next_at": now,
    }


def _kept(row: RowMapping) -> Kept:
    made = Delivery(row["id"], row["channel"], row["kind"], row["body"], row["attempts"])
    return Kept(row["number"], made, row["state"], row["created_at"], row["next_at"], row["finished_at"], row["error"])
