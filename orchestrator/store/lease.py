"""The lease of the lead: what its row says, and what follows from it. Pure but for the SQL's text.

All times are the server's: the clocks of the daemons do not matter. Who leads renews the lease at each third of its
length, and stops by its own clock when three quarters have passed without: before anybody else may take over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import JSON, bindparam, text

from orchestrator.store.process import Identity, purpose

RENEW_PART = 1 / 3
TRUST_PART = 3 / 4
RETRY_PART = 1 / 15
DEPOSED_LIMIT = 20

# First key: "orch" in ASCII. Session locks of the store's database are ours alone.
KEYS = {"first": 0x6F726368, "second": 0}

SET_UP = text("SELECT set_config('lock_timeout', '1000ms', false), pg_backend_pid()")
READ = text(
    "SELECT epoch, owner, machine, pid, born, backend, deposed, "
    "extract(epoch FROM expires_at - clock_timestamp())::float AS seconds_left FROM leadership"
).columns(deposed=JSON())
CLAIM = text(
    "UPDATE leadership SET epoch = epoch + 1, owner = :owner, machine = :machine, pid = :pid, born = :born, "
    "backend = pg_backend_pid(), deposed = :deposed, "
    "expires_at = clock_timestamp() + make_interval(secs => :seconds) "
    "WHERE epoch = :epoch AND (expires_at <= clock_timestamp() OR :dead) RETURNING epoch"
).bindparams(bindparam("deposed", type_=JSON()))
RENEW = text(
    "UPDATE leadership SET backend = pg_backend_pid(), "
    "expires_at = clock_timestamp() + make_interval(secs => :seconds) "
    "WHERE epoch = :epoch AND owner = :owner RETURNING backend"
)
RELEASE = text(
    "UPDATE leadership SET owner = '', expires_at = clock_timestamp() WHERE epoch = :epoch AND owner = :owner"
)

LOCK = text("SELECT pg_try_advisory_lock(:first, :second)")
UNLOCK = text("SELECT pg_advisory_unlock_all()")
# `objsubid` 2 marks locks of two keys; another user's application_name is shown to superusers only.
_HELD = """
    FROM pg_locks AS held JOIN pg_stat_activity AS activity USING (pid)
    WHERE held.locktype = 'advisory' AND held.granted AND held.objsubid = 2
      AND held.classid::bigint = :first AND held.objid::bigint = :second
      AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
HOLDER = text(f"SELECT activity.pid, activity.application_name, activity.client_addr::text AS address {_HELD}")
END_HOLDER = text(f"SELECT pg_terminate_backend(activity.pid) {_HELD} AND activity.pid = :backend")
# The transactions of a process that was frozen in one. Where it had sent statements without their end, the server takes
# them for active and `idle_in_transaction_session_timeout` for none of its business.
END_WRITING = text(
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
    "WHERE datname = current_database() AND starts_with(application_name, :name)"
)


@dataclass(frozen=True, slots=True)
class Lease:
    """The row as it was read; `owner` empty: the last leader gave the lead back. `backend` is the server's session in
    which it holds the lock, `deposed` the marks of those who did not give it back and may still live."""

    epoch: int
    owner: str
    machine: str
    pid: int
    born: str
    backend: int
    deposed: Sequence[str]
    seconds_left: float

    @property
    def identity(self) -> Identity:
        return Identity(self.owner, self.machine, self.pid, self.born)

    @property
    def writing(self) -> dict[str, str]:
        """What the sessions are called in which its owner writes."""
        return {"name": f"orchestrator {purpose('store', self.identity.mark)} "}

    @property
    def expired(self) -> bool:
        return self.seconds_left <= 0

    def deposing(self, dead: bool) -> Sequence[str]:
        """The marks of the deposed once somebody has taken over."""
        if dead or not self.owner:
            return self.deposed
        return [*self.deposed, self.identity.mark][-DEPOSED_LIMIT:]

    @property
    def leader(self) -> str | None:
        """Who has the lead, in words.

        >>> Lease(3, "db1:99:c0ffee", "", 99, "", 4711, [], 9.6).leader
        'process 99 on db1'
        """
        return f"process {self.pid} on {self.owner.rsplit(':', 2)[0]}" if self.owner else None


@dataclass(slots=True)
class Trust:
    """How long this process may hold itself for the leader, by a clock that goes on while the machine sleeps."""

    lease_seconds: float
    until: float = 0.0

    def renewed(self, asked_at: float) -> None:
        """The server was asked at `asked_at` and said yes: it cannot have counted from an earlier moment."""
        self.until = asked_at + self.lease_seconds * TRUST_PART

    @property
    def seconds_left(self) -> float:
        return self.until - clock()


def _clock() -> Callable[[], float]:
    if hasattr(time, "CLOCK_BOOTTIME"):
        return lambda: time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic


clock = _clock()


def session_described(pid: int, application: str | None, address: str | None) -> str:
    """
    >>> session_described(4711, "orchestrator driver db1:99", "10.0.0.7/32")
    'session 4711 (orchestrator driver db1:99) from 10.0.0.7'
    """
    name = f" ({application})" if application else ""
    return f"session {pid}{name}" + (f" from {address.partition('/')[0]}" if address else "")
