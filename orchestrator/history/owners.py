"""Who runs a backfill: a name for people, and for nobody else to be."""

from __future__ import annotations

import os
import socket
import uuid
from datetime import timedelta

from sqlalchemy.engine import RowMapping

from orchestrator.history import servers

# A run on another machine that has said nothing for so long is taken to be dead.
SILENCE = timedelta(minutes=1)


def name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:12]}"


def is_at_work(row: RowMapping, owner: str) -> bool:
    """Whether the owner of a checkpoint still runs, where no lock tells: a process of this machine that is there, or
    one of another machine that has said something just now. Another run in the process that asks has ended."""
    if row["state"] == "finished":
        return False
    host, _, rest = str(row["owner"]).rpartition(":")[0].rpartition(":")
    ours, _, own = owner.rpartition(":")[0].rpartition(":")
    if host != ours:
        return bool(servers.now() - row["updated_at"] < SILENCE)
    if rest == own:
        return False
    try:
        os.kill(int(rest), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True
