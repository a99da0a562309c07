"""What is kept of each look for drift, and what a look has changed. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from orchestrator.events import DriftEvent, DriftFound, DriftGone, DriftUndecided
from orchestrator.plan.drift import DIFFERING, Absent, Group, Standing, Verdict
from orchestrator.plan.drifted_lines import Difference
from orchestrator.registry.model import Heads, TargetKey

# Lines of a difference that are kept.
KEPT_LINES = 20
# Names of targets that are told of together.
NAMED = 10
# Nobody has seen that such a target is well.
_UNJUDGED = frozenset({Standing.UNREAD, Standing.ALONE, Standing.UNPROVISIONED})


@dataclass(frozen=True, slots=True)
class Record:
    """A target as it was last looked at. `drifted_since` outlives looks that could not read it: nobody has seen that
    the drift is gone. `lines` are some of the `differing` lines, as text; `message`: why it could not be judged."""

    tenant: str
    track: str
    shard: str
    standing: Standing
    looked_at: datetime
    heads: Heads = ()
    server: str | None = None
    digest: str | None = None
    reference: str | None = None
    differing: int | None = None
    lines: tuple[str, ...] = ()
    message: str | None = None
    drifted_since: datetime | None = None

    @property
    def key(self) -> TargetKey:
        return TargetKey(self.tenant, self.track)

    @property
    def last(self) -> Absent | None:
        """How it counts where it cannot be read; None: it was never read, or claimed no revision."""
        if self.server is None or self.digest is None or not self.heads:
            return None
        return Absent(self.track, self.server, self.heads, self.digest)


@dataclass(frozen=True, slots=True)
class Followed:
    """The records after a look, and what is to be told of it."""

    records: tuple[Record, ...]
    events: tuple[DriftEvent | DriftUndecided, ...]


def follow(
    before: Mapping[TargetKey, Record],
    verdicts: Iterable[Verdict],
    differences: Mapping[TargetKey, Difference],
    shards: Mapping[TargetKey, str],
    at: datetime,
) -> Followed:
    """Take account of a look. Targets that are not among the `verdicts` stay as they were, if `shards` knows them."""
    records = {key: record for key, record in before.items() if key in shards}
    told: list[DriftEvent | DriftUndecided] = []
    undecided: defaultdict[Group | None, list[Record]] = defaultdict(list)
    for verdict in verdicts:
        if verdict.key not in shards:
            continue
        was = before.get(verdict.key)
        record = _record(verdict, differences.get(verdict.key), was, shards[verdict.key], at)
        records[verdict.key] = record
        if record.standing is Standing.UNDECIDED:
            undecided[verdict.group] += [record] if _is_new(was, record) else []
        elif (event := _event(was, record)) is not None:
            told.append(event)
    told += [_undecided(found) for found in undecided.values() if found]
    return Followed(tuple(records[key] for key in sorted(records)), tuple(told))


def _record(verdict: Verdict, found: Difference | None, was: Record | None, shard: str, at: datetime) -> Record:
    since = was.drifted_since if was is not None else None
    if verdict.standing is Standing.UNREAD:
        known = was or Record(*verdict.key, shard, verdict.standing, at)
        return replace(known, shard=shard, standing=verdict.standing, message=verdict.why, looked_at=at)
    group, printed = verdict.group, verdict.fingerprint
    return Record(
        *verdict.key,
        shard,
        verdict.standing,
        at,
        group.heads if group is not None else (),
        group.server if group is not None else None,
        printed.digest if printed is not None else None,
        verdict.reference.tenant if verdict.reference is not None else None,
        found.total if found is not None else None,
        tuple(map(str, found.lines[:KEPT_LINES])) if found is not None else (),
        verdict.why,
        (since or at) if verdict.standing in DIFFERING else since if verdict.standing in _UNJUDGED else None,
    )


def _is_new(was: Record | None, record: Record) -> bool:
    """Whether one that differs did not, or differs otherwise."""
    return was is None or was.drifted_since is None or (was.digest, was.heads) != (record.digest, record.heads)


def _undecided(found: Sequence[Record]) -> DriftUndecided:
    """What is told of the targets of one group."""
    first = found[0]
    return DriftUndecided(
        at=first.looked_at,
        track=first.track,
        heads=first.heads,
        count=len(found),
        tenants=tuple(record.tenant for record in found[:NAMED]),
        reason=first.message,
    )


def _event(was: Record | None, record: Record) -> DriftEvent | None:
    """Only what has changed is told: that a target drifts otherwise than before, too."""
    since = was.drifted_since if was is not None else None
    if record.standing in _UNJUDGED:
        return None
    if record.standing in DIFFERING:
        if not _is_new(was, record):
            return None
        return DriftFound(
            at=record.looked_at,
            tenant=record.tenant,
            track=record.track,
            shard=record.shard,
            standing=record.standing,
            heads=record.heads,
            reference=record.reference,
            differing=record.differing,
        )
    if since is None:
        return None
    seconds = (record.looked_at - since).total_seconds()
    return DriftGone(at=record.looked_at, tenant=record.tenant, track=record.track, shard=record.shard, seconds=seconds)
