"""For which rollout a target is migrated, and who is told of what happens on the way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from orchestrator.events import MigrationEvent


@dataclass(frozen=True, slots=True)
class Occasion:
    """`strategy` and `wave` are names, looked up in the registry when they are needed. `record` makes an event durable
    in the rollout's stream, then tells of it.

    `backs_up`: the wave wanted backups when the rollout was made. `changed`: an attempt before may have changed the
    target. `turn` is the same for the attempts that follow each other without a person between them.
    """

    rollout: str
    strategy: str
    wave: str
    record: Callable[[MigrationEvent], Awaitable[None]]
    backs_up: bool = True
    changed: bool = False
    turn: object = None
