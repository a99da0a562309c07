"""Which targets' schemas differ from those of the others at their revision. Pure.

Targets of one track that claim the same heads should be alike. Which of them are right nobody tells, so most of them
are: more than half. Where there is no such majority, all of them are undecided, which is no better than drifted. Those
that cannot be read now have their say, too, as they were seen last.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from orchestrator.plan import roles
from orchestrator.plan.catalog import Catalog, Fingerprint
from orchestrator.registry.model import Heads, TargetKey


class Standing(StrEnum):
    """How a target compares with those that should be like it."""

    EQUAL = "equal"
    DRIFTED = "drifted"
    UNDECIDED = "undecided"
    ALONE = "alone"
    UNPROVISIONED = "unprovisioned"
    UNREAD = "unread"


# What is not as it should be.
DIFFERING = frozenset({Standing.DRIFTED, Standing.UNDECIDED})


class Group(NamedTuple):
    """What targets have in common that should be alike. `beside`: the heads of other tracks in the same place."""

    track: str
    server: str
    heads: Heads
    beside: tuple[tuple[str, Heads], ...] = ()


class Seen(NamedTuple):
    """A target that could be read. `group` is None where it claims no revision. `roles`: who is named in its catalog;
    `doubtful`: those whose names have the tenant's in them, so far as they were told without it."""

    key: TargetKey
    group: Group | None
    fingerprint: Fingerprint
    roles: frozenset[str] = frozenset()
    doubtful: frozenset[str] = frozenset()


class Absent(NamedTuple):
    """A target that cannot be read now, as it was seen last: it counts among those that were alike then."""

    track: str
    server: str
    heads: Heads
    digest: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reference`: a target that is as this one should be; `why`, where it cannot be judged, or could not be read.
    `common`: roles that most of its group have."""

    key: TargetKey
    standing: Standing
    group: Group | None = None
    fingerprint: Fingerprint | None = None
    reference: TargetKey | None = None
    why: str | None = None
    common: frozenset[str] = frozenset()


def group_of(track: str, catalog: Catalog) -> Group | None:
    """None for a target that claims no revision: it has no version table, or an empty one."""
    if not catalog.heads:
        return None
    return Group(track, catalog.server, tuple(sorted(catalog.heads)), tuple(sorted(catalog.beside)))


def common_roles(seen: Iterable[Seen]) -> dict[Group | None, frozenset[str]]:
    """By group, the roles that most of its members have: they are no tenant's own."""
    groups: defaultdict[Group | None, list[frozenset[str]]] = defaultdict(list)
    for one in seen:
        groups[one.group].append(one.roles)
    return {group: roles.common(each) for group, each in groups.items()}


def judge(seen: Iterable[Seen], reference: str | None = None, absent: Iterable[Absent] = ()) -> list[Verdict]:
    """A verdict on each, in the order of tenants. `reference` names the tenant that is right, in its groups. Where what
    most have is had by none of those that were `seen`, nothing is said of them: it may be long past, or soon back."""
    groups: defaultdict[Group | None, list[Seen]] = defaultdict(list)
    for one in sorted(seen):
        groups[one.group].append(one)
    away = list(absent)
    found: list[Verdict] = []
    for group, members in groups.items():
        if group is None:
            found += [_unprovisioned(one) for one in members]
        else:
            beside = [one.digest for one in away if one[:3] == (group.track, group.server, group.heads)]
            found += _judged(group, members, reference, beside)
    return sorted(found, key=lambda verdict: verdict.key)


def _unprovisioned(one: Seen) -> Verdict:
    why = "it claims no revision: its version table is missing or empty"
    return Verdict(one.key, Standing.UNPROVISIONED, fingerprint=one.fingerprint, why=why)


def _judged(group: Group, members: Sequence[Seen], reference: str | None, absent: Sequence[str] = ()) -> list[Verdict]:
    """`absent`: digests of members that were not seen."""
    digests = Counter([*(one.fingerprint.digest for one in members), *absent])
    named = _named(members, reference)
    right = named.fingerprint.digest if named is not None else _majority(digests)
    if right is None:
        why = f"no majority: {len(digests)} kinds among {digests.total()} targets"
        return [Verdict(one.key, Standing.UNDECIDED, group, one.fingerprint, why=why) for one in members]
    example = named or next((one for one in members if one.fingerprint.digest == right), None)
    if example is None:
        return []
    common = roles.common(one.roles for one in members)
    if digests.total() == 1:
        why = "no other target is at its revision, on a server of its kind and version"
        return [Verdict(members[0].key, Standing.ALONE, group, members[0].fingerprint, why=why)]
    return [
        Verdict(
            one.key,
            Standing.EQUAL if one.fingerprint.digest == right else Standing.DRIFTED,
            group,
            one.fingerprint,
            example.key,
            common=common,
        )
        for one in members
    ]


def apart(verdicts: Iterable[Verdict], tenant: str, reference: str) -> tuple[Group | None, Group | None] | None:
    """What the two are, on the first track on which they could be read and are not to be compared with each other;
    None where there is none."""
    found = {one.key: one for one in verdicts if one.standing is not Standing.UNREAD}
    for key, one in sorted(found.items()):
        other = found.get(TargetKey(reference, key.track))
        if key.tenant == tenant and other is not None and (one.group is None or one.group != other.group):
            return one.group, other.group
    return None


def _named(members: Sequence[Seen], reference: str | None) -> Seen | None:
    return next((one for one in members if one.key.tenant == reference), None)


def _majority(digests: Counter[str]) -> str | None:
    """What more than half of them have; None where there is no such half."""
    [(digest, count)] = digests.most_common(1)
    return digest if 2 * count > digests.total() else None


def sums(verdicts: Iterable[Verdict]) -> dict[Standing, int]:
    """How many there are of each standing, all of them named."""
    counts = Counter(verdict.standing for verdict in verdicts)
    return {standing: counts[standing] for standing in Standing}
