"""Run a project's code in a process that serves one job and ends.

For an env.py that reads `os.environ`: applications cache settings at import, so a process that had served one tenant
would send the next one's DDL to the first. Workers are forked from a *warm parent*, a single-threaded process that
has imported Alembic and SQLAlchemy but nothing of the application; forking the daemon itself, with its threads, could
deadlock. The parent is reached over a socket that only the daemon holds; it ends when that socket closes, and so
does a worker whose job socket closes, so that neither outlives a daemon killed with -9.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Literal

from orchestrator.errors import HistoryError, MigrationFailedError, OrchestratorError
from orchestrator.history import environment, failures, scripts
from orchestrator.history.environment import Job, Observer
from orchestrator.history.scripts import Snapshot
from orchestrator.registry.model import Track


@dataclass(frozen=True, slots=True)
class ReadJob:
    """Read a track's revision files under its environment variables."""

    track: Track
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Message:
    """What a worker says: `backend` (id), `step` (revision, seconds), `done` (result), `failed` (class, fields)."""

    kind: Literal["backend", "step", "done", "failed"]
    value: Any


class Handle:
    """Ends a worker from another thread: its socket closes, and so it dies."""

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


class Workers:
    """Starts workers; owns the warm parent, which starts at the first job. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parent: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def migrate(self, job: Job, observer: Observer, handle: Handle) -> None:
        """As `environment.run`, in a worker. Blocks until the worker has ended."""
        self._serve(job, observer, handle)

    def read(self, job: ReadJob) -> Snapshot:
        """As `scripts.read`, in a worker; raises HistoryError."""
        snapshot: Snapshot = self._serve(job, None, Handle())
        return snapshot

    def close(self) -> None:
        """End the warm parent. Running workers end as their sockets close."""
        with self._lock:
            if self._control is not None:
                self._control.close()
            if self._parent is not None:
                self._parent.wait(timeout=10)
            self._control = self._parent = None

    def _serve(self, job: Job | ReadJob, observer: Observer | None, handle: Handle) -> Any:
        with self._fork(handle) as connection:
            connection.send(job)
            while True:
                try:
                    message: Message = connection.recv()
                except (EOFError, OSError):
                    raise _died(job) from None
                if message.kind == "done":
                    return message.value
                if message.kind == "failed":
                    raise _revived(*message.value)
                assert observer is not None
                if message.kind == "backend":
                    observer.backend(message.value)
                else:
                    observer.step(*message.value)

    @contextlib.contextmanager
    def _fork(self, handle: Handle) -> Iterator[Connection]:
        ours, theirs = socket.socketpair()
        with theirs, self._lock:
            try:
                socket.send_fds(self._warm(), [b"."], [theirs.fileno()])
            except OSError:  # the parent died: one new one
                self._forget()
                socket.send_fds(self._warm(), [b"."], [theirs.fileno()])
        handle.attach(ours)
        connection = Connection(os.dup(ours.fileno()))
        with ours, connection:
            yield connection

    def _warm(self) -> socket.socket:
        if self._control is None:
            ours, theirs = socket.socketpair()
            code = f"from orchestrator.history import worker; worker.serve({theirs.fileno()})"
            self._parent = subprocess.Popen(
                [sys.executable, "-c", code],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                start_new_session=True,
            )
            theirs.close()
            self._control = ours
        return self._control

    def _forget(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._parent is not None:
            self._parent.kill()
            self._parent.wait()
        self._control = self._parent = None


def serve(control_fd: int) -> None:
    """The warm parent: fork a worker for each socket that arrives; end when the daemon's end closes."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # workers are not waited for: their sockets tell all
    with socket.socket(fileno=control_fd) as control:
        while True:
            data, received, _, _ = socket.recv_fds(control, 1, 1)
            if not data:
                return
            if os.fork() == 0:
                control.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _work(Connection(received[0]))
            os.close(received[0])


def _work(connection: Connection) -> None:
    """The worker: one job, then the end; `os._exit` so that nothing of the parent's runs at exit."""
    status = 1
    try:
        job = connection.recv()
        speaker = _Speaker(connection)
        threading.Thread(target=_end_with, args=(connection,), daemon=True).start()
        os.environ.update(job.environment)
        speaker.say("done", _perform(job, speaker))
        status = 0
    except OrchestratorError as exc:
        speaker.say("failed", _pickled(exc))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _perform(job: Job | ReadJob, speaker: _Speaker) -> Snapshot | None:
    try:
        snapshot, directory = scripts.read(job.track)
    except HistoryError as exc:
        exc.message = failures.redact(exc.message, job.secrets)
        if isinstance(job, ReadJob):
            raise
        raise MigrationFailedError(exc.message, kind="history", remedy=exc.remedy) from exc
    if isinstance(job, ReadJob):
        return snapshot
    observer = Observer(
        backend=lambda backend: speaker.say("backend", backend),
        step=lambda revision, seconds: speaker.say("step", (revision, seconds)),
    )
    environment.run(job, directory, observer)
    return None


class _Speaker:
    """Serialises what the migrating thread says on the job's socket."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._lock = connection, threading.Lock()

    def say(self, kind: Literal["backend", "step", "done", "failed"], value: Any) -> None:
        with self._lock:
            self._connection.send(Message(kind, value))


def _end_with(connection: Connection) -> None:
    """The daemon never writes after the job; so readable means gone."""
    with contextlib.suppress(Exception):
        connection.poll(None)
    os._exit(3)


def _pickled(exc: OrchestratorError) -> tuple[type[OrchestratorError], dict[str, Any]]:
    return type(exc), {**vars(exc), "args": exc.args}


def _revived(cls: type[OrchestratorError], fields: dict[str, Any]) -> OrchestratorError:
    """An error from a worker; made without its constructor, whose signature differs from class to class."""
    exc = cls.__new__(cls)
    exc.args = fields.pop("args")
    vars(exc).update(fields)
    return exc


def _died(job: Job | ReadJob) -> OrchestratorError:
    what = "the worker process died without a word (killed, out of memory, or it called os._exit)"
    remedy = "look at the daemon's standard error and the kernel log for its end"
    if isinstance(job, ReadJob):
        return HistoryError(what, track=job.track.name, remedy=remedy)
    return MigrationFailedError(what, kind="worker_died", remedy=remedy)
