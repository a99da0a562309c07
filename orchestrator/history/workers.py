"""The daemon's side of its worker processes: start them, give them jobs, hear what they say."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ClassVar

from orchestrator.errors import HistoryError, MigrationFailedError, OrchestratorError
from orchestrator.history.jobs import (
    LONGEST_SECONDS,
    CompileJob,
    HostJob,
    Job,
    Message,
    MigrateJob,
    ReadJob,
    packed,
    unpacked,
)
from orchestrator.history.progress import Observer
from orchestrator.history.revisions import Snapshot
from orchestrator.plan.compiled import Rendering
from orchestrator.registry.model import Track

# What a project's code leaves behind in memory goes with its process.
HOST_TARGETS = 500
WORKER_DIED = "worker_died"
# Revision files are executed to be read, and may do anything: for longer than this, nobody waits.
READ_SECONDS = LONGEST_SECONDS
# Rendering a plan to SQL runs the bodies of its revisions, without a database.
COMPILE_SECONDS = LONGEST_SECONDS

_OUR_ROOT = str(Path(__file__).parents[2])


class Handle:
    """Hangs up on one job from another thread. A worker that serves only this job ends with it."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._ended = False

    @property
    def ended(self) -> bool:
        return self._ended

    def attach(self, connection: socket.socket) -> None:
        self._socket = connection
        if self._ended:
            self.end()

    def end(self) -> None:
        """May be called at any time, also before the worker started and after it ended."""
        self._ended = True
        if self._socket is not None:
            _hang_up(self._socket)


@dataclass(slots=True, eq=False)
class _Host:
    """A process that migrates in threads. It is retired when it has served enough, or its files are of yesterday.

    It takes targets once `loaded` is set, unless `failure` says why it never will.
    """

    socket: socket.socket
    track: Track
    digest: str
    modules: tuple[str, ...]
    running: int = 0
    served: int = 0
    loaded: threading.Event = field(default_factory=threading.Event)
    failure: OrchestratorError | None = None

    def serves(self, job: MigrateJob) -> bool:
        return self.track == job.track and self.digest == job.digest and self.served < HOST_TARGETS


