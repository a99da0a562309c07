"""The daemon that a command speaks to."""

from __future__ import annotations

import getpass
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import anyio

if TYPE_CHECKING:
    from orchestrator.client.daemon import Daemon

Answer = TypeVar("Answer")

# From the environment alone: what stands on a command line, every user of the machine can read.
TOKEN_VARIABLE = "ORCHESTRATOR_TOKEN"


def to(server: str) -> Daemon:
    """A client of the daemon at `server`, to be used in an `async with` block."""
    from orchestrator.client.daemon import Daemon

    return Daemon(server, token=os.environ.get(TOKEN_VARIABLE) or None, requested_by=_user())


def ask(server: str, question: Callable[[Daemon], Awaitable[Answer]]) -> Answer:
    """The daemon's answer to one question."""

    async def asked() -> Answer:
        async with to(server) as daemon:
            return await question(daemon)

    return anyio.run(asked)


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return None
