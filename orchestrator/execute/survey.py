"""Read the heads of many targets: bounded per shard, in bounded time, whatever the servers do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import anyio
import structlog

from orchestrator.errors import OrchestratorError, TargetError, TargetUnreachableError
from orchestrator.execute.classify import is_server_down
from orchestrator.execute.migrate import Heads, Migrator
from orchestrator.execute.slots import Slots
from orchestrator.registry.model import Registry, Target

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
        waiting = iter(members)
        async with anyio.create_task_group() as tasks:
            for _ in range(min(limit, len(members))):
                tasks.start_soon(self._read_some, registry, limit, waiting, health, found, is_known)

    async def _read_some(
        self,
        registry: Registry,
        limit: int,
        waiting: Iterator[Target],
        health: ShardHealth,
        found: Found,
        is_known: IsKnown,
    ) -> None:
        for target in waiting:
            if is_known(target):
                continue
            if health.reason is not None:
                found(target, None, health.reason)
                continue
            try:
                async with self._slots.slot(target.shard, limit):
                    if is_known(target):  # by now
                        continue
                    heads = await self._migrator.read_heads(registry, target)
            except TargetError as exc:
                health.note(exc)
                found(target, None, exc)
            except OrchestratorError:
                raise
            except Exception as exc:  # one target's surprise is not the daemon's end
                log.exception("reading_heads_crashed", tenant=target.tenant, track=target.track, shard=target.shard)
                health.note(None)
                found(target, None, _bug(exc))
            else:
                health.note(None)
                found(target, heads, None)


def _bug(exc: Exception) -> TargetUnreachableError:
    return TargetUnreachableError(
        f"the orchestrator failed to read the version table: {type(exc).__name__}: {exc}",
        kind="bug",
        remedy="this is a bug: please report it with the daemon's log",
    )


def by_shard(targets: Iterable[Target]) -> Mapping[str, Sequence[Target]]:
    groups: dict[str, list[Target]] = defaultdict(list)
    for target in targets:
        groups[target.shard].append(target)
    return groups
