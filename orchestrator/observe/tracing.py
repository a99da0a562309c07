"""Makes traces of events: a trace for each rollout, with its waves, migrations, segments, statements and backfills.

A span is sent when it has ended, and its parent may be sent much later, by another process: see `trace_ids`.
"""

from __future__ import annotations

import random
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from orchestrator import events
from orchestrator.observe import spans, trace_ids
from orchestrator.observe.happenings import MOST, Happening, happened
from orchestrator.observe.rollouts import FAILURES, FINISHED, Rollouts
from orchestrator.observe.spans import Origin, Span
from orchestrator.observe.trace_runs import Runs

# So many migrations that have ended are remembered: what is told of them may come a moment later.
REMEMBERED = 5_000
# Segments of one migration, over all its attempts.
MOST_SEGMENTS = 50

Key = tuple[str, str, str]  # rollout, tenant, track
BackfillKey = tuple[str, str, str, str, int]


@dataclass(slots=True)
class _Wave:
    began_at: datetime
    happenings: list[Happening] = field(default_factory=list)


@dataclass(slots=True)
class _Migration:
    started: events.MigrationStarted
    origin: Origin
    attempt: int
    happenings: list[Happening] = field(default_factory=list)
    segments: list[tuple[events.SegmentRan, int]] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        return any(segment.kind is not None for segment, _attempt in self.segments)


@dataclass(slots=True)
class _Backfill:
    changed_before: int
    shard: str
    batches: int = 0
    happenings: list[Happening] = field(default_factory=list)