@dataclass(slots=True)
class Workers:
    """Starts and feeds worker processes. Its methods block; threads may share it.

    `hosts` is how many processes share the targets of one history.
    """

    serve: ClassVar[str] = "from orchestrator.history import worker; worker.serve({})"
    hosts: int = field(default_factory=lambda: os.cpu_count() or 1)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _parent: subprocess.Popen[bytes] | None = None
    _control: socket.socket | None = None
    _hosts: list[_Host] = field(default_factory=list)
    _reading: list[socket.socket] = field(default_factory=list)

    def start(self) -> None:
        """Start the warm parent, which gets ready while others work."""
        with self._lock:
            self._warm()

    def read(self, job: ReadJob) -> Snapshot:
        """As `scripts.read`, in a worker of its own, for at most `READ_SECONDS`; raises HistoryError."""
        snapshot: Snapshot = self._ask(job, READ_SECONDS)
        return snapshot

    def compile(self, job: CompileJob) -> Rendering:
        """As `compile.render`, in a worker of its own, for at most `COMPILE_SECONDS`; raises TargetError."""
        rendering: Rendering = self._ask(job, COMPILE_SECONDS)
        return rendering

    def _ask(self, job: ReadJob | CompileJob, seconds: float) -> Any:
        with self._lock:
            ours = self._forked(job)
            self._reading.append(ours)
        try:
            return _converse(ours, replace(job, seconds=seconds), None, seconds)
        finally:
            with self._lock, ours:
                self._reading.remove(ours)

    def migrate_alone(self, job: MigrateJob, observer: Observer, handle: Handle) -> None:
        """As `environment.run`, in a worker that serves this job and ends."""
        with self._lock:
            ours = self._forked(job)
        with ours:
            handle.attach(ours)
            _converse(ours, job, observer)

    def migrate(self, job: MigrateJob, observer: Observer, handle: Handle) -> None:
        """As `environment.run`, in a thread of a host that has read the job's history.

        When the handle ends it, that thread may go on for a while: its host takes no further target, and ends after
        those that it has.
        """
        with self._host(job) as host:
            _await_loaded(host, job, handle)
            ours, theirs = _socketpair(job)
            with ours, theirs:
                handle.attach(ours)
                try:
                    socket.send_fds(host.socket, [b"."], [theirs.fileno()])
                except OSError:
                    raise _died(job) from None
                theirs.close()
                _converse(ours, job, observer)

    def retire(self, track: str | None = None) -> None:
        """End the hosts (of one track) that have no target: with them goes what the project's code kept open."""
        with self._lock:
            self._let_go([host for host in self._hosts if not host.running and track in (None, host.track.name)])

    def close(self) -> None:
        """End all hosts, readings and the warm parent. Migrations of their own end as their sockets close."""
        with self._lock:
            self._let_go(list(self._hosts))
            for reading in self._reading:
                _hang_up(reading)
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
        """A host that begins to load the history, in a thread of its own: nobody else has to wait for that."""
        host = _Host(self._forked(job), job.track, job.digest, job.modules)
        self._hosts.append(host)
        threading.Thread(target=self._load, args=(host,), daemon=True).start()
        return host

    def _load(self, host: _Host) -> None:
        try:
            job = HostJob(host.track, host.digest, host.modules, READ_SECONDS)
            _converse(host.socket, job, None, READ_SECONDS)
        except OrchestratorError as exc:
            host.failure = exc
            with self._lock:
                self._let_go([host])
        finally:
            host.loaded.set()

    def _let_go(self, hosts: list[_Host]) -> None:
        for host in hosts:
            if host in self._hosts:
                self._hosts.remove(host)
                _hang_up(host.socket)  # also on the thread that may still load it
                host.socket.close()

    def _forked(self, job: Job) -> socket.socket:
        """Our end of a new worker's socket. The caller holds the lock."""
        ours, theirs = _socketpair(job)
        with theirs:
            try:
                socket.send_fds(self._warm(), [b"."], [theirs.fileno()])
            except OSError:  # the parent died: one new one
                self._forget_parent()
                try:
                    socket.send_fds(self._warm(), [b"."], [theirs.fileno()])
                except OSError as exc:
                    ours.close()
                    raise _not_started(job, exc) from exc
        return ours

    def _warm(self) -> socket.socket:
        if self._control is None:
            ours, theirs = socket.socketpair()
            with theirs:
                self._parent = subprocess.Popen(
                    [sys.executable, "-P", "-c", self.serve.format(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=sys.__stderr__.fileno() if sys.__stderr__ is not None else subprocess.DEVNULL,
                    # Sets of texts have one order, on every machine: what is compiled twice must come out alike.
                    env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join(import_path())},
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


def import_path() -> list[str]:
    """`sys.path` without the working directory that `python -m` puts first: its `alembic` may be anything."""
    path = [entry for entry in sys.path if entry]
    first_is_implied = not sys.flags.safe_path and path[:1] == [os.getcwd()] and path[0] != _OUR_ROOT
    return path[1:] if first_is_implied else path


def _hang_up(ours: socket.socket) -> None:
    """End the conversation on both sides, whoever reads from a duplicate of this socket."""
    with contextlib.suppress(OSError):
        ours.shutdown(socket.SHUT_RDWR)


def _socketpair(job: Job) -> tuple[socket.socket, socket.socket]:
    try:
        return socket.socketpair()
    except OSError as exc:
        raise _not_started(job, exc) from exc


def _await_loaded(host: _Host, job: MigrateJob, handle: Handle) -> None:
    while not host.loaded.wait(0.1):
        if handle.ended:
            raise MigrationFailedError("the migration was ended before it began", kind="ended", retriable=True)
    if host.failure is not None:
        raise unpacked(*packed(host.failure))  # one for each: they are completed by those who catch them


def _converse(ours: socket.socket, job: Job, observer: Observer | None, seconds: float | None = None) -> Any:
    """Give the job, pass on what is said, and return its result, or raise its error; within `seconds`."""
    deadline = None if seconds is None else time.monotonic() + seconds
    with _duplicate(ours, job) as connection:
        try:
            connection.send(job)
            while True:
                if deadline is not None and not connection.poll(max(0.0, deadline - time.monotonic())):
                    raise _too_slow(job, seconds)
                message: Message = connection.recv()
                if message.kind == "done":
                    return message.value
                if message.kind == "failed":
                    raise unpacked(*message.value)
                assert observer is not None
                if message.kind == "backend":
                    observer.backend(message.value)
                elif message.kind == "observed":
                    observer.observed(message.value)
                elif message.kind == "traced":
                    observer.traced(message.value)
                elif message.kind == "lasting":
                    observer.lasting(message.value)
                    connection.send(None)
                elif message.kind == "batch":
                    assert observer.batch is not None
                    connection.send(observer.batch(message.value))
                else:
                    for revision, taken in message.value:
                        observer.step(revision, taken)
        except (EOFError, OSError):
            raise _died(job) from None


def _duplicate(ours: socket.socket, job: Job) -> Connection:
    try:
        return Connection(os.dup(ours.fileno()))
    except OSError as exc:
        raise _not_started(job, exc) from exc


def _too_slow(job: Job, seconds: float | None) -> OrchestratorError:
    doing = "rendering the revisions to SQL" if isinstance(job, CompileJob) else "reading the revision files"
    what = f"{doing} took longer than {seconds:g} s and was given up"
    remedy = "look for one that waits, computes or connects while it is imported: that belongs into upgrade()"
    if isinstance(job, ReadJob):
        folder = str(job.track.config or job.track.script_location)
        return HistoryError(what, track=job.track.name, file=folder, remedy=remedy)
    return MigrationFailedError(what, kind="history", remedy=remedy)


def _not_started(job: Job, exc: OSError) -> OrchestratorError:
    what = f"a worker process could not be started: {exc}"
    remedy = "look at the limits for open files, processes and memory of the daemon"
    if isinstance(job, ReadJob):
        return HistoryError(what, track=job.track.name, remedy=remedy)
    return MigrationFailedError(what, kind=WORKER_DIED, remedy=remedy, retriable=True)


def _died(job: Job) -> OrchestratorError:
    what = "the worker process died without a word (killed, out of memory, crashed, or it called os._exit)"
    remedy = "look at the daemon's standard error and the kernel log for its end"
    if not isinstance(job, ReadJob):
        return MigrationFailedError(what, kind=WORKER_DIED, remedy=remedy, retriable=True)
    return HistoryError(what, track=job.track.name, remedy=remedy)
