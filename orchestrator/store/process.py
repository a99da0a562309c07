"""Who this process is, and whether another one on this machine still lives."""

from __future__ import annotations

import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
ENDED = frozenset("ZX")


@dataclass(frozen=True, slots=True)
class Identity:
    """A process as others can look for it.

    `name` is for people: host, process id, and a mark that no other process has. `machine` tells one running kernel and
    one set of process ids from all others; empty where the system does not tell. `born` is when the process started, by
    that kernel's clock: process ids are used again.
    """

    name: str
    machine: str
    pid: int
    born: str

    @property
    def mark(self) -> str:
        return self.name.rpartition(":")[2]


def purpose(kind: str, mark: str) -> str:
    """What the sessions of the process with this mark say they are for.

    >>> purpose("store", "c0ffee00")
    'store #c0ffee00'
    """
    return f"{kind} #{mark}"


def this_process() -> Identity:
    pid = os.getpid()
    born = started(pid) or ""
    return Identity(f"{socket.gethostname()}:{pid}:{secrets.token_hex(4)}", _machine(), pid, born)


def is_dead(other: Identity) -> bool:
    """Whether the process has certainly ended; False where that cannot be told from here."""
    if not other.machine or not other.born or other.machine != _machine():
        return False
    born = started(other.pid)
    if born is not None:
        return born != other.born
    return _is_gone(other.pid)


def started(pid: int) -> str | None:
    """When the process started; None where there is none, or it may not be looked at. One that ended and waits for its
    parent to notice has started "never".

    >>> started(os.getpid()) == started(os.getpid()) or not PROC.exists()
    True
    """
    try:
        said = (PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    state, *rest = said.rpartition(")")[2].split()  # the name before it may hold anything
    return "never" if state in ENDED else rest[18]


def _is_gone(pid: int) -> bool:
    """Asked in another way: /proc may hide the processes of other users."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _machine() -> str:
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink(PROC / 'self/ns/pid')}"
    except OSError:
        return ""
