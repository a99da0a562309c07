"""What telling needs of the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

from orchestrator.notify.notices import Delivery, Stream

State = Literal["pending", "delivered", "dead"]
STATES: tuple[State, ...] = ("pending", "delivered", "dead")

# From a stream to what is to be told of it, and the rollout's state after it.
Compose = Callable[[Stream], tuple[Sequence[Delivery], str]]


@dataclass(frozen=True, slots=True)
class Kept:
    """A delivery as it is kept: `error` is why the last attempt failed, `next_at` when it is tried again. `number`
    grows with each that is made."""

    number: int
    delivery: Delivery
    state: State
    created_at: datetime
    next_at: datetime | None
    finished_at: datetime | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Gathered:
    """How many deliveries were added, those that there was no room for, and whether there is more to be looked at."""

    added: int = 0
    dropped: Sequence[Delivery] = ()
    more: bool = False


class Outbox(Protocol):
    """Deliveries that survive a restart. Everything raises StoreError."""

    async def gather(self, compose: Compose, now: datetime) -> Gathered:
        """Look at what is new in the rollouts' streams, add what follows from it, and remember how far that was: all in
        one transaction, so that nothing is missed or added twice, whoever is killed when."""
        ...

    async def add(self, deliveries: Sequence[Delivery], now: datetime) -> Gathered:
        """Add deliveries that no stream tells of; those that are there already stay as they are."""
        ...

    async def due(self, now: datetime) -> Sequence[str]:
        """The channels that have something to be sent now."""
        ...

    async def claim(self, channel: str, now: datetime, until: datetime) -> Delivery | None:
        """Begin an attempt with the oldest that is due: nobody else begins one before `until`."""
        ...

    async def delivered(self, delivery: Delivery, now: datetime) -> None: ...

    async def failed(self, delivery: Delivery, error: str, now: datetime, again_at: datetime | None) -> None:
        """The attempt has failed; without `again_at` it was the last one."""
        ...

    async def abandon(self, channels: Sequence[str], error: str, now: datetime) -> int:
        """What waits for other channels than these is dead."""
        ...

    async def forget(self, now: datetime) -> None:
        """Let go of what is long over."""
        ...


class Ended(Protocol):
    """How a program ended, and the end of what it said."""

    @property
    def code(self) -> int: ...

    @property
    def said(self) -> Sequence[str]: ...


class Run(Protocol):
    """Runs a program with this environment alone; cancelled, its whole process group is ended. Raises OSError."""

    async def __call__(
        self, command: Sequence[str | Path], environment: Mapping[str, str], *, descriptors: Sequence[int] = ()
    ) -> Ended: ...
