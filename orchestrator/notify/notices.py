"""What is worth telling, made from a rollout's durable events. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from orchestrator.observe import redact
from orchestrator.registry.channels import Channel, NoticeKind

# The events that `of_rollout` looks at; others may be left out.
NAMES = ("RolloutCreated", "RolloutStateChanged")
FINISHED = frozenset({"succeeded", "failed", "aborted", "rolled_back"})
_AT_GOAL = ("succeeded", "up_to_date")
_FAILED = ("failed", "locked", "unreachable", "ahead")


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to tell. `key` names it, the same whoever tells it and however often; `track` is `*` where it concerns
    every track."""

    kind: NoticeKind
    key: str
    at: str
    track: str
    text: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Happened:
    """A stored event; `sequence` is its number in its rollout's stream."""

    sequence: int
    name: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Stream:
    """What is new in a rollout's stream, and the state that the rollout was in before."""

    rollout: str
    track: str
    to: str
    created_by: str
    state: str
    events: Sequence[Happened]


@dataclass(frozen=True, slots=True)
class Delivery:
    """A notice on its way through one channel. `attempts` counts those that were begun; the one under way has it
    `until` then."""

    id: str
    channel: str
    kind: str
    body: Mapping[str, Any]
    attempts: int = 0
    until: datetime | None = None


def of_rollout(stream: Stream) -> tuple[Sequence[Notice], str]:
    """The notices of new events, in order, and the state that the rollout is in after them."""
    state, found = stream.state, []
    for event in stream.events:
        if event.name == "RolloutCreated":
            found.append(_notice("rollout_started", stream, event, "pending"))
        elif event.name == "RolloutStateChanged":
            before, state = state, str(event.data["state"])
            if state != before and (kind := _kind(state, event.data.get("by"))):
                found.append(_notice(kind, stream, event, state))
    return found, state


def throttled(shard: str, since: datetime, at: str, limit: int, allowed: int, reason: str, seconds: float) -> Notice:
    """A shard has had no room for as many migrations as it may have, for so long."""
    data = {"shard": shard, "limit": limit, "allowed": allowed, "reason": redact.text(reason), "seconds": seconds}
    minutes = max(1, round(seconds / 60))
    text = f"shard {shard} has been throttled for {minutes} min: {limit} of {allowed} migrations at once; {reason}"
    key = f"shard {shard} {since.isoformat()}"
    return Notice("shard_throttled", key, at, "*", redact.text(text), {"shard": data})


def deliveries(notices: Sequence[Notice], channels: Sequence[Channel]) -> list[Delivery]:
    """One for each channel that wants to be told; with the same id whenever it is made of the same notice."""
    return [
        Delivery(delivery_id(channel.name, notice), channel.name, notice.kind, body(channel.name, notice))
        for notice in notices
        for channel in channels
        if channel.wants(notice.kind, notice.track)
    ]


def delivery_id(channel: str, notice: Notice) -> str:
    digest = hashlib.sha256("\0".join((channel, notice.kind, notice.key)).encode("utf-8", "backslashreplace"))
    return f"ntf_{digest.hexdigest()[:24]}"


def body(channel: str, notice: Notice) -> dict[str, Any]:
    """The event as it is sent: members are only ever added."""
    told = {"id": delivery_id(channel, notice), "type": notice.kind, "at": notice.at, "text": notice.text}
    return {**told, **notice.data}


def _kind(state: str, by: object) -> NoticeKind | None:
    """What a state is worth telling as; who has paused a rollout knows."""
    if state == "awaiting_approval":
        return "approval_needed"
    if state == "paused" and by is None:
        return "rollout_paused"
    return "rollout_finished" if state in FINISHED else None


def _notice(kind: NoticeKind, stream: Stream, event: Happened, state: str) -> Notice:
    told = event.data
    rollout = {
        "id": stream.rollout,
        "track": stream.track,
        "to": stream.to,
        "state": state,
        "created_by": stream.created_by,
        "reason": _masked(told.get("reason")),
        "waiting": _masked(told.get("waiting")),
        "total": told.get("total"),
        "counts": dict(told.get("counts") or {}),
        "seconds": told.get("seconds", 0.0),
    }
    key = f"{stream.rollout} {event.sequence}"
    return Notice(kind, key, str(told["at"]), stream.track, _text(kind, rollout), {"rollout": rollout})


def _text(kind: NoticeKind, rollout: Mapping[str, Any]) -> str:
    """One line for people.

    >>> told = {"id": "r1", "track": "app", "to": "head", "state": "failed", "reason": None, "total": 9}
    >>> _text("rollout_finished", told | {"counts": {"succeeded": 7, "failed": 2}})
    'rollout r1 (app to head) failed: 7 of 9 at the goal, 2 not'
    """
    what = f"rollout {rollout['id']} ({rollout['track']} to {rollout['to']})"
    counts = rollout["counts"]
    said = f"{_sum(counts, _AT_GOAL):,} of {rollout['total']:,} at the goal"
    if wrong := _sum(counts, _FAILED):
        said += f", {wrong:,} not"
    why = f"; {rollout['reason']}" if rollout["reason"] else ""
    match kind:
        case "rollout_started":
            return f"{what} was started by {rollout['created_by']}: {rollout['total']:,} targets"
        case "approval_needed":
            return f"{what} waits: {rollout['waiting'] or 'for approval'}; {said}"
        case "rollout_paused":
            return f"{what} has paused{why}; {said}"
        case _:
            verb = {"rolled_back": "was rolled back", "aborted": "was aborted"}.get(rollout["state"], rollout["state"])
            return f"{what} {verb}: {said}{why}"


def _sum(counts: Mapping[str, int], states: Sequence[str]) -> int:
    return sum(counts.get(state, 0) for state in states)


def _masked(text: object) -> str | None:
    return None if text is None else redact.text(str(text))
