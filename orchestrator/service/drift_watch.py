"""The daemon's looks for drift: of the process that leads, each track at its interval, one after the other."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog

from orchestrator.errors import OrchestratorError, StoreError
from orchestrator.events import now
from orchestrator.plan.drift import Standing
from orchestrator.plan.drift_records import Record
from orchestrator.registry.model import Registry, Track
from orchestrator.service.orchestrator import Orchestrator
from orchestrator.service.repeating import again_and_again
from orchestrator.service.wiring import Parts

LOOK_SECONDS = 1.0
# The first look of a track that has never been looked at comes within so many seconds, when it is looked at at all.
SPREAD_SECONDS = 600.0
# After a look that was not to be had.
AGAIN_SECONDS = 60.0

log = structlog.get_logger(__name__)


class DriftWatch:
    """Looks, and tells the metrics what is known by now."""

    def __init__(self, parts: Parts, service: Orchestrator) -> None:
        self._parts, self._service = parts, service
        self._records: dict[str, Sequence[Record]] = {}
        self._due: dict[str, datetime] = {}
        self._followed: str | None = None

    async def run(self, *, look_seconds: float = LOOK_SECONDS) -> None:
        """For ever."""
        await again_and_again(self._once_led, _tell, look_seconds)

    async def _once_led(self) -> None:
        if self._service.steering.leads and not self._service.readiness():
            await self.once()

    async def once(self) -> None:
        """Look at one track, if any is due: one that somebody has asked for, or else the one that is due first. No
        more, since a look can take long, and the registry may be another afterwards. Raises StoreError."""
        registry, wanted = self._service.registry, self._service.drifting.wanted
        if registry.digest != self._followed:
            await self._follow(registry)
        due = [one for one in _watched(registry) if one.name in wanted or self._due[one.name] <= now()]
        if due:
            await self._look(registry, min(due, key=lambda one: (one.name not in wanted, self._due[one.name])))

    async def _follow(self, registry: Registry) -> None:
        """Take account of a registry: what was found before counts for the tracks that are still looked at."""
        tracks = _watched(registry)
        await self._parts.store.drift.keep({track.name for track in tracks})
        found: defaultdict[str, list[Record]] = defaultdict(list)
        for record in await self._parts.store.drift.listed():
            if record.key in registry.by_key:
                found[record.track].append(record)
        self._records = dict(found)
        self._due = {track.name: self._due_at(track) for track in tracks}
        self._followed = registry.digest
        self._describe()

    def _due_at(self, track: Track) -> datetime:
        """An interval after the last look; what was never looked at, or too long ago, has its turn spread out. Never
        later than it was due before: tenants that come and go all the time must not put it off."""
        every = track.drift.every_seconds
        soon = now() + timedelta(seconds=random.uniform(0, min(every, SPREAD_SECONDS)))
        last = max((record.looked_at for record in self._records.get(track.name, ())), default=None)
        following = last + timedelta(seconds=every) if last is not None else soon
        due = following if following > now() else soon
        return min(due, self._due.get(track.name, due))

    async def _look(self, registry: Registry, track: Track) -> None:
        self._service.drifting.wanted.discard(track.name)
        self._due[track.name] = now() + timedelta(seconds=min(track.drift.every_seconds, AGAIN_SECONDS))
        try:
            self._records[track.name] = await self._service.drifting.look(registry, track)
        except StoreError:
            raise
        except OrchestratorError as exc:
            log.warning("drift_not_looked_for", track=track.name, message=exc.message, remedy=exc.remedy)
            return
        except Exception:  # a bug in what only looks is not the daemon's end
            log.exception("drift_look_crashed", track=track.name)
            return
        self._due[track.name] = now() + timedelta(seconds=track.drift.every_seconds)
        self._describe()

    def _describe(self) -> None:
        known = {name: records for name, records in self._records.items() if records}
        drifted = Counter(r.track for records in known.values() for r in records if r.drifted_since is not None)
        unread = Counter(r.track for records in known.values() for r in records if r.standing is Standing.UNREAD)
        self._parts.metrics.drift.describe(
            {name: drifted[name] for name in known},
            {name: unread[name] for name in known},
            {name: max(record.looked_at for record in records) for name, records in known.items()},
        )


def _tell(exc: StoreError) -> None:
    log.warning("drift_not_recorded", message=exc.message, remedy=exc.remedy)


def _watched(registry: Registry) -> Sequence[Track]:
    return [track for track in registry.tracks.values() if track.drift.every_seconds]
