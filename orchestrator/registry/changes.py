"""What is different between one registry and the next, in events. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from orchestrator.events import Event, SourceRecovered, SourceStale, TargetsVanished, TenantsIgnored
from orchestrator.registry.discovery import Source, Sources
from orchestrator.registry.model import Registry

EXAMPLES = 20


class Changes(NamedTuple):
    """Numbers of targets that came and went, and what is to be told."""

    appeared: int
    vanished: int
    events: tuple[Event, ...]


def between(before: Registry | None, held: Sources, after: Registry, sources: Sources) -> Changes:
    """What a merge has changed; `held` are the sources before it. The first registry has nothing but its sources."""
    told = [event for name, source in sources.items() for event in _of_source(held.get(name), source)]
    if before is None or before.digest == after.digest:
        return Changes(0, 0, tuple(told))
    gone: dict[str, list[str]] = defaultdict(list)
    for key in before.by_key.keys() - after.by_key.keys():
        gone[before.by_key[key].source].append(str(key))
    told += [
        TargetsVanished(source=source, count=len(names), examples=tuple(sorted(names)[:EXAMPLES]))
        for source, names in gone.items()
    ]
    appeared = len(after.by_key.keys() - before.by_key.keys())
    return Changes(appeared, sum(map(len, gone.values())), tuple(told))


def _of_source(before: Source | None, after: Source) -> Iterator[Event]:
    was_stale = before is not None and before.stale_since is not None
    if after.stale_since is not None and not was_stale:
        yield SourceStale(source=after.name, reason=after.reason or "", targets=after.targets)
    if after.stale_since is None and before is not None and before.stale_since is not None:
        seconds = ((after.refreshed_at or before.stale_since) - before.stale_since).total_seconds()
        yield SourceRecovered(source=after.name, targets=after.targets, seconds=round(seconds, 3))
    if after.ignored and (before is None or before.ignored != after.ignored):
        yield TenantsIgnored(source=after.name, count=len(after.ignored), examples=after.ignored[:EXAMPLES])
