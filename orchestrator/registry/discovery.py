"""Tenants found at run time: from what the sources answer to one registry. Pure; who asks them implements `Lookup`.

A source's answer counts as a whole or not at all. What was good stays until something better comes: a source that
fails, contradicts others, or has lost most of its tenants at once is *stale*, and its last good answer is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple, Protocol

from orchestrator.errors import DiscoveryError
from orchestrator.registry import digests
from orchestrator.registry.answers import Reading, Row, read
from orchestrator.registry.model import FILE, Discovery, Registry, Target
from orchestrator.registry.places import identity

RELOAD = "if that is right, reload the registry (SIGHUP, or POST /api/v1/registry/reload)"


class Lookup(Protocol):
    """Asks a source."""

    async def ask(self, registry: Registry, discovery: Discovery) -> Sequence[Row]:
        """Its answer: names (`database` or `schema`) for a pattern, else rows as they came. Raises DiscoveryError."""
        ...


@dataclass(frozen=True, slots=True)
class Source:
    """A `discover` entry with what is held of it. `rows` None: it has not answered yet.

    `stale_since` and `reason`: when and why it gave no good answer; both None while all is well. `targets` of it are
    in the registry; `ignored` says what it names that cannot be a tenant.
    """

    discovery: Discovery
    rows: Sequence[Row] | None = field(default=None, repr=False)
    refreshed_at: datetime | None = None
    stale_since: datetime | None = None
    reason: str | None = None
    targets: int = 0
    ignored: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.discovery.name


Sources = Mapping[str, Source]
Looked = Mapping[str, Sequence[Row] | DiscoveryError]


class Merged(NamedTuple):
    registry: Registry
    sources: Sources


def merge(
    file: Registry, before: Registry | None, held: Sources, looked: Looked, *, now: datetime, trusting: bool
) -> Merged:
    """The file's tenants and the sources', as one registry.

    `before` is the running registry: a tenant that two sources name stays with the one that has it there. `looked`
    holds the new answers. With `trusting`, an answer is taken also when most of its tenants are gone.
    """
    sides = [_side(entry, file, held.get(entry.name), looked.get(entry.name), trusting) for entry in file.discoveries]
    claims = _Claims(file)
    claims.reserve(before.targets if before else (), sides)
    targets = [target for side in sides for target in side.settle(claims)]
    sources = {side.entry.name: side.source(now) for side in sides}
    unanswered = tuple(name for name, source in sources.items() if source.rows is None)
    if not sides:
        return Merged(file, sources)
    digest = digests.of(file.digest, sorted(targets, key=lambda target: target.key), unanswered)
    merged = replace(file, digest=digest, targets=(*file.targets, *targets), unanswered=unanswered)
    return Merged(merged, sources)


@dataclass
class _Side:
    """One source in the course of a merge; `fresh` are the rows of a new answer that stands so far."""

    entry: Discovery
    file: Registry
    held: Source
    fresh: Sequence[Row] | None
    refusal: str | None
    reading: Reading
    kept: int = 0

    def settle(self, claims: _Claims) -> list[Target]:
        """The targets that become part of the registry."""
        if self.fresh is not None and (clash := claims.first_clash(self.reading.targets)):
            self.fresh, self.refusal = None, clash
            self.reading = read(self.entry, self.file, self.held.rows or ())
        kept = []
        for target in self.reading.targets:
            if clash := claims.clash(target):  # the file has come to name it as well, say
                self.refusal = self.refusal or clash
            else:
                kept.append(target)
        claims.take(kept)
        self.kept = len(kept)
        return kept

    def source(self, now: datetime) -> Source:
        if self.fresh is not None:
            return Source(self.entry, self.fresh, now, targets=self.kept, ignored=self.reading.ignored)
        source = replace(self.held, discovery=self.entry, targets=self.kept, ignored=self.reading.ignored)
        if self.refusal is None:
            return source
        return replace(source, stale_since=source.stale_since or now, reason=self.refusal)


def _side(
    entry: Discovery,
    file: Registry,
    held: Source | None,
    looked: Sequence[Row] | DiscoveryError | None,
    trusting: bool,
) -> _Side:
    if held is None or held.discovery.asked != entry.asked:
        held = Source(entry)
    if looked is None or isinstance(looked, DiscoveryError):
        return _Side(entry, file, held, None, str(looked) if looked else None, read(entry, file, held.rows or ()))
    reading = read(entry, file, looked)
    refusal = reading.twice or _nothing_usable(reading)
    if refusal is None and not trusting:
        refusal = _suspicious(entry, file, held, reading)
    if refusal is not None:
        return _Side(entry, file, held, None, refusal, read(entry, file, held.rows or ()))
    return _Side(entry, file, held, looked, None, reading)


def _nothing_usable(reading: Reading) -> str | None:
    if reading.targets or not reading.ignored:
        return None
    return f"nothing it names can be a tenant, {len(reading.ignored):,} in all: {reading.ignored[0]}"


def _suspicious(entry: Discovery, file: Registry, held: Source, reading: Reading) -> str | None:
    """A source that suddenly names less than half of its tenants is rather broken (an empty table, a lost mount, a
    grant that is gone) than right, and believing it would leave tenants out."""
    if held.rows is None or 2 * len(reading.targets) >= held.targets:
        return None
    before = len(read(entry, file, held.rows).targets)  # by the entry as it is now, which may leave out more
    if 2 * len(reading.targets) >= before:
        return None
    return f"it names {len(reading.targets):,} targets, where it named {before:,} just before; {RELOAD}"


class _Claims:
    """Who has which tenant, and which place."""

    def __init__(self, file: Registry) -> None:
        self._shards = file.shards
        self._owners: dict[tuple[str, ...], Target] = {}
        self.take(file.targets)

    def reserve(self, running: Sequence[Target], sides: Sequence[_Side]) -> None:
        """Let the sources keep what is theirs in the running registry, as far as they still name it."""
        named = {side.entry.name: {target.key: target for target in side.reading.targets} for side in sides}
        for target in running:
            if (again := named.get(target.source, {}).get(target.key)) is not None:
                for claim in self._claims(again):
                    self._owners.setdefault(claim, again)

    def take(self, targets: Sequence[Target]) -> None:
        self._owners.update((claim, target) for target in targets for claim in self._claims(target))

    def first_clash(self, targets: Sequence[Target]) -> str | None:
        return next((clash for target in targets if (clash := self.clash(target))), None)

    def clash(self, target: Target) -> str | None:
        """What keeps the target from being taken, naming both who want it."""
        for claim in self._claims(target):
            owner = self._owners.get(claim)
            if owner is not None and owner.source != target.source:
                return _in_words(target, owner)
        return None

    def _claims(self, target: Target) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return ("tenant", *target.key), ("place", *identity(target, self._shards[target.shard]))


def _in_words(target: Target, owner: Target) -> str:
    other = "the registry file" if owner.source == FILE else f"source {owner.source!r}"
    if target.key == owner.key:
        return (
            f"tenant {target.tenant!r} (track {target.track!r}) is named by source {target.source!r} and by {other}: "
            "`exclude` it from one of them"
        )
    return (
        f"source {target.source!r} finds {target.key} where {other} has {owner.key}, and they would share a version "
        "table: `exclude` one of them, or give the track a `version_table` with {tenant} in it"
    )
