"""Reads the schemas of many targets and tells which differ: bounded per shard and in memory, whatever the servers do.

Of a schema only its digest is kept. The lines of the targets that differ, and of those that they should be like, are
read a second time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from typing import Protocol

import anyio
import anyio.to_thread
import structlog

from orchestrator.errors import OrchestratorError, TargetError, TargetUnreachableError
from orchestrator.execute.slots import Slots
from orchestrator.execute.survey import BESIDE_ROLLOUTS, ShardHealth, by_shard
from orchestrator.plan import catalog as catalogs
from orchestrator.plan import drift, drifted_lines
from orchestrator.plan.catalog import Catalog, Line
from orchestrator.plan.drift import Group, Seen, Standing, Verdict
from orchestrator.plan.drifted_lines import Difference
from orchestrator.registry.model import Registry, Target, TargetKey

log = structlog.get_logger(__name__)

# Catalogs in memory at once, on all shards together: one of 500 tables takes some 5 MB.
AT_ONCE = 8

Found = Callable[[Target, Catalog | TargetError], Awaitable[None]]


class Reader(Protocol):
    """`Migrator`, as far as it is needed here."""

    async def catalog(self, registry: Registry, target: Target) -> Catalog:
        """Raises TargetError."""
        ...


class Comparer:
    """`slots` are shared with whoever else looks beside rollouts."""

    def __init__(self, reader: Reader, slots: Slots) -> None:
        self._reader, self._slots = reader, slots
        self._room = anyio.CapacityLimiter(AT_ONCE)

    async def judge(self, registry: Registry, targets: Iterable[Target], reference: str | None = None) -> list[Verdict]:
        """A verdict on each target, in the order of tenants. `reference` names the tenant that is right."""
        seen: dict[TargetKey, Seen] = {}
        unread: list[Verdict] = []
        common: dict[Group | None, frozenset[str]] = {}

        async def found(target: Target, read: Catalog | TargetError) -> None:
            seen.pop(target.key, None)
            if isinstance(read, TargetError):
                unread.append(Verdict(target.key, Standing.UNREAD, why=read.message))
                return
            ignore, group = registry.tracks[target.track].drift.ignore, drift.group_of(target.track, read)
            known = common.get(group, frozenset())
            printed = await anyio.to_thread.run_sync(_printed, read, known, ignore)
            seen[target.key] = Seen(target.key, group, printed, read.roles, read.owned - known)

        await self._read(registry, targets, found)
        # A role that most have is no tenant's own, whatever that one is called: where it was taken for one, look again.
        common |= drift.common_roles(seen.values())
        mistaken = [one.key for one in seen.values() if not one.doubtful.isdisjoint(common[one.group])]
        await self._read(registry, _known(registry, mistaken), found)
        return sorted([*drift.judge(seen.values(), reference), *unread], key=lambda verdict: verdict.key)

    async def differences(
        self, registry: Registry, verdicts: Iterable[Verdict], most: int
    ) -> dict[TargetKey, Difference]:
        """By target, what each drifted one has and its reference has not, and the other way round: the first `most`
        lines. Left out are targets that cannot be read again, have left their group since, or differ no more."""
        by_reference: dict[TargetKey, list[Verdict]] = {}
        for verdict in verdicts:
            if verdict.standing is Standing.DRIFTED:
                assert verdict.reference is not None
                by_reference.setdefault(verdict.reference, []).append(verdict)
        made: dict[TargetKey, Difference] = {}
        for reference, members in by_reference.items():
            made |= await self._against(registry, reference, members, most)
        return made

    async def _against(
        self, registry: Registry, reference: TargetKey, members: Sequence[Verdict], most: int
    ) -> dict[TargetKey, Difference]:
        """The same of targets that have one reference, and so one group."""
        group, common = members[0].group, members[0].common
        right: list[Line] = []
        made: dict[TargetKey, Difference] = {}

        async def of_reference(target: Target, read: Catalog | TargetError) -> None:
            if isinstance(read, Catalog) and drift.group_of(target.track, read) == group:
                ignore = registry.tracks[target.track].drift.ignore
                right.extend(await anyio.to_thread.run_sync(_told, read, common, ignore))

        async def of_member(target: Target, read: Catalog | TargetError) -> None:
            if isinstance(read, Catalog) and drift.group_of(target.track, read) == group:
                ignore = registry.tracks[target.track].drift.ignore
                found = await anyio.to_thread.run_sync(_different, right, read, common, ignore, most)
                if found.total:
                    made[target.key] = found

        await self._read(registry, _known(registry, [reference]), of_reference)
        if right:
            await self._read(registry, _known(registry, [one.key for one in members]), of_member)
        return made

    async def _read(self, registry: Registry, targets: Iterable[Target], found: Found) -> None:
        """Call `found` for each target, with a quarter of each shard's limit at most."""
        async with anyio.create_task_group() as tasks:
            for shard, members in by_shard(targets).items():
                limit = max(1, int(registry.shards[shard].max_concurrent * BESIDE_ROLLOUTS))
                health, waiting = ShardHealth(), iter(members)
                for _ in range(min(limit, len(members))):
                    tasks.start_soon(self._read_some, registry, limit, waiting, health, found)

    async def _read_some(
        self, registry: Registry, limit: int, waiting: Iterator[Target], health: ShardHealth, found: Found
    ) -> None:
        for target in waiting:
            if health.reason is not None:
                await found(target, health.reason)
                continue
            # Room first: nobody keeps a shard's slot, which heads are read with as well, while waiting for it.
            async with self._room, self._slots.slot(target.shard, limit):
                read = await self._one(registry, target)
                health.note(read if isinstance(read, TargetError) else None)
                await found(target, read)

    async def _one(self, registry: Registry, target: Target) -> Catalog | TargetError:
        try:
            return await self._reader.catalog(registry, target)
        except TargetError as exc:
            return exc
        except OrchestratorError:
            raise
        except Exception as exc:  # one database's surprise is not the daemon's end
            log.exception("comparing_crashed", tenant=target.tenant, track=target.track, shard=target.shard)
            return TargetUnreachableError(
                f"the orchestrator failed to read the schema: {type(exc).__name__}: {exc}",
                kind="bug",
                remedy="this is a bug: please report it with the daemon's log",
            )


def _known(registry: Registry, keys: Iterable[TargetKey]) -> list[Target]:
    return [registry.by_key[key] for key in keys if key in registry.by_key]


def _told(read: Catalog, common: Collection[str], ignore: Sequence[str]) -> list[Line]:
    return catalogs.without(read.told(common), ignore)


def _printed(read: Catalog, common: Collection[str], ignore: Sequence[str]) -> catalogs.Fingerprint:
    return catalogs.fingerprint(_told(read, common, ignore))


def _different(
    right: Sequence[Line], read: Catalog, common: Collection[str], ignore: Sequence[str], most: int
) -> Difference:
    return drifted_lines.difference(right, _told(read, common, ignore), most)
