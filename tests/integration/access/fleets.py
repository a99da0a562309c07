"""Rollouts over SQLite files that a gate holds."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.engine import make_url

from orchestrator.registry.model import Registry, Shard, Strategy, Target, Wave
from tests import engine, environments


def gated(folder: Path, targets: int = 2, revisions: str = "alpha") -> Registry:
    """Strategy `gated` waits for approval before its first wave, and wants another pair of eyes."""
    config = environments.make_project(folder / "project")
    environments.add_tables(folder / "project", [revisions])
    files = [f"t{number}.db" for number in range(targets)]
    for name in files:
        (folder / name).touch()
    strategies = {"gated": Strategy("gated", waves=(Wave("everyone"),), approval=True, four_eyes=True)}
    listed = [Target(name.removesuffix(".db"), "app", "files", name) for name in files]
    shards = [Shard("files", make_url("sqlite://"))]
    return engine.registry_of([environments.track_of(config)], shards, listed, strategies=strategies, folder=folder)


ASKED = {"track": "app", "to": "head", "strategy": "gated"}
