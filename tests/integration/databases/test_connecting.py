"""TLS where the server has it, without asking one again and again that has none."""

from __future__ import annotations

from pathlib import Path

import anyio
import asyncpg
import pytest
from sqlalchemy.engine import make_url

from orchestrator.databases import connecting
from orchestrator.databases.base import Limits, Place
from orchestrator.databases.embedded import EmbeddedServer, Server
from orchestrator.errors import TargetUnreachableError
from orchestrator.registry.model import Target
from tests.engine import until


def _place(server: Server) -> Place:
    return Place(Target("acme", "app", "pg", "postgres"), make_url(server.url("postgres")), Limits())


async def _uses_tls(place: Place) -> bool:
    async with connecting.connected(place, "test") as connection:
        found: bool = await connection.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        return found


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "_without_tls", {})


async def test_a_server_without_tls_is_asked_once(pg: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    connect = asyncpg.connect

    async def counting(**options: object) -> object:
        asked.append(options["ssl"])
        return await connect(**options)

    monkeypatch.setattr(asyncpg, "connect", counting)
    assert [await _uses_tls(_place(pg)) for _ in range(3)] == [False] * 3
    assert asked == [None, False, False]


async def test_many_at_once_that_are_refused_are_refused_in_words(pg: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each finds out by itself that what was known of the server no longer holds."""
    place = _place(pg)
    assert not await _uses_tls(place)

    async def refusing(**options: object) -> object:
        await anyio.sleep(0.01)
        raise asyncpg.InvalidAuthorizationSpecificationError("no pg_hba.conf entry")

    monkeypatch.setattr(asyncpg, "connect", refusing)
    told: list[str] = []

    async def one() -> None:
        try:
            await _uses_tls(place)
        except TargetUnreachableError as exc:
            told.append(exc.kind)

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(one)
    assert told == ["authentication"] * 3


async def test_a_server_that_insists_on_tls_since_then_is_asked_again(tmp_path: Path) -> None:
    async with EmbeddedServer(name="tls") as server:
        place = _place(server)
        assert not await _uses_tls(place)
        key, certificate = tmp_path / "server.key", tmp_path / "server.crt"
        subject = ["-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate)]
        made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *subject]
        if (await anyio.run_process(made, check=False)).returncode:
            pytest.skip("openssl makes no certificate here")
        await _turn_on_tls(place, key.read_text(), certificate.read_text())
        await until(lambda: _uses_tls(place))


async def _turn_on_tls(place: Place, key: str, certificate: str) -> None:
    """Let the server write its own files, which it must own, and refuse whoever comes without TLS."""
    async with connecting.connected(place, "test") as connection:
        folder = await connection.fetchval("SHOW data_directory")
        for name, text in (("server.key", key), ("server.crt", certificate)):
            await connection.execute(
                f"COPY (SELECT 1) TO PROGRAM 'cat > /dev/null; umask 077; cat > {folder}/{name} <<EOF\n{text}EOF'"
            )
        rule = "hostssl all all 127.0.0.1/32 scram-sha-256"
        await connection.execute(f"COPY (SELECT 1) TO PROGRAM 'cat > /dev/null; echo {rule} > {folder}/pg_hba.conf'")
        await connection.execute("ALTER SYSTEM SET ssl = on")
        await connection.execute("SELECT pg_reload_conf()")
