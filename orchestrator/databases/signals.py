"""What a server tells of its load, read again and again in one short session while backfills run there."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

# Names of signals: PostgreSQL's, then those of MySQL and MariaDB.
LAG_SECONDS = "replication_lag"
LAG_BYTES = "replication_lag_bytes"
ACTIVE = "active_sessions"
BLOCKED = "blocked_sessions"
OLDEST = "long_transactions"
ARCHIVE = "wal_waiting"
THREADS = "threads_running"
REPLICAS = "replica_lag"
HISTORY = "history_list"

SESSION = "orchestrator signals"
# One question takes at most so long; connecting and the check for a pooler as well.
ASK_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read of one signal. `said` tells whose it is (which standby, which session), or, where `value` is None,
    why it cannot be read and what to do."""

    signal: str
    value: float | None
    said: str = ""


class Signals(Protocol):
    """A session that reads signals."""

    async def read(self, wanted: Collection[str], databases: Collection[str]) -> Sequence[Reading]:
        """One reading for each signal that is wanted; one that cannot be read does not keep the others from it.

        `databases`: where backfills run; only there do others' transactions count. Raises TargetUnreachableError when
        the session is of no more use.
        """
        ...


def unknown(signal: str, kind: str) -> str:
    """Why a kind of database has no reading of a signal, with what to do.

    >>> unknown("weather", "PostgreSQL")
    'PostgreSQL tells nothing of weather: take its threshold away'
    """
    return f"{kind} tells nothing of {signal}: take its threshold away"
