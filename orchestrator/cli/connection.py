"""The daemon that a command speaks to."""

from __future__ import annotations

import getpass
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import anyio

from orchestrator.errors import ConfigurationError

if TYPE_CHECKING:
    import ssl

    from orchestrator.client.daemon import Daemon

Answer = TypeVar("Answer")

# From the environment alone: what stands on a command line, every user of the machine can read.
TOKEN_VARIABLE = "ORCHESTRATOR_TOKEN"
# For a daemon whose certificate is of an authority of one's own, and one that asks its clients for certificates.
CA_VARIABLE = "ORCHESTRATOR_CA_FILE"
CERTIFICATE_VARIABLE, KEY_VARIABLE = "ORCHESTRATOR_CLIENT_CERTIFICATE", "ORCHESTRATOR_CLIENT_KEY"


def to(server: str) -> Daemon:
    """A client of the daemon at `server`, to be used in an `async with` block."""
    from orchestrator.client.daemon import Daemon

    return Daemon(server, token=_token(), requested_by=_user(), tls=_tls())


def _token() -> str | None:
    """Raises ConfigurationError, without what the variable holds."""
    given = os.environ.get(TOKEN_VARIABLE, "").strip()  # a file ends with a line's end
    if not (given.isascii() and given.isprintable()) or " " in given:
        raise ConfigurationError(
            f"{TOKEN_VARIABLE} does not hold a token", remedy="set it to what `orchestrator token create` printed"
        )
    return given or None


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


def _tls() -> ssl.SSLContext | None:
    """Raises ConfigurationError."""
    authority, certificate, key = (
        os.environ.get(name) or None for name in (CA_VARIABLE, CERTIFICATE_VARIABLE, KEY_VARIABLE)
    )
    if not (authority or certificate):
        return None
    import ssl

    try:
        context = ssl.create_default_context(cafile=authority)
        if certificate:
            # An empty passphrase, so that a key which needs one is refused instead of asked for.
            context.load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as exc:
        raise ConfigurationError(
            f"the certificates to speak to the daemon with cannot be used: {exc}",
            remedy=f"{CA_VARIABLE}, {CERTIFICATE_VARIABLE} and {KEY_VARIABLE} name PEM files",
        ) from None
    return context
