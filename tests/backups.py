"""What tests of backups have in common: a strategy that takes them, and what lies in the directory afterwards."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.registry.model import Registry, Strategy, Wave
from orchestrator.registry.precautions import Backup
from tests.engine import Engine

STRATEGY = "careful"


def strategies(backup: Backup | None) -> dict[str, Strategy]:
    return {STRATEGY: Strategy(STRATEGY, waves=(Wave("everyone", backup=backup),))}


def with_backup(registry: Registry, backup: Backup | None) -> Registry:
    return Registry(
        registry.source, registry.digest, registry.tracks, registry.shards, registry.targets, strategies(backup)
    )


@dataclass(frozen=True)
class Found:
    """A whole backup as it lies in the directory."""

    file: Path
    about: dict[str, Any]


def whole(directory: Path) -> list[Found]:
    """All whole backups, the oldest first; a partial one is a failure of the test."""
    assert list(directory.rglob(".partial-*")) == []
    found = [(path.parent, json.loads(path.read_text())) for path in directory.rglob("about.json")]
    return [Found(folder / about["file"], about) for folder, about in sorted(found, key=lambda one: one[0].name)]


def commands(line: str | None = None) -> list[str]:
    """The command lines of all processes, or those that are exactly `line`; zombies have none."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.append(process.read_bytes().replace(b"\0", b" ").decode(errors="replace").strip())
    return found if line is None else [one for one in found if one == line]


async def failure(running: Engine, **fields: Any) -> Any:
    """Roll out to one target, which fails; the failure."""
    view = await running.rollout(strategy=STRATEGY, **fields)
    (migration,) = (await running.migrations(view)).values()
    assert migration.failure is not None, view.counts
    return migration.failure
