"""What has become of migrations that were cut short and are not tried again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import anyio
import structlog

from orchestrator.backfill.model import Progress
from orchestrator.backfill.records import Record
from orchestrator.errors import OrchestratorError, TargetError, TargetLockedError
from orchestrator.execute.backfilling import Throttle
from orchestrator.execute.frozen import find_target
from orchestrator.execute.migrate import Migrator
from orchestrator.execute.slots import Slots
from orchestrator.execute.survey import BESIDE_ROLLOUTS
from orchestrator.history.revisions import History
from orchestrator.registry.model import Registry, TargetKey
from orchestrator.rollout.ports import Aftermath
from orchestrator.rollout.state import Migration

SECONDS = 15.0
# What a killed run has left may hold a target's lock for a moment more.
AGAIN_SECONDS = 0.5

log = structlog.get_logger(__name__)


class LookBack:
    """Reads heads under the targets' locks, and tells of backfills that have ended. `slots`: shared with whoever else
    looks beside rollouts."""

    def __init__(self, migrator: Migrator, slots: Slots, throttle: Throttle) -> None:
        self._migrator, self._slots, self._throttle = migrator, slots, throttle

    async def read(
        self, registry: Registry, histories: Mapping[str, History], migrations: Sequence[Migration]
    ) -> Sequence[Aftermath]:
        """One for each, in their order, after so many seconds at most. Raises StoreError."""
        found: dict[TargetKey, Aftermath] = {}

        async def one(migration: Migration) -> None:
            shard = registry.shards.get(migration.shard)
            limit = max(1, int(shard.max_concurrent * BESIDE_ROLLOUTS)) if shard is not None else 1
            async with self._slots.slot(migration.shard, limit):
                while True:
                    try:
                        found[migration.key] = await self._one(registry, histories[migration.track], migration)
                        return
                    except TargetLockedError as exc:
                        found[migration.key] = Aftermath(problem=exc.message)
                        await anyio.sleep(AGAIN_SECONDS)

        with anyio.move_on_after(SECONDS):
            async with anyio.create_task_group() as tasks:
                for migration in migrations:
                    tasks.start_soon(one, migration)
        if any(it.rows is not None for it in found.values()):
            await self._throttle.kept()
        late = Aftermath(problem=f"its server did not answer within {SECONDS:g} s")
        return [found.get(migration.key, late) for migration in migrations]

    async def _one(self, registry: Registry, history: History, migration: Migration) -> Aftermath:
        """Raises TargetLockedError and StoreError."""
        ended: list[int] = []

        def on_finished(record: Record, progress: Progress) -> None:
            ended.append(progress.changed)
            self._throttle.found_finished(record, progress)

        try:
            target = find_target(registry, migration)
            left = partial(self._throttle.left, migration.rollout, target)
            heads = await self._migrator.look_back(registry, target, history, left, on_finished)
            return Aftermath(heads, rows=sum(ended) if ended else None)
        except TargetLockedError:
            raise
        except TargetError as exc:
            return Aftermath(problem=exc.message)
        except OrchestratorError:
            raise  # the store: without it nothing may go on
        except Exception as exc:  # one database's surprise is not the daemon's end
            log.exception(
                "reading_heads_crashed", tenant=migration.tenant, track=migration.track, shard=migration.shard
            )
            return Aftermath(problem=f"the orchestrator failed to read it: {type(exc).__name__}: {exc}")
