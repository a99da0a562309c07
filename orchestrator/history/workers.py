"""The daemon's side of its worker processes: start them, give them jobs, hear what they say."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from orchestrator.errors import HistoryError, MigrationFailedError, OrchestratorError
from orchestrator.history.environment import Observer
from orchestrator.history.jobs import HostJob, Job, Message, MigrateJob, ReadJob, unpacked
from orchestrator.history.scripts import Snapshot
from orchestrator.registry.model import Track

# What a project's code leaves behind in memory goes with its process.
HOST_TARGETS = 500
WORKER_DIED = "worker_died"


class Handle:
    """Ends a worker that serves one job from another thread: its socket closes, and so it dies."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._ended = False

    def attach(self, connection: socket.socket) -> None:
        self._socket = connection
        if self._ended:
            self.end()

    def end(self) -> None:
        """May be called at any time, also before the worker started and after it ended."""
        self._ended = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)


@dataclass(slots=True, eq=False)
class _Host:
    """A process that migrates in threads. It is retired when it has served enough, or its files are of yesterday."""

    socket: socket.socket
    track: Track
    digest: str
    running: int = 0
    served: int = 0

    def serves(self, job: MigrateJob) -> bool:
        return self.track == job.track and self.digest == job.digest and self.served < HOST_TARGETS


@dataclass(slots=True)
class Workers:
    """Starts and feeds worker processes. Its methods block; threads may share it.

    `hosts` is how many processes share the targets of one history.
    """

    hosts: int = field(default_factory=lambda: os.cpu_count() or 1)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _parent: subprocess.Popen[bytes] | None = None
    _control: socket.socket | None = None
    _hosts: list[_Host] = field(default_factory=list)

    def start(self) -> None:
        """Start the warm parent, which gets ready while others work."""
        with self._lock:
            self._warm()

    def read(self, job: ReadJob) -> Snapshot:
        """As `scripts.read`, in a worker of its own; raises HistoryError."""
        with self._lock:
            ours = self._forked()
        with ours:
            snapshot: Snapshot = _converse(ours, job, None)
            return snapshot

    def migrate_alone(self, job: MigrateJob, observer: Observer, handle: Handle) -> None:
        """As `environment.run`, in a worker that serves this job and ends."""
        with self._lock:
            ours = self._forked()
        with ours:
            handle.attach(ours)
            _converse(ours, job, observer)

    def migrate(self, job: MigrateJob, observer: Observer) -> None:
        """As `environment.run`, in a thread of a host that has read the job's history."""
        with self._host(job) as host:
            ours, theirs = socket.socketpair()
            with ours, theirs:
                try:
                    socket.send_fds(host.socket, [b"."], [theirs.fileno()])
                except OSError:
                    raise _died(job) from None
                theirs.close()
                _converse(ours, job, observer)

    def retire(self) -> None:
        """End the hosts that have no target: with them goes what the project's code kept open or in memory."""
        with self._lock:
            self._let_go([host for host in self._hosts if not host.running])

    def close(self) -> None:
        """End all hosts and the warm parent. Workers with a job of their own end as their sockets close."""
        with self._lock:
            self._let_go(list(self._hosts))
            if self._control is not None:
                self._control.close()
            if self._parent is not None:
                self._parent.wait(timeout=10)
            self._control = self._parent = None

    @contextlib.contextmanager
    def _host(self, job: MigrateJob) -> Iterator[_Host]:
        with self._lock:
            host = self._chosen(job)
            host.running += 1
            host.served += 1
        try:
            yield host
        except MigrationFailedError as exc:
            if exc.kind == WORKER_DIED:
                host.served = HOST_TARGETS  # no further target may go there
            raise
        finally:
            with self._lock:
                host.running -= 1
                if not host.running and host.served >= HOST_TARGETS:
                    self._let_go([host])

    def _chosen(self, job: MigrateJob) -> _Host:
        """The host with fewest targets; a new one while there are fewer than there may be."""
        able = [host for host in self._hosts if host.serves(job)]
        idle = next((host for host in able if not host.running), None)
        if idle is None and len(able) < self.hosts:
            self._let_go([host for host in self._hosts if not host.running and host.track.name == job.track.name])
            idle = self._new_host(job)
        return idle or min(able, key=lambda host: host.running)

    def _new_host(self, job: MigrateJob) -> _Host:
        ours = self._forked()
        try:
            _converse(ours, HostJob(job.track, job.digest), None)
        except BaseException:
            ours.close()
            raise
        self._hosts.append(_Host(ours, job.track, job.digest))
        return self._hosts[-1]

    def _let_go(self, hosts: list[_Host]) -> None:
        for host in hosts:
            if host in self._hosts:
                self._hosts.remove(host)
                host.socket.close()

    def _forked(self) -> socket.socket:
        """Our end of a new worker's socket. The caller holds the lock."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(self._warm(), [b"."], [theirs.fileno()])
            except OSError:  # the parent died: one new one
                self._forget_parent()
                socket.send_fds(self._warm(), [b"."], [theirs.fileno()])
        return ours

    def _warm(self) -> socket.socket:
        if self._control is None:
            ours, theirs = socket.socketpair()
            with theirs:
                self._parent = subprocess.Popen(
                    [sys.executable, "-c", f"from orchestrator.history import worker; worker.serve({theirs.fileno()})"],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=sys.__stderr__.fileno() if sys.__stderr__ is not None else subprocess.DEVNULL,
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                    start_new_session=True,
                )
            self._control = ours
        return self._control

    def _forget_parent(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._parent is not None:
            self._parent.kill()
            self._parent.wait()
        self._control = self._parent = None


def _converse(ours: socket.socket, job: Job, observer: Observer | None) -> Any:
    """Give the job, pass on what is said, and return its result, or raise its error."""
    with Connection(os.dup(ours.fileno())) as connection:
        try:
            connection.send(job)
            while True:
                message: Message = connection.recv()
                if message.kind == "done":
                    return message.value
                if message.kind == "failed":
                    raise unpacked(*message.value)
                assert observer is not None
                if message.kind == "backend":
                    observer.backend(message.value)
                else:
                    for revision, seconds in message.value:
                        observer.step(revision, seconds)
        except (EOFError, OSError):
            raise _died(job) from None


def _died(job: Job) -> OrchestratorError:
    what = "the worker process died without a word (killed, out of memory, crashed, or it called os._exit)"
    remedy = "look at the daemon's standard error and the kernel log for its end"
    if isinstance(job, MigrateJob | HostJob):
        return MigrationFailedError(what, kind=WORKER_DIED, remedy=remedy, retriable=True)
    return HistoryError(what, track=job.track.name, remedy=remedy)
