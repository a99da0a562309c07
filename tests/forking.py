"""Processes that are forked from one that has imported all: as those that people start, but a second or two sooner.

What is proved of processes (exit codes, signals, streams, folder, variables, who ends with whom) holds for both; a few
tests start theirs afresh. The servers that fork are `tests.forked_command` and `tests.forked_alembic`, one of each for
each process that runs tests; they end with it.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
_LENGTH = struct.Struct("!I")
_STATUS = struct.Struct("!i")


@dataclass
class Forked:
    """A process that runs, or ran. Its process id is free for others only when its end has been told."""

    pid: int
    _line: socket.socket
    returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit code, or the negative number of the signal that ended it; None while it runs."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code. Raises `subprocess.TimeoutExpired` after so many seconds."""
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _ended(self, seconds: float | None) -> int | None:
        if self.returncode is None and select.select([self._line], [], [], seconds)[0]:
            said = self._line.recv(_STATUS.size)
            self._line.close()
            # Without a word the server has died, and with it whoever could tell.
            self.returncode = os.waitstatus_to_exitcode(_STATUS.unpack(said)[0]) if said else 1
        return self.returncode


def asked(server: socket.socket, job: Mapping[str, Any], given: Sequence[int]) -> Forked:
    """Have a process forked, with these descriptors, which stay the caller's to close."""
    text = json.dumps(job).encode()
    ours, theirs = socket.socketpair()
    with theirs:
        socket.send_fds(server, [_LENGTH.pack(len(text))], [theirs.fileno(), *given])
        server.sendall(text)
    (pid,) = _STATUS.unpack(ours.recv(_STATUS.size))
    return Forked(pid, ours)


_servers: dict[tuple[int, str], socket.socket] = {}


def server(module: str, environ: Mapping[str, str] | None = None) -> socket.socket:
    """The line to the server that `module` is; it is started where there is none yet."""
    which = os.getpid(), module
    if which not in _servers:
        ours, theirs = socket.socketpair()
        with theirs:
            started = subprocess.Popen(
                [sys.executable, "-m", module, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), **(environ or {})},
                stdin=subprocess.DEVNULL,
            )
        _servers[which] = ours
        atexit.register(_end, ours, started)
    return _servers[which]


def _end(ours: socket.socket, started: subprocess.Popen[bytes]) -> None:
    ours.close()
    started.wait()


# The server's side


@dataclass
class Forking:
    """`askers` are those who may ask for processes: the tests, and what has been forked; `lines` tells ends."""

    askers: list[socket.socket]
    lines: dict[int, socket.socket] = field(default_factory=dict)
    woken: int = -1
    wake: int = -1

    def serve(self) -> dict[str, Any]:
        """Fork a process for each job, and tell its end. Returns in each of them what it is to be; ends when the first
        asker has gone."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.woken, self.wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self.wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while True:
            ready, _, _ = select.select([self.woken, *(asker.fileno() for asker in self.askers)], [], [])
            if self.woken in ready:
                os.read(self.woken, 4096)
                self._tell_ends()
            for asker in [one for one in self.askers if one.fileno() in ready]:
                received = _received(asker)
                if received is None and asker is self.askers[0]:
                    os._exit(0)
                if received is None:
                    self.askers.remove(asker)
                    asker.close()
                elif (job := self._forked(*received)) is not None:
                    return job

    def _forked(self, job: dict[str, Any], given: list[int]) -> dict[str, Any] | None:
        """In the new process what it is to be, and None in ours."""
        line, *streams = given
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            for mine in (*self.askers, *self.lines.values(), ours):
                mine.close()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for number in (self.woken, self.wake, line):
                os.close(number)
            return {**job, "streams": streams, "server": theirs}
        for stream in streams:
            os.close(stream)
        theirs.close()
        self.askers.append(ours)
        self.lines[pid] = socket.socket(fileno=line)
        self.lines[pid].sendall(_STATUS.pack(pid))
        return None

    def _tell_ends(self) -> None:
        while self.lines:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            with self.lines.pop(pid) as line, contextlib.suppress(OSError):  # nobody may ask any more
                line.sendall(_STATUS.pack(status))


def _received(asker: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    try:
        head, given, _, _ = socket.recv_fds(asker, _LENGTH.size, 5)
    except ConnectionError:
        return None
    if not head:
        return None
    missing = _LENGTH.unpack(head)[0]
    text = b""
    while len(text) < missing:
        text += asker.recv(missing - len(text))
    return json.loads(text), given


def take_on(job: Mapping[str, Any]) -> list[int]:
    """Have the streams, the folder and the variables of a job; the descriptors that were given beside the streams."""
    streams: list[int] = job["streams"]
    for number, stream in enumerate(streams[:3]):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["env"])
    return streams[3:]
