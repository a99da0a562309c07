"""How we speak TLS: with files that may be renewed while we run."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path

import anyio
import anyio.to_thread
import structlog

from orchestrator.errors import ConfigurationError

LOOK_SECONDS = 60.0

log = structlog.get_logger(__name__)


class Certificates:
    """The certificate, its key, and with `client_ca` the authority that clients need a certificate of, as PEM files.

    TLS 1.2 or newer. `context` is None without a certificate: then we do not speak TLS.
    """

    def __init__(self, certificate: Path | None, key: Path | None = None, client_ca: Path | None = None) -> None:
        """Raises ConfigurationError, never with what a key holds."""
        if certificate is None and not (key is None and client_ca is None):
            raise ConfigurationError("TLS needs a certificate", remedy="set ORCHESTRATOR_TLS_CERTIFICATE, too")
        self._certificate, self._key, self._client_ca = certificate, key, client_ca
        self._seen = self._stamps()
        self.context: ssl.SSLContext | None = None
        if certificate is not None:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.minimum_version = ssl.TLSVersion.TLSv1_2
            self._load(self.context)

    async def watch(self) -> None:
        """Take renewed files for ever; connections that are open keep what they began with."""
        while self.context is not None:
            await anyio.sleep(LOOK_SECONDS)
            await anyio.to_thread.run_sync(self.renew, abandon_on_cancel=True)

    def renew(self) -> None:
        """Take the files anew if they have changed and can be used."""
        if self.context is None or (seen := self._stamps()) == self._seen:
            return
        try:
            # Apart first: a certificate without its key, half written say, would stay in the context.
            self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
            self._load(self.context)
        except ConfigurationError as exc:
            log.error("certificate_refused", message=exc.message, remedy=exc.remedy)
            return
        self._seen = seen
        log.info("certificate_renewed", file=str(self._certificate))

    def _load(self, context: ssl.SSLContext) -> None:
        assert self._certificate is not None
        try:
            # An empty passphrase, so that a key which needs one is refused instead of asked for on a terminal.
            context.load_cert_chain(self._certificate, self._key, password="")
            if self._client_ca is not None:
                context.load_verify_locations(self._client_ca)
                context.verify_mode = ssl.CERT_REQUIRED
        except (OSError, ValueError) as exc:
            files = ", ".join(str(file) for file in self._files)
            told = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
            raise ConfigurationError(
                f"the files for TLS cannot be used ({files}): {told}",
                remedy="write PEM: the certificate with its chain, its key without a passphrase, the clients' CA",
            ) from exc

    @property
    def _files(self) -> Sequence[Path]:
        return [file for file in (self._certificate, self._key, self._client_ca) if file is not None]

    def _stamps(self) -> Sequence[tuple[int, int, int] | None]:
        return [_stamp(file) for file in self._files]


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
