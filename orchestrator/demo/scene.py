"""Sets the demo up and takes it down, whatever happens in between."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio

from orchestrator.databases import binaries
from orchestrator.databases.embedded import EmbeddedServer, create_databases
from orchestrator.demo import fleet, migrations, process, rows
from orchestrator.errors import ConfigurationError, EmbeddedServerError

# As much as a server may take of the memory file system, where it goes if nobody says otherwise.
MEMORY_BYTES = 3 * 1024**3

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Options:
    """`port` 0 takes any free one; `keep` leaves data, registry, store and log where they are."""

    tenants: int = 200
    port: int = 0
    keep: bool = False


@dataclass(frozen=True, slots=True)
class Scene:
    """The demo as it stands: a daemon at `url`, its files in `folder`, servers by shard."""

    url: str
    folder: Path
    servers: Mapping[str, EmbeddedServer]
    tenants: int


@asynccontextmanager
async def raised(options: Options, tell: Tell) -> AsyncIterator[Scene]:
    """The whole demo while the block runs; `tell` hears what is being done.

    Raises ConfigurationError when something that is needed is not there, EmbeddedServerError and DaemonError.
    """
    scripts = migrations.find()
    programs = _programs()
    tenants = fleet.tenants(options.tenants)
    with _folder(options) as folder:
        tell(f"starting {len(fleet.SHARDS)} PostgreSQL servers from {programs}")
        async with _servers(folder, options) as servers:
            tell(f"creating {options.tenants:,} databases")
            await _create(servers, tenants, scripts)
            places = [fleet.Place(shard, server.url("postgres")) for shard, server in servers.items()]
            (folder / "tenants.yaml").write_text(fleet.registry(places, tenants, scripts))
            tell("starting the daemon")
            secrets = {place.variable: place.password for place in places}
            async with process.running(folder, options.port, secrets, keep=options.keep) as url:
                yield Scene(url, folder, servers, options.tenants)


def _programs() -> Path:
    try:
        return binaries.find_binaries()
    except EmbeddedServerError as exc:
        raise ConfigurationError(exc.message, remedy=exc.remedy) from exc


@contextmanager
def _folder(options: Options) -> Iterator[Path]:
    """The demo's own folder, with room for what goes there. Raises ConfigurationError when there is none."""
    folder = Path(tempfile.mkdtemp(prefix="orchestrator-demo-"))
    folder.chmod(0o711)  # under root, the servers are another user, who must be able to pass
    try:
        _check_room(folder, options.tenants)
        yield folder
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)


def _check_room(folder: Path, tenants: int) -> None:
    needed, free = fleet.needed_bytes(tenants), shutil.disk_usage(folder).free
    if needed > free:
        has = f"{folder.parent} has {free / 1024**3:.1f} GB free"
        raise ConfigurationError(
            f"{tenants:,} tenants need about {needed / 1024**3:.1f} GB; {has}",
            remedy="ask for fewer with --tenants, or name a roomier folder with TMPDIR",
        )


@asynccontextmanager
async def _servers(folder: Path, options: Options) -> AsyncIterator[Mapping[str, EmbeddedServer]]:
    here = options.keep or fleet.needed_bytes(options.tenants) > MEMORY_BYTES
    servers = {shard: EmbeddedServer(folder / shard if here else None, name=shard) for shard in fleet.SHARDS}
    async with AsyncExitStack() as stack:
        async with anyio.create_task_group() as tasks:
            for server in servers.values():
                tasks.start_soon(stack.enter_async_context, server)
        yield servers


async def _create(servers: Mapping[str, EmbeddedServer], tenants: Mapping[str, Sequence[str]], scripts: Path) -> None:
    async with anyio.create_task_group() as tasks:
        for shard, server in servers.items():
            tasks.start_soon(create_databases, server, [name for name in tenants[shard] if not fleet.has_rows(name)])
        for shard, server in servers.items():
            await rows.create(server, [name for name in tenants[shard] if fleet.has_rows(name)], scripts)


def connect_command(scene: Scene) -> str:
    """How to look into the first tenant's database, without a password on the command line."""
    server = next(iter(scene.servers.values()))
    [first, *_] = fleet.tenants(scene.tenants)[server.name]
    assert server.data_dir is not None
    password = server.data_dir / "password"
    return f"PGPASSWORD=$(cat {password}) psql -h {server.host} -p {server.port} -U {server.user} {first}"


def restart_command(scene: Scene) -> str:
    """How to start a kept server again; under root it belongs to another user."""
    server = next(iter(scene.servers.values()))
    user = "setpriv --reuid=65534 --regid=65534 --clear-groups " if os.geteuid() == 0 else ""
    home = scene.folder / server.name
    options = f"-o '-c listen_addresses={server.host} -c unix_socket_directories= -p {server.port}'"
    return f"{user}{binaries.find_binaries() / 'pg_ctl'} -D {home / 'data'} -l {home / 'server.log'} {options} start"
