"""How far a rollout is, folded from its events: what the live view shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from orchestrator.cli.backfill_tally import Backfills
from orchestrator.cli.moments import FAILURES, CauseMoment, Moment, Throttle, WaveMoment

RETRIABLE = FAILURES | {"cancelled"}
FINISHED = frozenset({"succeeded", "failed", "aborted", "rolled_back"})
_MOVING = frozenset({"planning", "running"})
NAMES_KEPT = 5

Key = tuple[str, str]  # tenant, track


@dataclass(slots=True)
class Tally:
    """Folds a rollout's events, live or repeated from the beginning; blank until it was created.

    `began` is when it last started to move. Events of other rollouts change nothing. `throttled` holds the shards that
    bear less than they may, `link` why nothing is heard of the daemon, `unheard_since` since when.
    """

    rollout: str = ""
    title: str = "starting"
    total: int = 0
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    state: str = "pending"
    reason: str | None = None
    waiting: str | None = None
    ended: datetime | None = None
    outcomes: dict[Key, str] = field(default_factory=dict)
    running: set[Key] = field(default_factory=set)
    causes: dict[str, str] = field(default_factory=dict)
    throttled: dict[str, Throttle] = field(default_factory=dict)
    link: str | None = None
    unheard_since: datetime | None = None
    backfills: Backfills = field(default_factory=Backfills)
    _before: int = 0
    _waves: dict[str, int] = field(default_factory=dict)
    _wave_states: dict[str, str] = field(default_factory=dict)
    _wave_of: dict[Key, str] = field(default_factory=dict)
    _cause_of: dict[Key, str] = field(default_factory=dict)

    def apply(self, name: str, data: Mapping[str, Any]) -> str | None:
        """Take account of an event; `data` is as it goes over the wire.

        Returns what is new and wrong, in words: a cause of failure, or a shard that is throttled.
        """
        if name in ("ShardThrottled", "ShardLimitChanged"):
            return self.throttle(data["shard"], data["limit"], data["allowed"], data.get("reason"))
        if name == "RolloutCreated" and not self.rollout:
            self.rollout, self.total = data["rollout"], data["total"]
            self.title, self.began = f"{data['track']} to {data['to']}", moment_of(data["at"])
        if data.get("rollout") in (None, self.rollout):  # a hold of a whole shard is of no rollout
            self.backfills.apply(name, data)
        if data.get("rollout") != self.rollout:
            return None
        match name:
            case "RolloutCreated":
                self._waves = dict(data.get("waves") or {})
            case "MigrationStarted":
                self._start(data)
            case "MigrationFinished":
                return self._finish(data)
            case "WaveChanged":
                self._wave_states[data["wave"]] = data["change"]
                self.waiting = None  # what it was waiting for has come
            case "RolloutStateChanged":
                self._change(data)
        return None

    def throttle(self, shard: str, limit: int, allowed: int, reason: str | None) -> str | None:
        """Take account of what a shard bears; without a reason, it is what the registry allows. Returns what is new."""
        before = self.throttled.pop(shard, None)
        if reason is None:
            return None
        self.throttled[shard] = found = Throttle(shard, limit, allowed, reason)
        return None if before and before.limit == limit else found.words

    def heard(self, reason: str | None, now: datetime) -> None:
        """The daemon is not heard any more, and why; or, without a reason, it is again."""
        self.link, self.unheard_since = reason, now if reason else None

    def moment(self, now: datetime) -> Moment:
        counts = Counter(self.outcomes.values())
        seconds = max(0.0, ((self.ended or now) - self.began).total_seconds())
        worked = self._worked() - self._before
        return Moment(
            self.title,
            self.state,
            self.reason,
            self.total,
            len(self.running),
            counts,
            seconds,
            worked / seconds if worked > 0 and seconds > 0 else None,
            self.waiting,
            tuple(self._wave_moments()),
            tuple(self._cause_moments()),
            tuple(self.throttled.values()),
            self.link,
            (now - self.unheard_since).total_seconds() if self.unheard_since else 0.0,
            () if self.state in FINISHED else self.backfills.moments(),
        )

    def _wave_moments(self) -> Iterable[WaveMoment]:
        done = Counter(self._wave_of.get(key, "") for key in self.outcomes)
        failed = Counter(self._wave_of.get(key, "") for key, outcome in self.outcomes.items() if outcome in FAILURES)
        running = Counter(self._wave_of.get(key, "") for key in self.running)
        for name, total in self._waves.items():
            state = self._wave_states.get(name, "pending")
            yield WaveMoment(name, state, total, done[name], running[name], failed[name])

    def _cause_moments(self) -> Sequence[CauseMoment]:
        tenants: dict[str, list[str]] = {}
        for key, signature in self._cause_of.items():
            tenants.setdefault(signature, []).append(key[0])
        found = [
            CauseMoment(signature, len(names), tuple(names[:NAMES_KEPT]), self.causes[signature])
            for signature, names in tenants.items()
        ]
        return sorted(found, key=lambda cause: -cause.count)

    def _start(self, data: Mapping[str, Any]) -> None:
        key = _key(data)
        self.outcomes.pop(key, None)
        self._cause_of.pop(key, None)
        self.running.add(key)
        self._wave_of[key] = data.get("wave", "")

    def _finish(self, data: Mapping[str, Any]) -> str | None:
        key, signature = _key(data), data.get("signature")
        self.running.discard(key)
        self.outcomes[key] = data["outcome"]
        self._wave_of[key] = data.get("wave", "")
        self._cause_of.pop(key, None)
        if data["outcome"] not in FAILURES or signature is None:
            return None
        self._cause_of[key] = signature
        if signature in self.causes:
            return None
        self.causes[signature] = data["message"]
        return f"{data['tenant']} {data['outcome']}: {data['message']}"

    def _change(self, data: Mapping[str, Any]) -> None:
        before, self.state, self.reason = self.state, data["state"], data["reason"]
        self.waiting = data.get("waiting")
        at = moment_of(data["at"])
        self.ended = at if self.state in FINISHED or self.state == "paused" else None
        self._waves |= {name: sum(counts.values()) for name, counts in (data.get("waves") or {}).items()}
        self.total = data.get("total", self.total)
        if not data["counts"].get("running"):
            self.running.clear()  # what a daemon that was killed had running is pending again; no event tells this
        if data["counts"].get("pending", 0) > self.total - len(self.outcomes) - len(self.running):
            self._forget_failures()
        if self.state in _MOVING and before not in _MOVING:
            self.began, self._before = at, self._worked()

    def _forget_failures(self) -> None:
        """What failed is pending again; no event tells this of each target."""
        self.outcomes = {key: outcome for key, outcome in self.outcomes.items() if outcome not in RETRIABLE}
        self._cause_of = {key: signature for key, signature in self._cause_of.items() if key in self.outcomes}

    def _worked(self) -> int:
        """Targets at their end that took work: those found at the goal say nothing about the rate."""
        return sum(outcome not in ("up_to_date", "cancelled") for outcome in self.outcomes.values())


def _key(data: Mapping[str, Any]) -> Key:
    return data["tenant"], data["track"]


def moment_of(text: str) -> datetime:
    """
    >>> moment_of("2026-01-02T03:04:05.000Z")
    datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
    """
    return datetime.fromisoformat(text).astimezone(UTC)