class Tracing:
    """Subscribe `apply` to the bus before whoever asks for `ids`.

    `send` is given each span that has ended, `wanted` says whether a trace is kept at all. `detailed`: of so many
    targets of each wave, segments and statements are sent, and of those that fail or are tried again in any case.
    `rollouts`: the active ones, as folded from the same events. `runs`: told of rollouts that are taken up.
    """

    def __init__(
        self,
        send: Callable[[Span], None],
        rollouts: Rollouts,
        *,
        wanted: Callable[[int], bool] = lambda trace_id: True,
        detailed: int = 100,
        new_id: Callable[[], int] = lambda: random.getrandbits(64) or 1,
    ) -> None:
        self._send, self._rollouts, self._wanted = send, rollouts, wanted
        self._most, self._new_id = detailed, new_id
        self.runs = Runs()
        self._told: dict[str, list[Happening]] = {}
        self._waves: dict[tuple[str, str], _Wave] = {}
        self._migrations: dict[Key, _Migration] = {}
        self._backfills: dict[BackfillKey, _Backfill] = {}
        self._ended: OrderedDict[Key, int] = OrderedDict()
        self._detailed: Counter[tuple[str, str]] = Counter()

    # Which span something belongs to

    def trace_of(self, rollout: str) -> str | None:
        """The id of a rollout's trace, as it is written; None where it is not kept."""
        trace_id = trace_ids.of_rollout(rollout)
        return trace_ids.shown_trace(trace_id) if self._wanted(trace_id) else None

    def ids(self, event: events.Event) -> Mapping[str, str]:
        """`trace_id` and `span_id` of what an event tells of; empty where it belongs to no trace."""
        rollout = getattr(event, "rollout", None)
        trace = self.trace_of(rollout) if rollout else None
        if rollout is None or trace is None:
            return {}
        span_id = self._migration_span(event)
        if span_id is None:
            span_id = self.runs.span(rollout, event.wave if isinstance(event, events.WaveChanged) else None)
        return {"trace_id": trace, "span_id": trace_ids.shown_span(span_id)}

    def exemplar(self, event: events.Event) -> Mapping[str, str] | None:
        """As `ids`, of an event of a migration that has a span."""
        return self.ids(event) if self._migration_span(event) is not None else None

    def _migration_span(self, event: events.Event) -> int | None:
        key = (getattr(event, "rollout", None), getattr(event, "tenant", None), getattr(event, "track", None))
        if None in key:
            return None
        found = self._migrations.get(key)  # type: ignore[arg-type]
        return found.origin.span_id if found is not None else self._ended.get(key)  # type: ignore[arg-type]

    # Events

    def apply(self, event: events.Event) -> None:
        rollout = getattr(event, "rollout", None)
        if rollout is not None and not self._wanted(trace_ids.of_rollout(rollout)):
            return
        match event:
            case events.BackfillEvent():
                self._of_backfill(event)
            case events.MigrationEvent():
                self._of_migration(event)
            case events.LockWaited():
                self._add((event.rollout or "", event.tenant or "", event.track or ""), event)
            case events.BackfillReleased():
                for one in self._held_by(event):
                    _append(one.happenings, event)
            case events.RolloutRequested():
                self._requested(event)
            case events.WaveChanged():
                self._of_wave(event)
            case events.RolloutStateChanged(state=state) if state in FINISHED:
                self._over(event)
            case events.RolloutStateChanged():
                self.runs.begin(event.rollout, event.at)
                _append(self._told.setdefault(event.rollout, []), event)

    def close(self, at: datetime) -> None:
        """Send what is open of migrations, which no one will go on with here."""
        for key in list(self._migrations):
            self._interrupted(key, at)

    def _requested(self, event: events.RolloutRequested) -> None:
        if (link := trace_ids.link(event.traceparent)) is not None:
            self._send(spans.request(event, self._below(event.rollout), link))

    def _of_wave(self, event: events.WaveChanged) -> None:
        wave = self._wave(event.rollout, event.wave, event.at)
        wave.began_at = min(wave.began_at, _before(event.at, event.seconds))
        _append(wave.happenings, event)
        if event.change == "passed":
            picture = self._rollouts.get(event.rollout)
            self._passed(event, event.wave, picture.waves.get(event.wave, {}) if picture is not None else {})

    def _passed(self, event: events.RolloutEvent, name: str, counts: Mapping[str, int]) -> None:
        rollout, wave = event.rollout, self._waves.pop((event.rollout, name))
        origin = Origin(trace_ids.of_rollout(rollout), self.runs.span(rollout, name), self.runs.span(rollout))
        began_at, attempt = self.runs.since(rollout, wave.began_at), self.runs.attempt(rollout)
        self._send(spans.wave(event, name, origin, began_at, attempt, counts, wave.happenings))
        self.runs.leave(rollout, name)

    def _wave(self, rollout: str, name: str, at: datetime) -> _Wave:
        self.runs.enter(rollout, name)
        return self._waves.setdefault((rollout, name), _Wave(at))

    def _over(self, event: events.RolloutStateChanged) -> None:
        rollout = event.rollout
        for key in [key for key in self._migrations if key[0] == rollout]:
            self._interrupted(key, event.at)
        for wave in [wave for one, wave in self._waves if one == rollout]:
            self._passed(event, wave, event.waves.get(wave, {}))
        for counted in [counted for counted in self._detailed if counted[0] == rollout]:
            del self._detailed[counted]
        for backfill in [backfill for backfill in self._backfills if backfill[0] == rollout]:
            del self._backfills[backfill]  # nobody has told of its end
        happenings = self._told.pop(rollout, [])
        _append(happenings, event)
        origin = Origin(trace_ids.of_rollout(rollout), self.runs.span(rollout), None)
        began_at, attempt = self.runs.since(rollout, _before(event.at, event.seconds)), self.runs.attempt(rollout)
        self._send(spans.rollout(event, origin, began_at, attempt, happenings))
        self.runs.end(rollout)

    def _of_migration(self, event: events.MigrationEvent) -> None:
        key = (event.rollout, event.tenant, event.track)
        match event:
            case events.MigrationStarted():
                self._started(key, event)
            case events.SegmentRan() if one := self._migrations.get(key):
                if len(one.segments) < MOST_SEGMENTS:
                    one.segments.append((event, one.attempt))
            case events.MigrationFinished():
                self._finished(key, event)
            case _:
                self._add(key, event)

    def _started(self, key: Key, event: events.MigrationStarted) -> None:
        one = self._migrations.get(key)
        if one is None:
            self._wave(event.rollout, event.wave, event.at)  # after a restart, and on the way back, nobody tells
            origin = self._below(event.rollout, event.wave)
            one = self._migrations[key] = _Migration(event, origin, event.attempt)
        one.attempt = event.attempt
        _append(one.happenings, event)

    def _finished(self, key: Key, event: events.MigrationFinished) -> None:
        one = self._migrations.pop(key, None)
        failed = event.outcome in FAILURES
        if one is None and not failed:
            return  # nothing was begun: it was at the goal, or was left out
        origin = one.origin if one is not None else self._below(event.rollout, event.wave)
        self._remember(key, origin)
        detailed = one is not None and (failed or one.failed or event.attempts > 1 or self._has_room(event))
        began_at = one.started.at if one is not None else _before(event.at, event.seconds)
        happenings = one.happenings if one is not None else []
        self._send(spans.migration(event, origin, began_at, happenings, detailed=detailed))
        if one is not None and detailed:
            self._send_segments(one)

    def _has_room(self, event: events.MigrationEvent) -> bool:
        self._detailed[event.rollout, event.wave] += 1
        return self._detailed[event.rollout, event.wave] <= self._most

    def _interrupted(self, key: Key, at: datetime) -> None:
        one = self._migrations.pop(key)
        self._remember(key, one.origin)
        self._send(spans.interrupted(one.started, one.origin, at, one.happenings))
        self._send_segments(one)

    def _send_segments(self, one: _Migration) -> None:
        for segment, attempt in one.segments:
            origin = Origin(one.origin.trace_id, self._new_id(), one.origin.span_id)
            self._send(spans.segment(segment, origin, attempt))
            for sent in segment.statements:
                below = Origin(origin.trace_id, self._new_id(), origin.span_id)
                self._send(spans.statement(segment, sent, below))

    def _remember(self, key: Key, origin: Origin) -> None:
        self._ended[key] = origin.span_id
        self._ended.move_to_end(key)
        if len(self._ended) > REMEMBERED:
            self._ended.popitem(last=False)

    def _of_backfill(self, event: events.BackfillEvent) -> None:
        key = (event.rollout, event.tenant, event.track, event.revision, event.ordinal)
        match event:
            case events.BackfillStarted():
                self._backfills[key] = _Backfill(event.changed, event.shard)
            case events.BackfillFinished() | events.BackfillStopped():
                # Of one whose beginning we have not seen, all that was changed is told.
                done = self._backfills.pop(key, None) or _Backfill(0, event.shard)
                parent = self._migration_span(event)
                above = parent if parent is not None else self.runs.span(event.rollout)
                origin = Origin(trace_ids.of_rollout(event.rollout), self._new_id(), above)
                batches = done.batches + len(event.batches)
                self._send(spans.backfill(event, origin, done.changed_before, batches, done.happenings))
            case events.BackfillAdvanced() if one := self._backfills.get(key):
                one.batches += len(event.batches)

    def _held_by(self, event: events.BackfillReleased) -> Iterable[_Backfill]:
        """The backfills that were held: all of the shard, or those that the event names."""
        given = (event.rollout, event.tenant, event.track)
        for key, one in self._backfills.items():
            if one.shard == event.shard and all(
                wanted in (None, have) for wanted, have in zip(given, key[:3], strict=True)
            ):
                yield one

    def _add(self, key: Key, event: events.Event) -> None:
        if (one := self._migrations.get(key)) is not None:
            _append(one.happenings, event)

    def _below(self, rollout: str, wave: str | None = None) -> Origin:
        """A new span below the rollout's or a wave's."""
        return Origin(trace_ids.of_rollout(rollout), self._new_id(), self.runs.span(rollout, wave))


def _append(happenings: list[Happening], event: events.Event) -> None:
    if len(happenings) < MOST and (told := happened(event)) is not None:
        happenings.append(told)


def _before(at: datetime, seconds: float) -> datetime:
    return at - timedelta(seconds=seconds)
