"""Over https, with and without clients' certificates."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import httpx2
import pytest
from fastapi import FastAPI

from orchestrator.api import server
from orchestrator.api.tls import Certificates
from orchestrator.cli import connection
from orchestrator.errors import ConfigurationError
from tests.certificates import Authority


@asynccontextmanager
async def serving(app: FastAPI, stopping: anyio.Event, tls: ssl.SSLContext | None) -> AsyncIterator[str]:
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            yield await tasks.start(partial(server.serve, app, "127.0.0.1", 0, stopping=stopping, tls=tls))
            stopping.set()


def trusting(authority: Authority, *own: str | Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.file))
    if own:
        context.load_cert_chain(own[0], own[1])
    return context


async def test_it_speaks_tls_and_nothing_else(app: FastAPI, stopping: anyio.Event, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server")
    async with serving(app, stopping, Certificates(certificate, key).context) as url:
        assert url.startswith("https://127.0.0.1:")
        async with httpx2.AsyncClient(verify=trusting(authority)) as client:
            assert (await client.get(f"{url}/healthz")).json() == {"status": "ok"}
            with pytest.raises(httpx2.TransportError):
                await client.get(f"http{url.removeprefix('https')}/healthz")
        old = trusting(authority)
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        async with httpx2.AsyncClient(verify=old) as client:
            assert (await client.get(f"{url}/healthz")).status_code == 200


async def test_with_a_clients_authority_others_are_not_let_in(
    app: FastAPI, stopping: anyio.Event, tmp_path: Path
) -> None:
    authority, clients, others = Authority(tmp_path), Authority(tmp_path, "clients"), Authority(tmp_path, "others")
    tls = Certificates(*authority.issue("server"), clients.file).context
    async with serving(app, stopping, tls) as url:
        async with httpx2.AsyncClient(verify=trusting(authority, *clients.issue("ci"))) as client:
            assert (await client.get(f"{url}/healthz")).status_code == 200
        for context in (trusting(authority), trusting(authority, *others.issue("eve"))):
            async with httpx2.AsyncClient(verify=context) as client:
                with pytest.raises(httpx2.TransportError):
                    await client.get(f"{url}/healthz")


async def test_the_command_lines_client_brings_certificates_that_the_environment_names(
    app: FastAPI, stopping: anyio.Event, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, clients = Authority(tmp_path), Authority(tmp_path, "clients")
    certificate, key = clients.issue("ci")
    async with serving(app, stopping, Certificates(*authority.issue("server"), clients.file).context) as url:
        async with connection.to(url) as daemon:
            assert not await daemon.ready()
        monkeypatch.setenv(connection.CA_VARIABLE, str(authority.file))
        monkeypatch.setenv(connection.CERTIFICATE_VARIABLE, str(certificate))
        monkeypatch.setenv(connection.KEY_VARIABLE, str(key))
        async with connection.to(url) as daemon:
            assert await daemon.ready()
    monkeypatch.setenv(connection.CA_VARIABLE, str(tmp_path / "none"))
    with pytest.raises(ConfigurationError, match="certificates"):
        connection.to(url)


async def test_renewed_files_are_taken_and_broken_ones_are_not(
    app: FastAPI, stopping: anyio.Event, tmp_path: Path
) -> None:
    first, second = Authority(tmp_path), Authority(tmp_path, "second")
    certificate, key = first.issue("server")
    certificates = Certificates(certificate, key)

    async def trusted(authority: Authority) -> bool:
        async with httpx2.AsyncClient(verify=trusting(authority)) as client:
            try:
                return (await client.get(f"{url}/healthz")).status_code == 200
            except httpx2.TransportError:
                return False

    async with serving(app, stopping, certificates.context) as url:
        assert [await trusted(first), await trusted(second)] == [True, False]
        renewed = second.issue("server")
        renewed[0].replace(certificate)
        certificates.renew()  # the certificate, and not yet its key
        assert [await trusted(first), await trusted(second)] == [True, False]
        renewed[1].replace(key)
        certificates.renew()
        assert [await trusted(first), await trusted(second)] == [False, True]
        key.unlink()
        certificates.renew()
        assert await trusted(second)


def test_files_that_cannot_be_used_are_told_without_what_they_hold(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server")
    _, foreign = authority.issue("other")
    _, locked = authority.issue("locked", password=b"passphrase")
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    for given in (
        (tmp_path / "none", key, None),
        (certificate, tmp_path / "none", None),
        (certificate, foreign, None),
        (certificate, locked, None),
        (certificate, None, None),
        (certificate, secret, None),
        (certificate, key, secret),
        (None, key, None),
        (None, None, authority.file),
    ):
        with pytest.raises(ConfigurationError, match="TLS") as refused:
            Certificates(*given)
        assert "hunter2" not in str(refused.value)
    assert Certificates(None).context is None
