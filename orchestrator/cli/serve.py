"""`orchestrator serve`."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Annotated

import anyio
import typer

from orchestrator.cli import options

Host = Annotated[str | None, typer.Option("--host", help="Listen here. [ORCHESTRATOR_HOST, 127.0.0.1]")]
Port = Annotated[
    int | None, typer.Option("--port", min=0, max=65535, help="0 takes any free one. [ORCHESTRATOR_PORT, 8080]")
]
Grace = Annotated[
    float | None,
    typer.Option("--shutdown-grace-seconds", min=0, help="How long what runs may take to end when we are stopped."),
]

TokensFile = Annotated[
    Path | None, typer.Option("--tokens-file", help="Tokens by their hashes. [ORCHESTRATOR_TOKENS_FILE]")
]
AllowUnauthenticated = Annotated[
    bool | None,
    typer.Option("--allow-unauthenticated", help="Let anybody do anything who reaches the address, without a token."),
]
Certificate = Annotated[
    Path | None, typer.Option("--tls-certificate", help="PEM, with its chain. [ORCHESTRATOR_TLS_CERTIFICATE]")
]
Key = Annotated[Path | None, typer.Option("--tls-key", help="PEM, without a passphrase. [ORCHESTRATOR_TLS_KEY]")]
ClientCA = Annotated[
    Path | None,
    typer.Option("--tls-client-ca", help="Let in only its clients. [ORCHESTRATOR_TLS_CLIENT_CA]"),
]


def serve(
    config: options.Config = None,
    store_url: options.StoreUrl = None,
    host: Host = None,
    port: Port = None,
    log_format: options.LogFormat = None,
    log_level: options.LogLevel = None,
    max_concurrent: options.MaxConcurrent = None,
    shutdown_grace_seconds: Grace = None,
    tokens_file: TokensFile = None,
    allow_unauthenticated: AllowUnauthenticated = None,
    tls_certificate: Certificate = None,
    tls_key: Key = None,
    tls_client_ca: ClientCA = None,
) -> None:
    """Run the daemon until SIGTERM or Ctrl-C; its address is logged as `listening`."""
    from orchestrator import settings
    from orchestrator.observe import logs
    from orchestrator.service import daemon

    configured = settings.load(
        config=config,
        store_url=store_url,
        host=host,
        port=port,
        log_format=log_format,
        log_level=log_level,
        max_concurrent=max_concurrent,
        shutdown_grace_seconds=shutdown_grace_seconds,
        tokens_file=tokens_file,
        allow_unauthenticated=allow_unauthenticated,
        tls_certificate=tls_certificate,
        tls_key=tls_key,
        tls_client_ca=tls_client_ca,
    )
    logs.configure(configured.log_format, configured.log_level)
    try:
        anyio.run(daemon.serve, configured)
    finally:
        # Python waits for every thread, also for one that reads a file which does not answer.
        last = threading.Timer(daemon.HARD_EXIT_SECONDS, os._exit, (1,))
        last.daemon = True
        last.start()
