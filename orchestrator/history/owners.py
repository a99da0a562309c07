"""Who runs a backfill, for its checkpoint: a name that says enough for somebody else to find out whether the run is
still there."""

from __future__ import annotations

import os
import socket
import uuid
from datetime import timedelta
from functools import cache
from pathlib import Path

from sqlalchemy.engine import RowMapping

from orchestrator.history import servers

# A run that nobody can look for, and that has said nothing for so long, is taken to be dead.
SILENCE = timedelta(minutes=1)


def name() -> str:
    """`HOST:PID@STARTED:RUN`; a process has no start where the system does not tell."""
    return f"{socket.gethostname()}:{_process(os.getpid())}:{uuid.uuid4().hex[:12]}"


def is_at_work(row: RowMapping, owner: str) -> bool:
    """Whether the owner of a checkpoint still runs, where no lock tells: a process of this machine that is there, or
    one of another machine that has said something just now. Another run in the process that asks has ended.

    Systems use a process's number again for another one. Where its start does not tell which one it is, it counts as
    one that cannot be looked for.
    """
    if row["state"] == "finished":
        return False
    host, process = _parts(str(row["owner"]))
    ours, own = _parts(owner)
    was_heard = bool(servers.now() - row["updated_at"] < SILENCE)
    if host != ours:
        return was_heard
    number, _, started = process.partition("@")
    if process == own or not _is_there(number):
        return False
    since = _started(int(number))
    return since == started if since and started else was_heard


def _parts(owner: str) -> tuple[str, str]:
    """Host and process; a host's name may have colons."""
    host, _, process = owner.rpartition(":")[0].rpartition(":")
    return host, process


def _is_there(number: str) -> bool:
    try:
        os.kill(int(number), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _process(number: int) -> str:
    started = _started(number)
    return f"{number}@{started}" if started else str(number)


def _started(number: int) -> str | None:
    """What no other process of this number has: which boot of the machine it is of, and its start in ticks since."""
    try:
        told = Path(f"/proc/{number}/stat").read_text()
    except OSError:
        return None
    # The name before may hold anything, parentheses as well. See proc(5): the start is field 22.
    fields = told.rpartition(")")[2].split()
    return f"{_boot()}.{fields[19]}" if len(fields) > 19 else None


@cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
    except OSError:
        return ""
