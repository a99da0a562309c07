"""The daemon that a command speaks to."""

from __future__ import annotations

import getpass
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.client.daemon import Daemon

# From the environment alone: what stands on a command line, every user of the machine can read.
TOKEN_VARIABLE = "ORCHESTRATOR_TOKEN"


def to(server: str) -> Daemon:
    """A client of the daemon at `server`, to be used in an `async with` block."""
    from orchestrator.client.daemon import Daemon

    return Daemon(server, token=os.environ.get(TOKEN_VARIABLE) or None, requested_by=_user())


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return None
