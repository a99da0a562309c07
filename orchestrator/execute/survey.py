"""Read the heads of many targets: bounded per shard, in bounded time, whatever the servers do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import anyio
import structlog

from orchestrator.errors import OrchestratorError, TargetError, TargetUnreachableError
from orchestrator.execute.classify import is_server_down
from orchestrator.execute.migrate import Migrator
from orchestrator.execute.slots import Slots
from orchestrator.registry.model import Heads, Registry, Target, TargetKey

log = structlog.get_logger(__name__)

Found = Callable[[Target, Heads | None, TargetError | None], None]
IsKnown = Callable[[Target], bool]


class ShardHealth:
    """Notices that a server is down, so that its other targets need not each wait for a time-out."""

    def __init__(self, patience: int = 3) -> None:
        self._patience, self._failures = patience, 0
        self.reason: TargetError | None = None

    def note(self, exc: TargetError | None) -> None:
        """Take account of one target's result; any that is not the server's fault clears the suspicion."""
        if exc is None or not is_server_down(exc):
            self._failures, self.reason = 0, None
            return
        self._failures += 1
        if self._failures >= self._patience:
            self.reason = exc


# Part of a shard's limit that looking may use beside what migrates there.
BESIDE_ROLLOUTS = 0.25


class Surveyor:
    """Reads heads with slots of its own, so that a server full of long migrations can still be looked at."""

    def __init__(self, migrator: Migrator, total: int) -> None:
        self._migrator, self._slots = migrator, Slots(total)

    @property
    def slots(self) -> Slots:
        """For whoever else looks beside rollouts: they share what a shard has for that."""
        return self._slots

    async def read(
        self,
        registry: Registry,
        targets: Iterable[Target],
        found: Found,
        *,
        seconds: float,
        part: float = 1.0,
        is_known: IsKnown = lambda target: False,
    ) -> None:
        """Call `found` for each target with its heads (None: no version table) or the error.

        At most `part` of each shard's limit is read at once. A target that `is_known` when its turn comes is passed
        over. After `seconds` the rest is given up without a call.
        """
        with anyio.move_on_after(seconds):
            async with anyio.create_task_group() as tasks:
                for shard, members in by_shard(targets).items():
                    limit = max(1, int(registry.shards[shard].max_concurrent * part))
                    tasks.start_soon(self._read_shard, registry, limit, members, found, is_known)

    async def _read_shard(
        self, registry: Registry, limit: int, members: Sequence[Target], found: Found, is_known: IsKnown
    ) -> None:
        health = ShardHealth()
        waiting = iter(by_database(members))
        async with anyio.create_task_group() as tasks:
            for _ in range(min(limit, len(members))):
                tasks.start_soon(self._read_some, registry, limit, waiting, health, found, is_known)

    async def _read_some(
        self,
        registry: Registry,
        limit: int,
        waiting: Iterator[Sequence[Target]],
        health: ShardHealth,
        found: Found,
        is_known: IsKnown,
    ) -> None:
        for together in waiting:
            if health.reason is not None:
                for target in together:
                    if not is_known(target):
                        found(target, None, health.reason)
                continue
            async with self._slots.slot(together[0].shard, limit):
                wanted = [target for target in together if not is_known(target)]  # by now
                if wanted:
                    await self._read_database(registry, wanted, health, found)

    async def _read_database(
        self, registry: Registry, targets: Sequence[Target], health: ShardHealth, found: Found
    ) -> None:
        """One session for all targets in a database; each is told of once, however it ends."""
        told: set[TargetKey] = set()

        def tell(target: Target, heads: Heads | None, exc: TargetError | None) -> None:
            health.note(exc)
            found(target, heads, exc)
            told.add(target.key)  # not before: who cannot make anything of it must not lose the target

        try:
            if len(targets) == 1:
                tell(targets[0], await self._migrator.read_heads(registry, targets[0]), None)
            else:
                await self._migrator.read_many(registry, targets, tell)
        except TargetError as exc:
            failed = exc
        except OrchestratorError:
            raise
        except Exception as exc:  # one database's surprise is not the daemon's end
            first = targets[0]
            log.exception("reading_heads_crashed", tenant=first.tenant, track=first.track, shard=first.shard)
            failed = _bug(exc)
        else:
            return
        health.note(failed)
        for target in targets:
            if target.key not in told:
                found(target, None, failed)


def _bug(exc: Exception) -> TargetUnreachableError:
    return TargetUnreachableError(
        f"the orchestrator failed to read the version table: {type(exc).__name__}: {exc}",
        kind="bug",
        remedy="this is a bug: please report it with the daemon's log",
    )


def by_database(targets: Iterable[Target]) -> Iterable[Sequence[Target]]:
    groups: dict[str, list[Target]] = defaultdict(list)
    for target in targets:
        groups[target.database].append(target)
    return groups.values()


def by_shard(targets: Iterable[Target]) -> Mapping[str, Sequence[Target]]:
    groups: dict[str, list[Target]] = defaultdict(list)
    for target in targets:
        groups[target.shard].append(target)
    return groups
