"""The command line in processes that are forked from one that has imported it: as `python -m orchestrator` is, but a
second sooner. What is proved of processes (exit codes, signals, streams, folder, variables) holds for both.

One such server for each process that runs tests; it ends with it.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
_LENGTH = struct.Struct("!I")
_STATUS = struct.Struct("!i")
# What commands import when they are called, some of it in threads.
_BEFOREHAND = (
    "asyncio.subprocess",
    "asyncmy.cursors",
    "orchestrator.api.schemas",
    "orchestrator.cli.application",
    "orchestrator.cli.remarks",
    "orchestrator.client.daemon",
    "orchestrator.service.alembic_command",
    "orchestrator.service.checking",
    "orchestrator.service.daemon",
    "orchestrator.service.foreground",
    "uvicorn.protocols.http.h11_impl",
)


@dataclass
class Forked:
    """A command that runs, or ran. Its process id is free for others only when we have been told its end."""

    pid: int
    _line: socket.socket
    returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit code, or the negative number of the signal that ended it; None while it runs."""
        return self._ended(0)

    def wait(self) -> int:
        code = self._ended(None)
        assert code is not None
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _ended(self, seconds: float | None) -> int | None:
        if self.returncode is None and select.select([self._line], [], [], seconds)[0]:
            said = self._line.recv(_STATUS.size)
            self._line.close()
            assert said, "the server that commands are forked from has died"
            self.returncode = os.waitstatus_to_exitcode(_STATUS.unpack(said)[0])
        return self.returncode


def command(
    arguments: Sequence[str], *, cwd: Path | str, env: Mapping[str, str], stdout: int, stderr: int, stdin: int
) -> Forked:
    """Start `orchestrator <arguments>` with these streams, which stay the caller's to close."""
    job = json.dumps({"arguments": list(arguments), "cwd": str(cwd), "env": dict(env)}).encode()
    ours, theirs = socket.socketpair()
    with theirs:
        server = _server()
        socket.send_fds(server, [_LENGTH.pack(len(job))], [stdin, stdout, stderr, theirs.fileno()])
        server.sendall(job)
    (pid,) = _STATUS.unpack(ours.recv(_STATUS.size))
    return Forked(pid, ours)


_servers: dict[int, socket.socket] = {}


def _server() -> socket.socket:
    if os.getpid() not in _servers:
        ours, theirs = socket.socketpair()
        with theirs:
            started = subprocess.Popen(
                [sys.executable, "-m", "tests.forking", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
            )
        _servers[os.getpid()] = ours
        atexit.register(_end, ours, started)
    return _servers[os.getpid()]


def _end(ours: socket.socket, started: subprocess.Popen[bytes]) -> None:
    ours.close()
    started.wait()


# The server's side


def _serve(control: socket.socket) -> None:
    """Fork a process for each command, and tell its end. Returns in each of them; ends when the caller has gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    lines: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([control.fileno(), woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            _tell_ends(lines)
        if control.fileno() in ready:
            received = _received(control)
            if received is None:
                os._exit(0)
            job, streams, line = received
            pid = os.fork()
            if pid == 0:
                for mine in (control, line, *lines.values()):
                    mine.close()
                os.close(woken)
                signal.set_wakeup_fd(-1)
                os.close(wake)
                _become(job, streams)
                return
            for stream in streams:
                os.close(stream)
            lines[pid] = line
            line.sendall(_STATUS.pack(pid))


def _received(control: socket.socket) -> tuple[dict[str, object], list[int], socket.socket] | None:
    head, found, _, _ = socket.recv_fds(control, _LENGTH.size, 4)
    if not head:
        return None
    *streams, line = found
    missing = _LENGTH.unpack(head)[0]
    text = b""
    while len(text) < missing:
        text += control.recv(missing - len(text))
    return json.loads(text), streams, socket.socket(fileno=line)


def _tell_ends(lines: dict[int, socket.socket]) -> None:
    while lines:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        with lines.pop(pid) as line:
            line.sendall(_STATUS.pack(status))


def _become(job: dict[str, object], streams: Sequence[int]) -> None:
    """Be the command, as far as it can see."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(str(job["cwd"]))
    os.environ.clear()
    os.environ.update(job["env"])  # type: ignore[call-overload]
    sys.path[0] = str(job["cwd"])
    sys.argv = ["orchestrator", *job["arguments"]]  # type: ignore[misc]


if __name__ == "__main__":
    import gc
    import importlib

    for name in _BEFOREHAND:
        importlib.import_module(name)
    gc.freeze()
    from orchestrator.cli.application import main

    _serve(socket.socket(fileno=int(sys.argv[1])))
    main()
