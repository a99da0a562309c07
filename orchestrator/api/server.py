"""Serves the application inside our own task group: uvicorn without its signal handlers."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import anyio
import uvicorn
from anyio.abc import TaskStatus

from orchestrator.errors import ConfigurationError

if TYPE_CHECKING:
    from fastapi import FastAPI

# For requests in flight when the daemon stops; event streams end at once.
GRACE_SECONDS = 5
BACKLOG = 256
# A selector of 10,000 characters, each of which takes up to 12 bytes in an address, and some more.
HEAD_BYTES = 256 * 1024


class Server(uvicorn.Server):
    """Signals are the daemon's. Calls `on_started` once connections are accepted."""

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_started()


async def serve(
    app: FastAPI,
    host: str,
    port: int,
    *,
    stopping: anyio.Event,
    tls: ssl.SSLContext | None = None,
    task_status: TaskStatus[str] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until `stopping` is set and requests in flight are answered, 5 seconds at most; with `tls`, over https.

    Reports its URL when it accepts connections; port 0 takes any free one. Raises ConfigurationError when it
    cannot listen.
    """
    sockets = bind(host, port)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        ws="none",
        backlog=BACKLOG,
        http="h11",
        h11_max_incomplete_event_size=HEAD_BYTES,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    config.load()
    config.ssl = tls
    server = Server(config, lambda: task_status.started(url(host, sockets[0], tls is not None)))
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_stop, server, stopping)
            await server.serve(sockets)
            tasks.cancel_scope.cancel()
    except BaseException:
        await _abandon(server, sockets)
        raise
    finally:
        for listener in sockets:
            listener.close()


def bind(host: str, port: int) -> list[socket.socket]:
    """Listening sockets for every address of `host`, all on one port. Raises ConfigurationError."""
    sockets: list[socket.socket] = []
    try:
        for family, (address, _port, *scope) in _addresses(host):
            taken = sockets[0].getsockname()[1] if sockets else port
            sockets.append(_listen(family, (address, taken, *scope)))
    except (OSError, UnicodeError) as exc:
        for listener in sockets:
            listener.close()
        raise ConfigurationError(reason(exc, host, port), remedy=_REMEDY) from exc
    return sockets


_REMEDY = "choose another with --host and --port, or ORCHESTRATOR_HOST and ORCHESTRATOR_PORT"


def reason(error: OSError | UnicodeError, host: str, port: int) -> str:
    """Why we cannot listen, in the operator's words."""
    where = f"port {port} on {host}"
    match error:
        case UnicodeError():
            return f"{host!r} cannot be the name of a host"
        case socket.gaierror():
            return f"host {host!r} cannot be resolved: {error.strerror}"
        case OSError(errno=errno.EADDRINUSE):
            return f"{where} is in use"
        case OSError(errno=errno.EACCES):
            return f"{where} needs rights that this process does not have"
        case _:
            return f"cannot listen on {where}: {error.strerror or error}"


def url(host: str, listener: socket.socket, secure: bool = False) -> str:
    """Where clients find us."""
    return f"http{'s' if secure else ''}://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"


def _addresses(host: str) -> list[tuple[int, tuple[str | int | bytes, ...]]]:
    """Address families and addresses of `host`, without port."""
    found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((family, address) for family, _kind, _protocol, _name, address in found))


def _listen(family: int, address: tuple[str | int | bytes, ...]) -> socket.socket:
    # The protocol must be named: asyncio turns off Nagle's algorithm only where it is, and with it on, the second
    # packet of an answer waits 40 ms for the client's delayed acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(BACKLOG)  # with SO_REUSEADDR it is only here that a second listener is refused
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


async def _stop(server: Server, stopping: anyio.Event) -> None:
    await stopping.wait()
    server.should_exit = True


async def _abandon(server: Server, sockets: list[socket.socket]) -> None:
    """We were cancelled: end what runs, wait for nothing."""
    if not server.started:
        return
    server.config.timeout_graceful_shutdown = 0
    with anyio.CancelScope(shield=True), suppress(Exception):
        await server.shutdown(sockets)
