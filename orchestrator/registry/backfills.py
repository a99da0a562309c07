"""How backfills on a shard are throttled, as values: size and pace of their batches, and what holds them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from orchestrator.registry.times import Window

if TYPE_CHECKING:
    from orchestrator.registry.model import Check

Unit = Literal["seconds", "bytes", "count", "switch"]

PROBE = "probe:"
# What a replica of MySQL or MariaDB is asked for its lag: it is the server that is asked, not a database.
OF_REPLICA = re.compile(r"\s*SHOW\s+(ALL\s+)?(REPLICAS?|SLAVES?)\s+STATUS\s*;?\s*", re.IGNORECASE)
# At this part of `above`, where the file does not say otherwise, backfills that were held go on.
RELEASE = 0.8
# A switch is 0 or 1; so is what an answer must be that is no number: 1 where it is not as it must be.
HALF = 0.5

_POSTGRESQL = frozenset({"postgresql"})
_MYSQL = frozenset({"mysql", "mariadb"})


@dataclass(frozen=True, slots=True)
class Threshold:
    """Backfills are held while a signal is above `above`, and go on when it is at `below` or less."""

    above: float
    below: float

    @classmethod
    def over(cls, above: float) -> Threshold:
        """
        >>> Threshold.over(5.0)
        Threshold(above=5.0, below=4.0)
        """
        return cls(above, above * RELEASE if above > 0 else above)


@dataclass(frozen=True, slots=True)
class Signal:
    """Something that a server tells of how it is. `above` is the default; None: it holds nothing unless the file says
    so. `of_table`: it is told of the table that a backfill changes, not of the server. `what`: for messages."""

    what: str
    unit: Unit
    dialects: frozenset[str]
    above: float | None
    of_table: bool = False


SIGNALS: Mapping[str, Signal] = MappingProxyType(
    {
        # As Vitess' tablet throttler has it.
        "replication_lag": Signal("the replication lag", "seconds", _POSTGRESQL, 5.0),
        # A slot that nobody reads any more has no lag in seconds, and fills the disk.
        "replication_lag_bytes": Signal("WAL that replicas or slots lack", "bytes", _POSTGRESQL, float(1 << 30)),
        "active_sessions": Signal("active sessions", "count", _POSTGRESQL, 100.0),
        "blocked_sessions": Signal("sessions that wait for a lock", "count", _POSTGRESQL, 10.0),
        # What is older keeps vacuum from all that backfills leave behind.
        "long_transactions": Signal("the age of the oldest transaction", "seconds", _POSTGRESQL, 3600.0),
        # As GitLab's batched background migrations have it.
        "wal_waiting": Signal("WAL segments that wait to be archived", "count", _POSTGRESQL, 42.0),
        "dead_rows": Signal("dead rows of the table", "count", _POSTGRESQL, 1_000_000.0, of_table=True),
        # Off: on a large table a vacuum takes hours, and `dead_rows` tells whether it keeps up.
        "autovacuum": Signal("autovacuum on the table", "switch", _POSTGRESQL, None, of_table=True),
        "threads_running": Signal("Threads_running", "count", _MYSQL, 100.0),
        "replica_lag": Signal("the replica lag", "seconds", _MYSQL, 5.0),
        "history_list": Signal("the history list length", "count", _MYSQL, 1_000_000.0),
    }
)
DEFAULT_THRESHOLDS: Mapping[str, Threshold] = MappingProxyType(
    {name: Threshold.over(signal.above) for name, signal in SIGNALS.items() if signal.above is not None}
)


@dataclass(frozen=True, slots=True)
class ProbeSignal:
    """A question whose answer holds backfills.

    `check` says how to ask and how often (`every_seconds`); its limits are not meant. What comes back is a number that
    is held against `threshold`, of several the largest. `is_number` False: it must be true, or the endpoint must answer
    as `check` says; the reading is then 1 where it is not so, and 0 where it is. SQL without `check.shard` is asked of
    the shard whose backfills are held, and without `check.database` of any database there.
    """

    check: Check
    threshold: Threshold
    is_number: bool = True

    @property
    def name(self) -> str:
        """As readings, thresholds and holds call it."""
        return f"{PROBE}{self.check.name}"


@dataclass(frozen=True, slots=True)
class Rules:
    """What the backfills on a shard must keep to.

    `rows_per_second`: shared by all of them; None: no budget. Batches are sized to last `target_seconds`, within
    `smallest` and `largest` rows; `batch_size`: so many, whatever they last. `duty`: the part of the time in which a
    backfill's batches run; 1 is without pauses. `deadline_seconds`: held for longer, its rollout pauses. `hours`: all
    of these must be open, whatever they select. `thresholds` by name of signal; one that is not named holds nothing.
    """

    rows_per_second: float | None = None
    target_seconds: float = 0.5
    smallest: int = 10
    largest: int = 50_000
    batch_size: int | None = None
    duty: float = 1.0
    deadline_seconds: float = 3600.0
    hours: tuple[Window, ...] = ()
    thresholds: Mapping[str, Threshold] = field(default_factory=lambda: dict(DEFAULT_THRESHOLDS))
    probes: tuple[ProbeSignal, ...] = ()


DEFAULT_RULES = Rules()
