"""Follows what happens, and sees that everybody who wants to be told is told.

What a rollout does is read from its durable stream, so nothing is missed by a restart or a change of the leader, and
rollouts never wait for it. A delivery is made at least once: a process that ends between sending and writing that down
sends again, under the same id.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import anyio
import anyio.abc
import structlog

from orchestrator import events
from orchestrator.errors import LeadershipLostError, StoreError
from orchestrator.notify import notices
from orchestrator.notify.notices import Delivery, Notice, Stream
from orchestrator.notify.pauses import Pauses
from orchestrator.notify.ports import Outbox
from orchestrator.notify.sending import NotDelivered, Sender
from orchestrator.registry.channels import Channel

LOOK_SECONDS = 2.0
PAUSES = Pauses()
FORGET_SECONDS = 3600.0
# Notices that no stream holds, waiting to be written down.
QUEUE = 200
# Beyond a channel's time: so long another process keeps its hands off a delivery that this one has begun.
CLAIM_SECONDS = 30.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Throttling:
    since: datetime
    last: events.ShardThrottled


class Notifier:
    """`hear` is subscribed to the bus; `run` does the work, in the process that leads."""

    def __init__(
        self,
        outbox: Outbox,
        channels: Callable[[], Sequence[Channel]],
        sender: Sender,
        publish: Callable[[events.Event], None],
        leads: Callable[[], bool],
        pauses: Pauses = PAUSES,
        look_seconds: float = LOOK_SECONDS,
        claim_seconds: float = CLAIM_SECONDS,
    ) -> None:
        self._outbox, self._channels, self._sender = outbox, channels, sender
        self._publish, self._leads, self._pauses = publish, leads, pauses
        self._look_seconds, self._claim_seconds = look_seconds, claim_seconds
        self._woken, self._stirred = anyio.Event(), True
        self._offered: deque[tuple[Notice, Sequence[str] | None]] = deque()
        self._throttled: dict[str, Throttling] = {}
        self._told: set[tuple[str, str]] = set()
        self._sending: set[str] = set()

    def hear(self, event: events.Event) -> None:
        """Take note of an event; never waits."""
        match event:
            case events.RolloutCreated() | events.RolloutStateChanged():
                self._stirred = True
                self._woken.set()
            case events.ShardThrottled():
                before = self._throttled.get(event.shard)
                self._throttled[event.shard] = Throttling(before.since if before else event.at, event)
            case events.ShardLimitChanged(reason=None):
                self._throttled.pop(event.shard, None)
                self._told = {(channel, shard) for channel, shard in self._told if shard != event.shard}
            case events.ShardLimitChanged(reason=str(reason)) if event.shard in self._throttled:
                since, shard = self._throttled[event.shard].since, event.shard
                last = events.ShardThrottled(shard=shard, limit=event.limit, allowed=event.allowed, reason=reason)
                self._throttled[shard] = Throttling(since, last)

    def offer(self, notice: Notice, channels: Sequence[str] | None = None) -> None:
        """Tell of what no rollout's stream holds. Of too many at once the last are dropped, counted and logged."""
        if len(self._offered) >= QUEUE:
            self._drop(notices.deliveries([notice], self._channels()), "too many notices at once")
            return
        self._offered.append((notice, channels))
        self._woken.set()

    async def run(self) -> None:
        """Until cancelled. What goes wrong with the store is told, and tried again."""
        told, forgotten = "", -FORGET_SECONDS
        async with anyio.create_task_group() as tasks:
            while True:
                try:
                    if not self._leads():
                        self._stirred = True
                    else:
                        if anyio.current_time() - forgotten >= FORGET_SECONDS:
                            await self._outbox.forget(events.now())
                            forgotten = anyio.current_time()
                        await self._round(tasks)
                    told = ""
                except LeadershipLostError:
                    return
                except StoreError as exc:
                    self._stirred = True
                    if exc.message != told:
                        log.warning("notifications_held_up", message=exc.message, remedy=exc.remedy)
                    told = exc.message
                except Exception:  # telling people must not end what they are told of
                    self._stirred = True
                    if told != "bug":
                        log.exception("notifications_failed")
                    told = "bug"
                with anyio.move_on_after(self._look_seconds):
                    await self._woken.wait()
                self._woken = anyio.Event()

    async def _round(self, tasks: anyio.abc.TaskGroup) -> None:
        channels = self._channels()
        if channels or self._stirred:
            self._stirred = False
            await self._gather(channels)
        self._offer_throttled(channels)
        await self._write_down(channels)
        await self._outbox.abandon([one.name for one in channels], "the registry has no such channel", events.now())
        due = await self._outbox.due(events.now())
        for channel in channels:
            if channel.name in due and channel.name not in self._sending:
                self._sending.add(channel.name)
                tasks.start_soon(self._drain, channel.name)

    async def _gather(self, channels: Sequence[Channel]) -> None:
        """Look at what is new. Without channels as well, or the first one would be told of all that ever was; but not
        again and again, since that is a look at all rollouts."""
        compose = partial(_composed, channels)
        more = True
        while more:
            gathered = await self._outbox.gather(compose, events.now())
            self._drop(gathered.dropped, "too many wait for this channel")
            more = gathered.more

    async def _write_down(self, channels: Sequence[Channel]) -> None:
        while self._offered:
            notice, names = self._offered[0]
            chosen = [one for one in channels if names is None or one.name in names]
            gathered = await self._outbox.add(notices.deliveries([notice], chosen), events.now())
            self._offered.popleft()
            self._drop(gathered.dropped, "too many wait for this channel")

    def _offer_throttled(self, channels: Sequence[Channel]) -> None:
        moment = events.now()
        for shard, one in self._throttled.items():
            seconds = (moment - one.since).total_seconds()
            names = [
                channel.name
                for channel in channels
                if seconds >= channel.after_seconds
                and channel.wants("shard_throttled", "*")
                and (channel.name, shard) not in self._told
            ]
            if names:
                self._told |= {(name, shard) for name in names}
                last, at = one.last, events.timestamp(moment)
                told = notices.throttled(shard, one.since, at, last.limit, last.allowed, last.reason, round(seconds, 3))
                self.offer(told, names)

    async def _drain(self, name: str) -> None:
        """Send what is due for a channel, one after the other; each as the registry has the channel then."""
        try:
            while self._leads():
                channel = next((one for one in self._channels() if one.name == name), None)
                if channel is None:
                    return
                moment = events.now()
                until = moment + timedelta(seconds=channel.timeout_seconds + self._claim_seconds)
                delivery = await self._outbox.claim(name, moment, until)
                if delivery is None:
                    return
                await self._attempt(channel, delivery)
        except StoreError as exc:
            log.warning("notification_not_recorded", channel=name, message=exc.message)
        except Exception:
            log.exception("notification_crashed", channel=name)
        finally:
            self._sending.discard(name)

    async def _attempt(self, channel: Channel, delivery: Delivery) -> None:
        try:
            await self._sender.send(channel, delivery)
        except NotDelivered as exc:
            await self._put_off(channel, delivery, exc)
            return
        except Exception as exc:  # it counts as an attempt like any other, or it would be tried for ever
            log.exception("notification_crashed", channel=channel.name, delivery=delivery.id)
            unexpected = NotDelivered(f"it cannot be sent: {type(exc).__name__}, see the daemon's log")
            await self._put_off(channel, delivery, unexpected)
            return
        with anyio.CancelScope(shield=True):  # it was sent: whoever stops us now must not have it sent twice
            await self._outbox.delivered(delivery, events.now())
        self._publish(
            events.NotificationDelivered(
                channel=channel.name, kind=delivery.kind, delivery=delivery.id, attempt=delivery.attempts
            )
        )

    async def _put_off(self, channel: Channel, delivery: Delivery, exc: NotDelivered) -> None:
        last = exc.final or delivery.attempts >= channel.attempts
        pause = self._pauses.after(delivery.attempts, random.random(), exc.asked_seconds)
        moment = events.now()
        await self._outbox.failed(delivery, str(exc), moment, None if last else moment + timedelta(seconds=pause))
        self._publish(
            events.NotificationFailed(
                channel=channel.name,
                kind=delivery.kind,
                delivery=delivery.id,
                attempt=delivery.attempts,
                message=str(exc),
                wait_seconds=None if last else round(pause, 3),
            )
        )

    def _drop(self, dropped: Sequence[Delivery], reason: str) -> None:
        for one in dropped:
            self._publish(events.NotificationDropped(channel=one.channel, kind=one.kind, reason=reason))


def _composed(channels: Sequence[Channel], stream: Stream) -> tuple[Sequence[Delivery], str]:
    found, state = notices.of_rollout(stream)
    return notices.deliveries(found, channels), state
