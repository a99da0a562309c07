"""The daemon that a command speaks to."""

from __future__ import annotations

import getpass
import os
from typing import TYPE_CHECKING

from orchestrator.errors import ConfigurationError

if TYPE_CHECKING:
    from orchestrator.client.daemon import Daemon

# From the environment alone: what stands on a command line, every user of the machine can read.
TOKEN_VARIABLE = "ORCHESTRATOR_TOKEN"


def to(server: str) -> Daemon:
    """A client of the daemon at `server`, to be used in an `async with` block."""
    from orchestrator.client.daemon import Daemon

    return Daemon(server, token=_token(), requested_by=_user())


def _token() -> str | None:
    """Raises ConfigurationError, without what the variable holds."""
    given = os.environ.get(TOKEN_VARIABLE, "").strip()  # a file ends with a line's end
    if not (given.isascii() and given.isprintable()) or " " in given:
        raise ConfigurationError(
            f"{TOKEN_VARIABLE} does not hold a token", remedy="set it to what `orchestrator token create` printed"
        )
    return given or None


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return None
